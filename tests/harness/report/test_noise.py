"""Comparing times of two runs: which differences are more than noise."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.compare import noise
from harness.report.compare.comparison import compare
from harness.report.compare.noise import Pair
from harness.results.model import CellResult, Phases, Results
from tests.harness.report.made_up import a_cell, a_run

KERNELS = ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3")


def timed_tests(*seconds: tuple[float, float]) -> list[Pair]:
    return [Pair("test", f"cell-{n}", "truth.open", old, new) for n, (old, new) in enumerate(seconds)]


def timed_boots(*seconds: float, **more: Any) -> Results:
    return a_run(
        *(
            a_cell(kernel, tests=(), phases=Phases(boot_s=boot_s))
            for kernel, boot_s in zip(KERNELS, seconds, strict=False)
        ),
        **more,
    )


@pytest.mark.parametrize(
    ("old_s", "new_s", "has_moved"),
    [
        (4.0, 4.9, False),  # neither by half
        (0.2, 0.9, False),  # nor by a second, though fourfold
        (4.0, 6.5, True),
        (6.5, 4.0, True),  # faster is reported too
    ],
)
def test_ratio_and_floor(old_s: float, new_s: float, has_moved: bool) -> None:
    assert bool(noise.moved(timed_tests((old_s, new_s)), 1.0)) is has_moved


def test_where_times_scatter_more_is_needed() -> None:
    """If times vary by a third, a factor of two is noise and a factor of nine is not."""
    scattered = [(9.0, 12.0), (9.0, 6.5), (9.0, 11.5), (9.0, 7.0), (9.0, 12.5), (9.0, 6.8)]
    assert not noise.moved(timed_tests(*scattered, (9.0, 18.0)), 1.0)
    assert [pair.new_s for pair in noise.moved(timed_tests(*scattered, (9.0, 81.0)), 1.0)] == [81.0]


def test_a_slow_host_is_reported_once_and_not_for_each_cell() -> None:
    found = compare(timed_boots(*[6.0] * 8), timed_boots(*[12.0] * 8))
    assert found.times == ()
    assert found.host_factor == pytest.approx(2.0)


def test_one_slow_boot_stands_out() -> None:
    found = compare(
        timed_boots(*[6.0, 6.1, 5.9, 6.0, 6.2, 6.0]), timed_boots(*[6.0, 6.1, 5.9, 6.0, 6.2, 19.0])
    )
    assert [pair.cell for pair in found.times] == ["6.18-auto"]


def test_an_agent_that_is_slower_everywhere_stands_out_everywhere() -> None:
    """The host's speed is measured by boots, to which the agent does not contribute."""
    slower = a_run(*(_loaded(kernel, 9.0) for kernel in KERNELS))
    found = compare(a_run(*(_loaded(kernel, 3.0) for kernel in KERNELS)), slower)
    assert [pair.kind for pair in found.times] == ["load"] * 8


def test_a_warm_start_is_not_compared_with_a_cold_one() -> None:
    warm = a_cell("6.1", phases=Phases(boot_s=1.2, start="warm"))
    assert compare(a_run(a_cell("6.1", phases=Phases(boot_s=6.0))), a_run(warm)).times == ()


def test_times_under_another_accelerator_are_not_compared() -> None:
    found = compare(timed_boots(6.0), timed_boots(60.0, accelerator="kvm"))
    assert (found.times, found.host_factor) == ((), None)


def _loaded(kernel: str, load_s: float) -> CellResult:
    return a_cell(kernel, tests=(), phases=Phases(boot_s=6.0, load_s=load_s))


def test_times_whose_quotient_no_float_can_hold_are_compared() -> None:
    assert [pair.new_s for pair in noise.moved([Pair("test", "c", "t", 1e300, 1e-300)], 1.0)] == [1e-300]
