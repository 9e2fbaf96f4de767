"""Figures follow from trials: what is compared with what, and what is unknown."""

from __future__ import annotations

import math

import pytest

from harness.bench import figures
from harness.bench.model import Measured, Trial
from tests.harness.bench.made import bench, measured, trial


def test_a_row_is_a_monitor_against_none_of_the_same_round() -> None:
    """In instructions, two ns each, for one operation; the monitor's own is what none does not have."""
    none, row = figures.rows(
        bench(trial(1, "none", open=measured(1000, 100)), trial(1, "x", open=measured(3000, 700, seen=9))),
        "open",
    )
    assert (none.program, none.own, none.times_program, none.lost) == (50, 0, 1, None)
    assert (row.program, row.own, row.total) == (150, 30, 185)
    assert (row.times_program, row.times_wall) == (3, 3)
    assert row.times_total == pytest.approx(3700 / 1100)
    assert (row.generated, row.lost) == (10, 1)


def test_time_is_in_nanoseconds() -> None:
    _, row = figures.rows(
        bench(trial(1, "none", open=measured(1000)), trial(1, "x", open=measured(3000)), clock="time"), "open"
    )
    assert row.program == 300


def test_spread_and_margin_of_rounds() -> None:
    """The spread is a range; the margin is Student's, of the ratios of each round."""
    rounds = [trial(number, "none", open=measured(1000)) for number in (1, 2, 3)]
    rounds += [trial(number, "x", open=measured(cpu)) for number, cpu in ((1, 1900), (2, 2000), (3, 2100))]
    row = figures.rows(bench(*rounds), "open")[1]
    assert row.spread == pytest.approx(10)
    assert row.margin == pytest.approx(4.30 * 0.1 / math.sqrt(3))


def test_one_round_has_no_margin() -> None:
    row = figures.rows(bench(trial(1, "none", open=measured(1)), trial(1, "x", open=measured(2))), "open")[1]
    assert math.isnan(row.margin)


def test_more_lines_than_events_are_no_negative_loss() -> None:
    """And do not hide the loss of another round."""
    rounds = [trial(number, "none", open=measured(1000)) for number in (1, 2)]
    rounds += [trial(number, "x", open=measured(1000, seen=seen)) for number, seen in ((1, 8), (2, 12))]
    assert figures.rows(bench(*rounds), "open")[1].lost == 2


def test_what_cannot_run_has_a_row_with_the_reason() -> None:
    """A monitor, or one workload beside it; and a monitor that was not measured."""
    found = bench(
        trial(1, "none", open=measured(1)),
        Trial(round=1, monitor="x", unable="no tracefs"),
        trial(1, "y", open=Measured(unable="no make")),
        trial(1, "z"),
    )
    assert [row.unable for row in figures.rows(found, "open")] == [
        "",
        "no tracefs",
        "no make",
        "not measured",
    ]
    assert [row.unable for row in figures.upkeep(found)] == ["no tracefs", "", ""]


def test_latency_is_a_median_and_a_percentile_and_a_missing_line_is_infinite() -> None:
    none = trial(1, "none", open=measured(1))
    lines = trial(1, "x", open=measured(1, latency_ns=(3_000_000, 1_000_000, 2_000_000, -1)))
    (row,) = figures.delays(bench(none, lines), "open")
    assert (row.median, row.p99, row.lost, row.generated) == (3.0, math.inf, 1, 4)


def test_upkeep_is_in_units_and_mebibytes() -> None:
    (row,) = figures.upkeep(bench(trial(1, "none", open=measured(1)), trial(1, "x", open=measured(1))))
    assert (row.monitor, row.start, row.memory, row.kernel) == ("x", 2e9, 1, 2)
