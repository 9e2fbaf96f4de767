"""From a series to packages, with a fake apt."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.kernels import KernelRequest, ResolvedKernel, available, catalogue, resolve
from harness.kernels.resolver import older
from tests.harness.kernels.conftest import FakeApt


def test_the_newest_of_the_first_suite_that_has_the_series(fake_apt: FakeApt) -> None:
    found = resolve(KernelRequest("old", "5.10"), repositories=fake_apt.repositories())
    assert (found.name, found.release, found.suite) == ("old", "5.10.0-46-cloud-amd64", "bullseye-security")
    assert [call.partition(" ")[2] for call in fake_apt.calls] == ["update --error-on=any"]


def test_a_second_run_does_not_touch_the_network(fake_apt: FakeApt) -> None:
    for _ in range(2):
        resolve(KernelRequest("old", "5.10"), repositories=fake_apt.repositories())
    assert len(fake_apt.calls) == 1


def test_an_unknown_series_is_searched_in_every_suite(
    fake_apt: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "HOMES", {})
    found = resolve(KernelRequest("new", "7.3", "rt"), repositories=fake_apt.repositories())
    assert found.suite == "trixie-backports"


def test_the_next_older_kernel_of_a_suite(fake_apt: FakeApt) -> None:
    """For a kernel that the index names and whose file the archive lost. The oldest one has no successor."""
    request, repositories = KernelRequest("old", "5.10"), fake_apt.repositories()
    newest = resolve(request, repositories=repositories)
    second = older(newest, request, repositories=repositories)
    assert second
    assert (newest.release, second.release) == ("5.10.0-46-cloud-amd64", "5.10.0-45-cloud-amd64")
    assert older(second, request, repositories=repositories) is None


def test_a_result_is_plain_data(fake_apt: FakeApt) -> None:
    found = resolve(KernelRequest("new", "7.3"), repositories=fake_apt.repositories())
    assert ResolvedKernel.from_plain(found.to_plain()) == found


def test_the_error_of_a_missing_series_names_the_available_ones(fake_apt: FakeApt) -> None:
    with pytest.raises(ConfigError, match=r"no complete '6.17'") as caught:
        resolve(KernelRequest("typo", "6.17"), repositories=fake_apt.repositories())
    assert caught.value.exit_code == 2
    assert "did you mean '6.1' or '6.18' or '6.16'?" in caught.value.hint
    assert "available: 5.10, 6.1, 6.16, 6.18, 7.3" in caught.value.hint


def test_the_error_of_a_series_without_modules_says_so(fake_apt: FakeApt) -> None:
    with pytest.raises(
        ConfigError, match=r"6\.19\.14\+deb13-cloud-amd64 lacks linux-base-.*, linux-modules-"
    ):
        resolve(KernelRequest("gone", "6.19"), repositories=fake_apt.repositories())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (KernelRequest("x", "6.1", flavour="clowd"), "unknown flavour 'clowd'"),
        (KernelRequest("x", "6.1", arch="amd46"), "unknown architecture 'amd46'"),
    ],
)
def test_unknown_names_are_refused_before_the_network_is_used(
    fake_apt: FakeApt, request_: KernelRequest, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        resolve(request_, repositories=fake_apt.repositories())
    assert "did you mean" in caught.value.hint
    assert fake_apt.calls == []


def test_available_kernels_are_listed_oldest_first(fake_apt: FakeApt) -> None:
    found = available(repositories=fake_apt.repositories())
    assert [kernel.series for kernel in found] == ["5.10", "6.1", "6.16", "6.18", "7.3"]
