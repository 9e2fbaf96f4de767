"""The run of a cell with fake machines: each event leads to one verdict."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.selftest.protocol import Ran
from harness.errors import RefusedError
from harness.guest.selftest import Loaded
from harness.host.deadlines import Pace
from harness.plan.cells import Cell
from harness.plan.matrix import Btf
from harness.plan.plan import Plan
from harness.results.model import Attempt, CellReport, TestResult
from harness.results.verdict import Verdict
from harness.run import fake
from harness.run.cell import MAX_MACHINES, CellRun
from harness.run.fake import FakeBench, FakeMachine
from harness.run.judge import clean, combined, result_of
from harness.run.machines import Machine
from harness.run.slot import Slot


def _live(
    cell: Cell, folder: Path, script: dict[str, str], pace: Pace | None = None
) -> tuple[list[TestResult], CellReport, list[str]]:
    log = folder.with_name("log")
    bench = FakeBench(script, log)

    def make(wanted: Cell) -> Machine:
        return bench.machine(wanted, bench.prepare(_plan(cell), "tcg", print), folder)

    slot = Slot(make, pace, lambda _seconds: None)
    run = CellRun(cell, slot, folder)
    run.open()
    results = [run.test(name) for name in cell.tests]
    report = run.close()
    slot.discard()
    return results, report, [line.split(" ", 1)[1] for line in log.read_text().splitlines()]


def _plan(cell: Cell) -> Plan:
    return Plan(schema=1, cells=(cell,))


def _verdicts(results: list[TestResult]) -> str:
    return " ".join(result.verdict for result in results)


@pytest.mark.parametrize(
    ("script", "verdicts"),
    [
        ({}, "PASS PASS PASS"),
        ({"*::truth.unlink": "fail"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "skip"}, "PASS SKIP PASS"),
        ({"*::truth.unlink": "refuse"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "malformed"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "crash"}, "PASS CRASH NOT_RUN"),
        ({"*::truth.unlink": "hang"}, "PASS TIMEOUT NOT_RUN"),
        ({"*::truth.unlink": "qemu-dies"}, "PASS INFRA NOT_RUN"),
        ({"*::truth.unlink": "lost"}, "PASS INFRA NOT_RUN"),
        ({"*::boot": "crash"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::boot": "hang"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::deploy": "hang"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::boot": "warm", "*::deploy": "hang,pass"}, "PASS PASS PASS"),
        ({"*::boot": "warm", "*::deploy": "hang"}, "INFRA INFRA INFRA"),
        ({"*::boot": "warm", "*::deploy": "crash"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::boot": "qemu-dies"}, "INFRA INFRA INFRA"),
        ({"*::boot": "lost"}, "INFRA INFRA INFRA"),
        ({"*::load": "refuse"}, "FAIL FAIL FAIL"),
        ({"*::load": "crash"}, "CRASH CRASH CRASH"),
        ({"*::load": "hang"}, "TIMEOUT TIMEOUT TIMEOUT"),
        ({"*::truth.unlink": "splat"}, "PASS SPLAT PASS"),
        ({"*::truth.unlink": "deaf"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "freeze"}, "PASS TIMEOUT NOT_RUN"),
        ({"*::truth.unlink": "qemu-dies,pass"}, "PASS PASS PASS"),
        ({"*::truth.unlink": "lost,fail"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "broken"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "broken", "*::load": "pass,refuse"}, "PASS FAIL FAIL"),
        ({"*::truth.unlink": "broken", "*::load": "pass,crash"}, "PASS FAIL CRASH"),
        ({"*::truth.unlink": "lost,crash"}, "PASS CRASH NOT_RUN"),
        ({"*::truth.unlink": "lost", "*::boot": "pass,crash"}, "PASS INFRA NOT_RUN"),
        ({"*::boot": "lost,lost,pass"}, "PASS PASS PASS"),
        ({"*::boot": "lost,crash"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::load": "lost,pass"}, "PASS PASS PASS"),
    ],
)
def test_each_event_leads_to_its_verdict(
    cell: Cell, folder: Path, script: dict[str, str], verdicts: str
) -> None:
    results, _, events = _live(cell, folder, script)
    assert _verdicts(results) == verdicts
    assert events[-1].startswith("destroy")


def test_a_cell_leaves_its_evidence(cell: Cell, folder: Path) -> None:
    _, report, _ = _live(cell, folder, {"*::load": "refuse"})
    assert (folder / "verifier.log").read_text() == "the verifier refused it"
    assert {path.name for path in folder.iterdir()} == {"verifier.log", "console.log", "agent.log"}
    assert report.cause
    assert report.cause.reason == "load refused"


def test_a_machine_that_hangs_before_the_agent_runs_is_reported_as_it_started(
    cell: Cell, folder: Path
) -> None:
    """`phases.start` is "warm" for a restored machine, although the agent could not be deployed."""
    _, report, _ = _live(cell, folder, {"*::boot": "warm", "*::deploy": "hang"})
    assert report.phases.start == "warm"


def test_the_check_at_the_end_counts_in_the_time_of_a_cell(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are made equal by these times, and the check takes as long as many tests."""
    now = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    spent = _live(cell, folder, {})[1].phases
    assert spent.close_s >= 1
    assert spent.total_s == spent.boot_s + spent.deploy_s + spent.load_s + spent.tests_s + spent.close_s


def test_the_loaded_hooks_are_in_the_report(cell: Cell, folder: Path) -> None:
    _, report, _ = _live(cell, folder, {})
    assert report.capabilities == {"lsm": "fires"}
    assert report.hooks[0].runs == 3
    assert report.cause is None


def test_the_counters_of_the_end_are_in_the_report(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of a program that were counted at its load say nothing; invalid rows change nothing."""
    counted = {"event": "open", "point": "file_open", "type": "lsm", "state": "fires", "runs": 1009}
    monkeypatch.setattr(FakeMachine, "hooks", (counted,))
    assert [hook.runs for hook in _live(cell, folder, {})[1].hooks] == [1009]
    monkeypatch.setattr(FakeMachine, "hooks", ({"runs": -1},))
    assert [hook.runs for hook in _live(cell, folder, {})[1].hooks] == [3]


def test_a_lost_test_has_the_cause(cell: Cell, folder: Path) -> None:
    results, _, _ = _live(cell, folder, {"*::truth.open": "crash"})
    assert results[1].reason == "not run: the machine was given up after CRASH in truth.open"


def test_only_the_infrastructure_is_tried_again_and_each_attempt_is_reported(
    cell: Cell, folder: Path
) -> None:
    results, report, events = _live(cell, folder, {"*::truth.unlink": "qemu-dies,pass"})
    assert [str(attempt.verdict) for attempt in results[1].attempts] == ["INFRA", "PASS"]
    assert [attempt.reason for attempt in report.attempts] == ["qemu: QEMU was killed by signal 9"]
    assert sum(event.startswith("boot") for event in events) == 2
    assert (folder / "attempt-1/console.log").exists()


def test_an_agent_that_always_ends_is_given_up(cell: Cell, folder: Path) -> None:
    """Each restart loads again, which takes time; the output of each is kept."""
    tests = tuple(f"truth.{number}" for number in range(5))
    results, report, _ = _live(cell.model_copy(update={"tests": tests}), folder, {"*::truth.*": "broken"})
    assert _verdicts(results) == "FAIL FAIL FAIL NOT_RUN NOT_RUN"
    assert report.cause
    assert report.cause.verdict is Verdict.FAIL
    assert sorted(path.name for path in folder.glob("agent*")) == ["agent-1.log", "agent-2.log", "agent.log"]


def test_logs_of_earlier_machines_and_visits_are_kept(cell: Cell, folder: Path) -> None:
    """A second machine and a second visit of the cell start new logs."""
    _live(cell, folder, {"*::truth.unlink": "qemu-dies,pass"})
    names = sorted(path.name for path in folder.glob("agent*"))
    _live(cell, folder, {})
    later = sorted(path.name for path in folder.glob("agent*"))
    assert len(names) == 2
    assert len(later) == 3
    assert set(names) < set(later)


def test_the_number_of_attempts_is_limited(cell: Cell, folder: Path) -> None:
    _, report, events = _live(cell, folder, {"*::boot": "lost"})
    assert sum(event.startswith("boot") for event in events) == MAX_MACHINES
    assert len(report.attempts) == MAX_MACHINES - 1


def test_at_the_deadline_the_rest_is_not_run(cell: Cell, folder: Path) -> None:
    pace = Pace(ends_at=0.0, limit_s=60)
    results, _, events = _live(cell, folder, {}, pace)
    assert _verdicts(results) == "NOT_RUN NOT_RUN NOT_RUN"
    assert results[0].reason == "the run's deadline of 60 s has passed"
    assert not [event for event in events if event.startswith("boot")]


@pytest.mark.parametrize(("act", "whose"), [("hang", "agent hung"), ("freeze", "kernel hung")])
def test_a_ping_decides_whether_guest_or_test_timed_out(
    cell: Cell, folder: Path, act: str, whose: str
) -> None:
    results, _, _ = _live(cell, folder, {"*::truth.unlink": act})
    assert results[1].reason.endswith(whose)


def test_a_crash_has_a_fingerprint(cell: Cell, folder: Path) -> None:
    results, report, _ = _live(cell, folder, {"*::truth.open": "crash"})
    assert results[1 - 1].fingerprint == "panic: sysrq_handle_crash < __handle_sysrq"
    assert results[0].fingerprint in results[0].reason
    assert report.cause
    assert report.cause.fingerprint == results[0].fingerprint


def test_a_complaint_outside_of_tests_belongs_to_the_cell(cell: Cell, folder: Path) -> None:
    results, report, events = _live(cell, folder, {"*::load": "splat"})
    assert _verdicts(results) == "PASS PASS PASS"
    assert report.cause
    assert (report.cause.verdict, report.cause.fingerprint) == ("SPLAT", "warning: perf_thing")
    assert report.splats[0].line.startswith("[9.668136] WARNING: ")
    assert events[-1].startswith("destroy")


def test_what_is_left_behind_fails_the_cell(cell: Cell, folder: Path) -> None:
    _, report, _ = _live(cell, folder, {"*::end": "leak"})
    assert report.cause
    assert (report.cause.verdict, report.cause.reason) == ("FAIL", "left behind: program bpf_prog_1")


@pytest.mark.parametrize(
    ("step", "act", "verdict", "reason"),
    [
        ("quit", "fail", "FAIL", "the self-test server ended"),
        ("quit", "hang", "TIMEOUT", "no answer to quit; the guest answers: the agent hung"),
        ("quit", "crash", "CRASH", f"panic: {fake.PANIC}"),
        ("quit", "qemu-dies", "INFRA", "qemu: QEMU was killed by signal 9"),
        ("end", "crash", "CRASH", f"the search for leftovers of the agent failed: panic: {fake.PANIC}"),
        ("end", "freeze", "TIMEOUT", "the search for leftovers of the agent failed: no answer to end; "),
        ("end", "blind", "FAIL", "the search for leftovers of the agent failed: the search failed"),
    ],
)
def test_a_failure_after_the_last_test_belongs_to_the_cell(
    cell: Cell, folder: Path, step: str, act: str, verdict: str, reason: str
) -> None:
    """An agent that ends early and a final check that fails are no success."""
    results, report, _ = _live(cell, folder, {f"*::{step}": act})
    assert _verdicts(results) == "PASS PASS PASS"
    assert report.cause
    assert report.cause.verdict == verdict
    assert report.cause.reason.startswith(reason)


@pytest.mark.parametrize(
    ("hookset", "lsm", "verdict"),
    [("lsm", "silent", "SKIP"), ("lsm", "fires", "FAIL"), ("auto", "silent", "FAIL")],
)
def test_a_forced_hook_set_is_skipped_only_for_an_observed_fact(
    cell: Cell, folder: Path, hookset: str, lsm: str, verdict: str
) -> None:
    forced = cell.model_copy(update={"hookset": hookset})
    results, report, _ = _live(forced, folder, {"*::load": f"refuse,{lsm}"})
    assert {str(result.verdict) for result in results} == {verdict}
    if verdict == "SKIP":
        assert results[0].reason == "lsm is silent on this kernel: load refused"
        assert report.capabilities == {"lsm": "silent"}


@pytest.mark.parametrize("btf", ["kernel", "none"])
@pytest.mark.parametrize(
    ("kprobe", "verdict", "why"),
    [
        ("fires", "FAIL", "bcc cannot compile for 6.1: fim.bcc.c:7:1: error: no such thing"),
        ("load-fail", "SKIP", "kprobe is load-fail on this kernel: bcc cannot compile for 6.1: "),
    ],
)
def test_programs_that_do_not_compile_are_no_fact_of_a_kernel(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch, btf: Btf, kprobe: str, verdict: str, why: str
) -> None:
    """The set `bcc` consists of kprobes; without them the program that is compiled first finds nothing."""

    def load(_machine: FakeMachine, wanted: Cell, _deadline_s: float) -> Loaded:
        if wanted.hookset == "bcc":
            raise RefusedError("bcc cannot compile for 6.1: fim.bcc.c:7:1: error: no such thing")
        return Loaded(1, 0.5, capabilities={"kprobe": kprobe, "bcc": "load-fail"})

    monkeypatch.setattr(FakeMachine, "load", load)
    forced = cell.model_copy(update={"hookset": "bcc", "btf": btf})
    results, report, _ = _live(forced, folder, {})
    assert {str(result.verdict) for result in results} == {verdict}
    assert results[0].reason.startswith(why)
    assert report.closed


def test_a_kernel_without_what_its_configuration_promises_fails(cell: Cell, folder: Path) -> None:
    bench = FakeBench({"*::load": "refuse,silent"})
    slot = Slot(lambda wanted: bench.machine(wanted, bench.prepare(_plan(cell), "tcg", print), folder))
    forced = cell.model_copy(update={"hookset": "lsm"})
    run = CellRun(forced, slot, folder, promised=lambda kind: f"CONFIG_{kind.upper()}")
    run.open()
    result = run.test("truth.open")
    run.close()
    assert result.verdict is Verdict.FAIL
    assert result.reason.startswith("its configuration promises lsm (CONFIG_LSM), and lsm is silent")


def _promise_unlink(result: TestResult, report: CellReport) -> str:
    return f"{report.id} promises {result.name}" if result.name == "truth.unlink" else ""


def test_a_skip_that_the_kernel_does_not_explain_fails(cell: Cell, folder: Path) -> None:
    """Its reason has the promise and the reason of the agent."""
    bench = FakeBench({"*::truth.unlink": "skip"})
    slot = Slot(lambda wanted: bench.machine(wanted, bench.prepare(_plan(cell), "tcg", print), folder))
    run = CellRun(cell, slot, folder, contradicted=_promise_unlink)
    run.open()
    results = [run.test(name) for name in cell.tests]
    run.close()
    assert _verdicts(results) == "PASS FAIL PASS"
    assert results[1].reason.startswith(f"{cell.id} promises truth.unlink; ")


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("FAIL", "PASS", "FLAKY"),
        ("FAIL", "FAIL", "FAIL"),
        ("FAIL", "CRASH", "CRASH"),
        ("FAIL", "INFRA", "FAIL"),
        ("INFRA", "PASS", "PASS"),
        ("INFRA", "FAIL", "FAIL"),
    ],
)
def test_two_attempts_have_one_verdict_and_both_are_reported(first: str, second: str, verdict: str) -> None:
    one, two = (
        TestResult(name="a", verdict=v, reason=str(v), attempts=(Attempt(verdict=v, reason=str(v)),))
        for v in (Verdict(first), Verdict(second))
    )
    both = combined(one, two)
    assert both.verdict == verdict
    assert [attempt.verdict for attempt in both.attempts] == [first, second]
    assert "FAIL" in both.reason or verdict in ("PASS", "CRASH")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=20,
    )
)
def test_anything_a_guest_answers_can_be_written_and_read(answer: object) -> None:
    row = {"name": "x", "ok": True, "got": answer}
    result = result_of("a", _ran(assertions=[row], ledger={}))
    assert TestResult.model_validate_json(result.model_dump_json().encode("utf-8"))


def test_deeply_nested_answers_are_cut() -> None:
    deep: object = "x"
    for _ in range(5000):
        deep = [deep]
    assert result_of("a", _ran(assertions=[{"name": "x", "ok": True, "got": deep}])).model_dump_json()
    assert clean({"a": 10**40, "b": float("inf")}) == {"a": "1.000e+40", "b": "inf"}


def _ran(**changes: object) -> Ran:
    fields: dict[str, object] = {
        "id": 1,
        "name": "a",
        "verdict": "PASS",
        "assertions": [{"name": "x", "ok": True}],
    }
    return Ran(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ran", "reason"),
    [
        (_ran(assertions=[]), "the agent reported PASS without any assertion"),
        (_ran(assertions=[{"name": "x", "ok": False}]), "the agent reported PASS, but x failed"),
        (_ran(name="b"), "the agent answered for 'b'"),
        (_ran(ledger={"open": {"generated": "many"}}), "malformed answer: ledger.open.generated: "),
        (_ran(assertions=["x"]), "malformed answer: assertions.0: "),
        (_ran(verdict="FAIL"), "FAIL without a reason"),
        (_ran(verdict="SKIP"), "the agent skipped the test without a reason"),
        (_ran(verdict="SKIP", reason=" \n"), "the agent skipped the test without a reason"),
        (
            _ran(verdict="SKIP", reason="why", assertions=[{"name": "x", "ok": False}]),
            "the agent reported SKIP, but x failed",
        ),
        (
            _ran(ledger={"open": {"generated": 2, "delivered": 1, "matched": 1}}),
            "the ledger of open does not",
        ),
        (_ran(ledger={"open": {"generated": 1, "delivered": 1}}), "the ledger of open does not close"),
    ],
)
def test_an_answer_that_contradicts_itself_is_a_failure(ran: Ran, reason: str) -> None:
    result = result_of("a", ran)
    assert result.verdict is Verdict.FAIL
    assert result.reason.startswith(reason)


def test_hostile_text_is_made_visible() -> None:
    row = {"name": "x", "ok": False, "got": "\ud800"}
    result = result_of("a", _ran(verdict="FAIL", reason="\x1b[2J\ud800\n" * 400, assertions=[row]))
    assert result.assertions[0].got == "?"
    assert result.reason.isprintable()
    assert len(result.reason) <= 500
    assert result.model_dump_json()
