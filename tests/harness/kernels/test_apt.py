"""The private apt: which configuration of the host it reads, when it uses the network, and its errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.host.progress import Event
from tests.harness.kernels.conftest import FakeApt


def test_only_settings_for_reaching_a_mirror_are_taken_from_the_host(fake_apt: FakeApt) -> None:
    apt = fake_apt.repositories().apt("arm64", "trixie", "trixie-security")
    apt.refresh()
    config = (apt.home / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in config
    assert 'APT::Architecture "arm64";' in config
    assert "Post-Invoke" not in config
    assert "MetaKey" not in config
    assert (apt.home / "etc/sources.list").read_text().splitlines() == [
        "deb [signed-by=/keyring.gpg] http://main.example trixie main",
        "deb [signed-by=/keyring.gpg] http://security.example trixie-security main",
    ]


def _age(home: Path, seconds: float) -> None:
    stamp = home / "refreshed"
    os.utime(stamp, (stamp.stat().st_mtime - seconds,) * 2)


def test_an_old_index_is_refreshed(fake_apt: FakeApt) -> None:
    apt = fake_apt.repositories(max_age_s=100).apt("amd64", "trixie")
    apt.refresh()
    apt.refresh()
    assert len(fake_apt.calls) == 1
    _age(apt.home, 101)
    apt.refresh()
    assert len(fake_apt.calls) == 2


def test_without_a_network_an_old_index_is_used_and_reported(fake_apt: FakeApt) -> None:
    apt = fake_apt.repositories(max_age_s=100).apt("amd64", "trixie")
    apt.refresh()
    _age(apt.home, 7200)
    fake_apt.fail("E: Failed to fetch http://main.example/InRelease  Could not resolve 'main.example'\n")
    lines: list[Event] = []
    apt.refresh(lines.append)
    assert "using that of 2 hours ago" in str(lines[-1])
    assert "Could not resolve" in str(lines[-1])


def test_without_a_network_and_an_index_it_is_an_error(fake_apt: FakeApt) -> None:
    fake_apt.fail("E: Could not resolve 'main.example'\n")
    with pytest.raises(
        InfrastructureError, match=r"cannot fetch the package index of trixie: .*Could not resolve"
    ) as caught:
        fake_apt.repositories().apt("amd64", "trixie").refresh()
    assert "--mirror" in caught.value.hint


def test_an_index_without_a_valid_signature_is_never_used(fake_apt: FakeApt) -> None:
    apt = fake_apt.repositories(max_age_s=100).apt("amd64", "forky")
    apt.refresh()
    _age(apt.home, 101)
    fake_apt.fail(
        "W: GPG error: NO_PUBKEY 0123\nE: The repository 'http://main.example forky' is not signed.\n"
    )
    with pytest.raises(InfrastructureError, match="is not signed") as caught:
        apt.refresh()
    assert "upgrade the package debian-archive-keyring" in caught.value.hint


def test_a_package_that_left_the_archive_is_named_and_the_index_dropped(
    fake_apt: FakeApt, tmp_path: Path
) -> None:
    apt = fake_apt.repositories().apt("arm64", "bullseye-security")
    apt.refresh()
    fake_apt.fail(
        "E: Failed to fetch http://security.example/pool/linux_5.10_arm64.deb  404  Not Found [IP: ::1]\n"
    )
    with pytest.raises(InfrastructureError, match=r"linux_5.10_arm64.deb: .* missing in the archive \(404\)"):
        apt.download([("linux", "5.10")], tmp_path)
    (tmp_path / "stderr").unlink()
    apt.refresh()
    assert [call.split()[1] for call in fake_apt.calls] == ["update", "download", "update"]


def test_any_other_failure_has_apts_message_and_a_line_to_paste(fake_apt: FakeApt, tmp_path: Path) -> None:
    apt = fake_apt.repositories().apt("amd64", "sid")
    apt.refresh()
    fake_apt.fail("W: odd\nE: Version '1' for 'linux' was not found\n")
    with pytest.raises(InfrastructureError, match="apt-get ended with status 100: E: Version '1'") as caught:
        apt.download([("linux", "1")], tmp_path)
    assert f"APT_CONFIG={apt.home}/apt.conf apt-get download linux=1" in caught.value.hint
