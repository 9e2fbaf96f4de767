"""What a run prints while it runs, as lines and as a live table."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.host.progress import MIB, Event, Phase, Step, bytes_of, of_machine
from harness.plan.matrix import Matrix
from harness.plan.plan import Plan, Selectors, make
from harness.report.lines import Heartbeat, Lines, duration
from harness.report.live import LiveTable
from harness.results.model import TestResult
from harness.results.verdict import Verdict
from harness.run.times import Estimate
from tests.harness.report.test_html import HOSTILE

FETCH = Step(Phase.FETCH, "linux-image from bookworm", "6.1-amd64", total=36 * MIB)
TEST = Step(Phase.TEST, "truth.open", "6.1-amd64", "6.1-auto", done=31, total=97)


def a_plan() -> Plan:
    return make(Matrix.model_validate({"kernels": ["6.1", "6.12"]}), Selectors(test=("truth.*",)))


def lines_of(show: Callable[[Lines], object]) -> list[str]:
    out = io.StringIO()
    with Lines(Console(file=out, width=40)) as lines:
        show(lines)
    return out.getvalue().splitlines()


def ended(test: str, verdict: Verdict, reason: str = "", duration_s: float = 0.0) -> TestResult:
    return TestResult(name=test, verdict=verdict, reason=reason, duration_s=duration_s)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (FETCH, "fetching 36 MiB, linux-image from bookworm"),
        (Step(Phase.FETCH, "an index"), "fetching an index"),
        (TEST, "test 31 of 97, truth.open"),
        (Step(Phase.BOOT, machine="6.1-amd64"), "booting"),
        (Step(Phase.IMAGE, "the initramfs"), "building the initramfs"),
    ],
)
def test_the_text_of_a_step(step: Step, words: str) -> None:
    assert str(step) == words
    assert Step.from_wire(step.to_wire()) == step


def test_percent_become_bytes() -> None:
    steps: list[Event] = []
    bytes_of(FETCH, of_machine("7.3-amd64", steps.append))(34.0)
    assert [str(step) for step in steps] == ["fetching 12 of 36 MiB, linux-image from bookworm"]
    assert isinstance(steps[0], Step)
    assert steps[0].machine == "7.3-amd64"


def test_a_line_for_each_phase_and_none_for_each_amount() -> None:
    def show(lines: Lines) -> None:
        for percent in (1.0, 50.0, 100.0):
            bytes_of(FETCH, lines)(percent)
        lines(Step(Phase.WAIT, machine="6.1-amd64"))
        lines(Step(Phase.BOOT, machine="6.1-amd64"))
        lines(TEST)
        lines(Step(Phase.TEST, "truth.exec", "6.1-amd64", "6.1-auto", done=32, total=97))

    assert lines_of(show) == [
        "6.1-amd64  fetching 0 of 36 MiB, linux-image from bookworm",
        "6.1-amd64  booting",
        "6.1-auto  97 tests",
    ]


def test_after_a_silence_the_running_steps_are_printed() -> None:
    def show(lines: Lines) -> None:
        bytes_of(FETCH, lines)(34.0)
        lines(Step(Phase.WAIT, machine="5.10-amd64"))
        lines(Step(Phase.CHECK, "how fast guests run here"))
        lines.beat()

    assert lines_of(show)[1:] == [
        "still 6.1-amd64: fetching 12 of 36 MiB, linux-image from bookworm (0 s); "
        "checking how fast guests run here (0 s)"
    ]


def test_the_time_beside_a_test_is_that_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of all tests of the cell before it; the same test goes on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("harness.report.lines.time", SimpleNamespace(monotonic=lambda: clock.now))

    def show(lines: Lines) -> None:
        for now, done in ((0.0, 31), (500.0, 32), (520.0, 32)):
            clock.now = now
            lines(replace(TEST, done=done))
        clock.now = 530.0
        lines.beat()

    assert lines_of(show)[-1].endswith("test 32 of 97, truth.open (30 s)")


def test_downloads_that_run_side_by_side_are_one_line() -> None:
    """Also at the foot of the live table; the machines that boot meanwhile follow."""

    def fetch(view: Lines) -> None:
        bytes_of(FETCH, view)(50.0)
        bytes_of(replace(FETCH, machine="6.12-amd64", total=44 * MIB), view)(25.0)

    def show(lines: Lines) -> None:
        fetch(lines)
        lines(Step(Phase.BOOT, machine="7.3-amd64"))
        lines.beat()

    words = "fetching 29 of 80 MiB, for 2 machines"
    assert lines_of(show)[-1] == f"still {words}; 7.3-amd64: booting (0 s)"
    console = Console(file=io.StringIO(), width=100, height=30)
    table = LiveTable(console)
    fetch(table)
    assert shown(console, table)[-1] == f"{words}; 0 s so far"


def test_a_step_of_the_whole_run_ends_when_a_machine_continues() -> None:
    def show(lines: Lines) -> None:
        lines(Step(Phase.CHECK, "how fast guests run here"))
        lines(Step(Phase.BOOT, machine="6.1-amd64"))
        lines.beat()

    assert lines_of(show)[1:] == ["still 6.1-amd64: booting (0 s)"]


def test_the_heartbeat_takes_no_signal_from_the_main_thread() -> None:
    """Its thread blocks the signals that end a run; otherwise the main thread may not wake up."""
    masks: list[set[signal.Signals | int]] = []
    beaten = threading.Event()

    def beat() -> None:
        masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        beaten.set()

    heart = Heartbeat(beat, 0.01)
    heart.start()
    assert beaten.wait(60)
    heart.stop()
    assert masks[0] >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_heartbeat_runs_until_it_is_stopped() -> None:
    """It repeats without a reset; after `stop` its thread has ended."""
    beats = threading.Semaphore(0)
    heart = Heartbeat(beats.release, 0.01)
    heart.start()
    assert beats.acquire(timeout=60)
    assert beats.acquire(timeout=60)
    heart.stop()
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_tests_that_share_a_cause_are_one_line() -> None:
    """A test that ran has its own line at once; the others wait until the cause changes."""

    def show(lines: Lines) -> None:
        lines.ended("6.1-auto", ended("truth.open", Verdict.CRASH, "panic", 3.0))
        for number in range(5):
            lines.ended("6.1-auto", ended(f"loss.{number}", Verdict.NOT_RUN, "given up"))
        lines.ended("6.12-auto", ended("truth.exec", Verdict.SKIP, "no lsm", 0.1))
        lines.ended("6.12-auto", ended("truth.open", Verdict.PASS, "", 0.6))

    assert lines_of(show) == [
        "6.1-auto  truth.open  ✗ CRASH  3.0 s  panic",
        "6.12-auto  truth.exec  ○ SKIP  0.1 s  no lsm",
        "6.12-auto  truth.open  ✓ PASS  0.6 s",
        "6.1-auto: 5 tests … NOT_RUN: given up",
    ]


def test_the_last_test_of_a_cell_ends_its_row() -> None:
    """The line of the cause does not wait for the end of the run."""
    out = io.StringIO()
    lines = Lines(Console(file=out))
    plan = a_plan()
    lines.plan(plan, Estimate(plan, {}, 1))
    for test in plan.cells[0].tests:
        lines.ended("6.1-auto", ended(test, Verdict.BOOT_FAIL, "no answer"))
    assert f"6.1-auto: {len(plan.cells[0].tests)} tests ⚠ BOOT_FAIL: no answer" in out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_of_a_guest_are_made_visible(text: str) -> None:
    """Remarks, steps and running steps, in lines and in the live table."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    for view in (Lines(console), LiveTable(console)):
        view(text)
        view(Step(Phase.BOOT, text, "6.1-amd64"))
        view.beat()
    console.print(LiveTable(console).render())
    assert not {"\x1b", "\x9b", "\x07", "\x00", "\u202e"} & set(out.getvalue())


def shown(console: Console, table: LiveTable) -> list[str]:
    with console.capture() as captured:
        console.print(table.render())
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_live_table_shows_machines_counts_and_the_time_left() -> None:
    console = Console(file=io.StringIO(), width=100, height=30)
    table, plan = LiveTable(console), a_plan()
    tests = plan.cells[0].tests
    last = {"6.1-auto": 10.0, "6.12-auto": 20.0}
    last |= {f"{cell}::{test}": 1.0 for cell in ("6.1-auto", "6.12-auto") for test in tests}
    table.plan(plan, Estimate(plan, last, 2))
    table(Step(Phase.BOOT, machine="6.12-amd64"))
    table(TEST)
    table.ended("6.1-auto", ended(tests[0], Verdict.PASS, "", 1.0))
    rows = shown(console, table)
    assert rows[0].split() == ["machine", "now", "tests", "verdicts"]
    assert rows[1].split() == ["6.12-amd64", "booting", "(0", "s)", f"0/{len(tests)}"]
    now = ["6.1-auto:", "test", "31", "of", "97,", "truth.open"]
    assert rows[2].split() == ["6.1-amd64", *now, f"1/{len(tests)}", "1", "PASS"]
    left = duration(20 + len(tests))
    assert rows[3] == f"1 of {2 * len(tests)} tests, 1 PASS, 0 s so far, about {left} left"


def test_a_terminal_with_few_rows_shows_the_busy_machines() -> None:
    console = Console(file=io.StringIO(), width=100, height=7)
    table, plan = LiveTable(console), a_plan()
    table.plan(plan, Estimate(plan, {}, 1))
    table(Step(Phase.BOOT, machine="6.12-amd64"))
    rows = shown(console, table)
    assert rows[1].startswith("6.12-amd64")
    assert rows[2] == "and 1 more"
    assert "left" not in rows[3]


def test_the_time_left_is_that_of_the_longest_worker() -> None:
    plan = a_plan()
    tests = plan.cells[0].tests
    last = {"6.1-auto": 10.0, "6.12-auto": 30.0}
    last |= {f"{cell}::{test}": 1.0 for cell in ("6.1-auto", "6.12-auto") for test in tests}
    assert Estimate(plan, last, 2).left() == 30 + len(tests)
    assert Estimate(plan, last, 1).left() == 40 + 2 * len(tests)
    assert Estimate(plan, {"6.1-auto": 10.0}, 1).left() is None
    half = Estimate(plan, last, 2)
    for test in tests:
        half.end("6.12-auto", test)
    assert half.left() == 10 + len(tests)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99.0, "99 s"), (170.0, "3 min"), (3900.0, "1 h 5 min")]
)
def test_the_text_of_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
