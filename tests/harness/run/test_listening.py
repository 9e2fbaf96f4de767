"""Each line that the kernel printed since the first load on a machine belongs to one cell or test."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.selftest.protocol import Ran
from harness.errors import InfrastructureError
from harness.plan.cells import Cell
from harness.results.model import CellReport
from harness.results.verdict import Verdict
from harness.run.cell import CellRun
from harness.run.fake import SPLAT, FakeBench, FakeMachine
from harness.run.judge import Allowed
from harness.run.slot import Slot
from harness.watch.slot import StandingSlot
from tests.harness.run.test_cell import _live, _plan


def _slot(cell: Cell, folder: Path, script: dict[str, str] | None = None) -> Slot:
    bench = FakeBench(script)

    def make(wanted: Cell) -> FakeMachine:
        machine = bench.machine(wanted, bench.prepare(_plan(cell), "tcg", print), folder)
        assert isinstance(machine, FakeMachine)
        return machine

    return Slot(make, pause=lambda _seconds: None)


def _print(slot: Slot, *lines: str) -> None:
    assert isinstance(slot.machine, FakeMachine)
    slot.machine._printed += lines


def _played(cell: Cell, slot: Slot, folder: Path) -> CellReport:
    run = CellRun(cell, slot, folder)
    run.open()
    for name in cell.tests:
        run.test(name)
    return run.close()


def test_a_complaint_after_the_end_of_a_cell_counts_for_the_next(cell: Cell, folder: Path) -> None:
    """The kernel may complain when it frees what the agent of the first cell had loaded."""
    slot = _slot(cell, folder)
    assert _played(cell, slot, folder).cause is None
    _print(slot, *SPLAT)
    later = _played(cell, slot, folder)
    assert later.cause
    assert (later.cause.verdict, later.cause.fingerprint) == ("SPLAT", "warning: perf_thing")


def test_what_was_printed_before_the_first_load_is_not_the_agents(cell: Cell, folder: Path) -> None:
    """Also with a machine that was booted after another one had printed more."""
    slot = _slot(cell, folder)
    slot.enter(cell)
    _print(slot, *SPLAT)
    assert _played(cell, slot, folder).cause is None
    _print(slot, "[    9.800000] a long line" * 100)
    slot.discard()
    slot.enter(cell)
    _print(slot, *SPLAT)
    assert _played(cell, slot, folder).cause is None


def test_an_agent_that_is_loaded_again_hides_no_complaint(cell: Cell, folder: Path) -> None:
    """The complaint comes between the end of the first agent and the load of the second."""
    slot = _slot(cell, folder, {"*::truth.unlink": "broken"})
    run = CellRun(cell, slot, folder)
    run.open()
    run.test("truth.unlink")
    _print(slot, *SPLAT)
    run.test("truth.open")
    assert [splat.kind for splat in run.close().splats] == ["warning"]


def test_the_end_of_a_cell_is_read_after_its_evidence(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may be destroyed right after the cell, so nothing takes time after the last look."""
    monkeypatch.setattr(FakeMachine, "collect", lambda self, _folder: self._printed.extend(SPLAT))
    _, report, _ = _live(cell, folder, {})
    assert report.cause
    assert report.cause.verdict is Verdict.SPLAT


@pytest.mark.parametrize(
    ("script", "to_its_end"),
    [
        ({}, True),
        ({"*::quit": "fail"}, True),
        ({"*::load": "refuse,silent"}, True),
        ({"*::quit": "qemu-dies"}, False),
        ({"*::end": "freeze"}, False),
    ],
)
def test_the_console_of_a_living_guest_is_read_to_its_end(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch, script: dict[str, str], to_its_end: bool
) -> None:
    """A guest that is dead or hangs cannot write the mark at the end."""
    asked: list[float] = []

    def console(_machine: FakeMachine, deadline_s: float = 0.0) -> bytes:
        asked.append(deadline_s)
        return b""

    monkeypatch.setattr(FakeMachine, "console", console)
    _live(cell.model_copy(update={"hookset": "lsm"}), folder, script)
    assert (asked[-1] > 0) is to_its_end


def test_a_console_that_cannot_be_read_to_its_end_fails_the_cell(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that are there are searched."""

    def console(_machine: FakeMachine, deadline_s: float = 0.0) -> bytes:
        if deadline_s:
            raise InfrastructureError("it shows no mark")
        return "\n".join(["", *SPLAT]).encode() if lines.pop(0) else b""

    lines = [False, True]  # at the load and at the end
    monkeypatch.setattr(FakeMachine, "console", console)
    _, report, _ = _live(cell, folder, {})
    assert report.cause
    assert report.cause.verdict is Verdict.FAIL
    assert report.cause.reason.endswith("; reading the console to its end failed: it shows no mark")
    assert [splat.kind for splat in report.splats] == ["warning"]


def _complains_when_it_is_lost(machine: FakeMachine, folder: Path) -> None:
    if folder.name.startswith("attempt-"):
        machine._printed.extend(SPLAT)


@pytest.mark.parametrize("act", ["lost,pass", "qemu-dies,pass", "lost"])
def test_a_complaint_on_a_lost_machine_counts(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """An agent that leaks memory can get sshd killed; the next machine does not make that a PASS."""
    monkeypatch.setattr(FakeMachine, "collect", _complains_when_it_is_lost)
    results, report, _ = _live(cell, folder, {"*::truth.unlink": act})
    assert results[1].verdict is (Verdict.PASS if act.endswith("pass") else Verdict.INFRA)
    assert report.cause
    assert report.cause.verdict is Verdict.SPLAT
    assert report.cause.reason.startswith("[9.668136] WARNING: ")


def test_an_allowed_complaint_on_a_lost_machine_is_only_reported(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeMachine, "collect", _complains_when_it_is_lost)
    slot = _slot(cell, folder, {"*::truth.unlink": "lost,pass"})

    def allow(_report: CellReport) -> Allowed:
        return lambda _splat: "known"

    run = CellRun(cell, slot, folder, allow)
    run.open()
    run.test("truth.unlink")
    report = run.close()
    assert report.cause is None
    assert [splat.allowed for splat in report.splats] == ["known"]


def test_a_complaint_of_an_interrupted_cell_counts(cell: Cell, folder: Path) -> None:
    slot = _slot(cell, folder)
    run = CellRun(cell, slot, folder)
    run.open()
    _print(slot, *SPLAT)
    report = run.abandon()
    assert not report.closed
    assert report.cause
    assert report.cause.verdict is Verdict.SPLAT


@pytest.mark.parametrize("logged", [True, False])
def test_a_complaint_in_a_test_is_reported_once(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    """By the test if its log has it; a suite that reboots, for example, has the log of its last boot only."""
    play = FakeMachine.test

    def test(machine: FakeMachine, name: str, deadline_s: float) -> Ran:
        ran = play(machine, name, deadline_s)
        begin, end = (f"[    9.500000] agent selftest: {word} {name}" for word in ("begin", "end"))
        machine._printed += [begin, *SPLAT, end]
        return ran._replace(log=(begin, *(SPLAT if logged else ()), end))

    monkeypatch.setattr(FakeMachine, "test", test)
    results, report, _ = _live(cell.model_copy(update={"tests": ("truth.open",)}), folder, {})
    assert [len(results[0].splats), len(report.splats)] == ([1, 0] if logged else [0, 1])
    assert results[0].verdict is (Verdict.SPLAT if logged else Verdict.PASS)
    assert (report.cause is None) is logged


def test_a_round_of_watch_does_not_wait_for_the_console(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes later is in the next round."""
    slot = StandingSlot(_slot(cell, folder)._make, dict, _slot(cell, folder).pace)
    slot.machine = FakeMachine(FakeBench(), cell)
    slot.listen()
    _print(slot, *SPLAT, "[    9.9")
    asked: list[float] = []
    console = FakeMachine.console

    def noted(machine: FakeMachine, deadline_s: float = 0.0) -> bytes:
        asked.append(deadline_s)
        return console(machine)[:-1]

    monkeypatch.setattr(FakeMachine, "console", noted)
    assert slot.news(10.0) == [*(line.encode() for line in SPLAT), b"[    9.9"]
    assert slot.news(10.0) == [b"[    9.9"]
    assert asked == [0.0, 0.0]
