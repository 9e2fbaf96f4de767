"""Hook drift: the hooks in use on each kernel, those that were tried and not used, and the changes."""

from __future__ import annotations

from harness.report import html
from harness.report.html import drift
from harness.report.shared import hooks
from harness.results.model import Hook
from tests.harness.report.made_up import a_cell, a_run
from tests.harness.report.made_up import hooks as made_hooks


def row(event: str, kind: str, point: str = "f", state: str = "attached", **more: str) -> Hook:
    return Hook.model_validate({"event": event, "type": kind, "point": point, "state": state, **more})


def test_hooks_of_one_point_are_one_row() -> None:
    """A point has a line for each phase, in the order in which they were chosen."""
    chosen = (row("open.enter", "fentry"), row("open.resolve", "lsm"), row("unlink.enter", "fentry"))
    (table,) = drift.tables(a_run(a_cell("6.1", hooks=chosen)))
    assert [found.point for found in table.points] == ["open", "unlink"]
    assert [step.phase for step in table.points[0].kernels[0].steps] == ["enter", "resolve"]


def test_a_hook_that_differs_from_the_kernel_to_the_left_has_moved() -> None:
    """A kernel without a hook there is passed over; nothing moves on the first kernel."""
    kernels = (
        a_cell("5.10", hooks=(row("open.enter", "fentry", "do_filp_open"),)),
        a_cell("6.1", hooks=(row("open.enter", "fentry", state="absent"),)),
        a_cell("7.3", hooks=(row("open.enter", "kprobe", "do_file_open"),)),
    )
    (found,) = drift.tables(a_run(*kernels))[0].points
    assert [[step.moved for step in kernel.steps] for kernel in found.kernels] == [[False], [], [True]]
    assert found.moves == 1


def test_a_hook_that_was_tried_and_not_used_is_no_hook_in_use() -> None:
    tried = row("open.resolve", "lsm", "", "silent")
    used = row("open.resolve", "fentry", "security_file_open")
    (found,) = drift.tables(a_run(a_cell("5.10", hooks=(tried, used))))[0].points
    assert found.kernels[0].tried == (tried,)
    assert hooks.hooks_in_use((tried, used)) == (("fentry", "security_file_open"),)


def test_event_types_that_some_kernel_sees_in_part() -> None:
    kernels = (
        a_cell("5.10", coverage={"open": "full", "mount": "full"}),
        a_cell("6.1", coverage={"open": "full", "mount": "degraded"}),
    )
    (partly,) = drift.tables(a_run(*kernels))[0].partly
    assert (partly.name, partly.states) == ("mount", ("full", "degraded"))


def test_events_of_a_cell_are_types_and_not_hooks() -> None:
    """A filter by event offers `open`, neither `open.resolve` nor the points that several types share."""
    chosen = (row("open.resolve", "lsm"), row("parent.given", "kprobe"), row("mount.enter", "fentry"))
    cell = a_cell("6.1", hooks=chosen, coverage={"open": "full", "mount": "none"})
    assert hooks.events(cell) == ["open"]


def test_a_prediction_may_name_the_state_or_the_behaviour() -> None:
    """A hook that was predicted to fire and is attached is no surprise; a silent one is."""
    assert not hooks.surprising(row("open.enter", "fentry", predicted="fires"))
    assert not hooks.surprising(row("open.enter", "fentry"))
    assert hooks.surprising(row("open.enter", "lsm", state="silent", predicted="fires"))
    assert hooks.surprising(row("open.enter", "lsm", predicted="silent"))


def test_each_limit_is_one_line() -> None:
    """Event types with the same limit share a line."""
    limits = {"open": "as given", "link": "as given", "close": "not by dup2"}
    assert hooks.limits(limits) == [("as given", ["open", "link"]), ("not by dup2", ["close"])]
    assert "not by dup2" in html.render(a_run(a_cell("6.1", limits=limits)))


def test_predictions_are_counted() -> None:
    """A hook without a prediction is not counted."""
    chosen = (
        row("open.enter", "fentry", predicted="fires"),
        row("open.resolve", "lsm", state="silent", predicted="fires"),
        row("open.exit", "fexit"),
    )
    found = a_run(a_cell("5.10", hooks=chosen))
    (table,) = drift.tables(found)
    assert (table.as_predicted, table.surprises) == (1, 1)
    page = html.render(found)
    assert "1 hook as predicted" in page
    assert "1 not as predicted" in page
    assert "predicted fires" in page


def test_hooks_by_type() -> None:
    assert hooks.used(a_cell("5.10", hooks=made_hooks("5.10"))) == [("fentry", 6), ("kprobe", 1)]
