"""Each scenario ends in a verdict and leaves nothing behind, also if it raises or hangs."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.events.model import Event, EventType
from agent.ledger import Account
from agent.selftest import effects, runner, scenarios
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.catalogue import Scenario
from agent.selftest.fake import FakeAgent, FakeWorkload
from agent.selftest.protocol import Ran
from agent.selftest.runner import Stage, measure_slowness

RunBody = Callable[..., Ran]


@pytest.fixture
def run_body(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunBody:
    def run(body: scenarios.Body, cost: float = 1.0) -> Ran:
        monkeypatch.setitem(scenarios._BODIES, "truth.made_up", body)
        agent = FakeAgent()
        stage = Stage(
            agent, lambda s: FakeWorkload(generator, s, agent), lambda *_: agent, measure_slowness(), tmp_path
        )
        return stage.run(Scenario("truth.made_up", "It runs the given function.", cost=cost))

    return run


def test_an_error_is_a_failure_with_its_reason(run_body: RunBody, tmp_path: Path) -> None:
    def body(bench: Bench) -> None:
        bench.file("left")
        raise ZeroDivisionError("by nothing")

    ran = run_body(body)
    assert ran.verdict == "FAIL"
    assert ran.reason == "runs to its end: expected no error, got ZeroDivisionError: by nothing"
    assert "test_runner.py" in "".join(ran.assertions[-1]["evidence"]["trace"])
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_whose_world_ended_does_not_pass(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to pass beside a neighbour that is gone."""

    def body(bench: Bench) -> None:
        bench.evidence.equal("one", 1, 1)

    monkeypatch.setitem(scenarios._BODIES, "truth.made_up", body)
    agent = FakeAgent()
    stage = Stage(
        agent, lambda s: FakeWorkload(generator, s, agent), lambda *_: agent, measure_slowness(), tmp_path
    )
    scenario = Scenario("truth.made_up", "It passes.", cost=1.0)
    assert stage.run(scenario).verdict == "PASS"
    ran = stage._replace(ended=lambda: "it ended").run(scenario)
    assert (ran.verdict, ran.reason) == ("FAIL", "its world: expected as it was made, got it ended")


def test_an_error_beside_an_agent_of_its_own_is_reported_too(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent is closed when the error is recorded, and has no facts any more."""

    class Closing(FakeAgent):
        closed = False

        def close(self) -> None:
            self.closed = True

        def facts(self) -> dict[str, Any]:
            assert not self.closed, "it is closed"
            return super().facts()

    def body(_: Bench) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(scenarios._BODIES, "truth.made_up", body)
    own = Closing()
    stage = Stage(
        FakeAgent(), lambda s: FakeWorkload(generator, s, own), lambda *_: own, measure_slowness(), tmp_path
    )
    ran = stage.run(Scenario("truth.made_up", "It fails.", cost=1.0, discarders=128))
    assert own.closed
    assert ran.reason == "runs to its end: expected no error, got ZeroDivisionError: by nothing"
    assert "hooks" in ran.assertions[-1]["evidence"]


def test_a_hang_is_a_failure(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        silent, _ = os.pipe()
        select.select([silent], [], [])

    ran = run_body(body, cost=-0.95)  # a budget of a twentieth
    assert ran.verdict == "FAIL"
    assert "ScenarioTimeoutError: the scenario did not end within" in ran.reason


@pytest.mark.parametrize(
    ("deadline_s", "patience_s"), [(0.0, 40.0), (60.0, 40.0), (150.0, 100.0), (480.0, 320.0), (1e300, 320.0)]
)
def test_the_agent_is_more_patient_if_the_client_is(deadline_s: float, patience_s: float) -> None:
    """A client whose host is busy has a longer deadline; the agent keeps its part of it, up to a limit."""
    stage = Stage(
        FakeAgent(),
        lambda _: pytest.fail("no generator"),
        lambda *_: FakeAgent(),
        30.0,
        deadline_s=deadline_s,
    )
    scenario = Scenario("truth.made_up", "", cost=1.0)
    assert stage.patience_s(scenario) == patience_s


@pytest.mark.parametrize(
    ("script", "slowness", "verdict"),
    [
        ("rate 1/s for 600s\nopen / O_RDONLY -> $0\nclose $0\nend\n", 70.0, "SKIP"),
        ("rate 1/s for 600s\nopen / O_RDONLY -> $0\nclose $0\nend\n", 40.0, "FAIL"),
        ("fork -> $1\nrate 1/s for 600s\nopen / O_RDONLY -> $0\nclose $0\nend\nend\nwait $1\n", 70.0, "SKIP"),
        ("pause\n", 70.0, "FAIL"),
    ],
)
def test_a_rate_that_a_starved_cpu_cannot_keep_proves_nothing(
    script: str, slowness: float, verdict: str, run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a script with a rate may take too long, and only on a CPU that is measured to be starved."""
    monkeypatch.setattr(runner, "measure_slowness", lambda: slowness)

    def body(bench: Bench) -> None:
        bench.rules()
        bench.workload.patience_s = 0.0
        bench.play(script)

    ran = run_body(body)
    assert ran.verdict == verdict, ran.reason
    assert ("this CPU is 70 times slower than a usual one" in ran.reason) is (verdict == "SKIP")


PACED = "rate 1/s for 600s\nopen / O_RDONLY -> $0\nclose $0\nend\n"


def test_an_agent_that_hangs_beside_a_rate_is_no_starved_cpu(
    run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the script itself may take too long."""
    monkeypatch.setattr(runner, "measure_slowness", lambda: 70.0)
    hung: list[bool] = []

    def hang() -> None:
        hung.append(True)
        silent, _ = os.pipe()
        select.select([silent], [], [])

    def body(bench: Bench) -> None:
        bench.rules()
        bench.play(PACED, meanwhile=hang)

    ran = run_body(body, cost=-0.7)
    assert hung
    assert (ran.verdict, "ScenarioTimeoutError" in ran.reason) == ("FAIL", True)


def test_the_cpu_is_measured_after_the_generator_was_ended(
    run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a generator that runs, each CPU would seem slow."""
    generators: list[FakeWorkload] = []

    def measure() -> float:
        ended = [one._process.returncode is not None for one in generators]
        return 1.0 if any(ended) else 70.0

    monkeypatch.setattr(runner, "measure_slowness", measure)

    def body(bench: Bench) -> None:
        assert isinstance(bench.workload, FakeWorkload)
        generators.append(bench.workload)
        bench.rules()
        bench.workload.patience_s = 0.0
        bench.play(PACED)

    assert run_body(body).verdict == "FAIL"


def test_a_script_is_overdue_also_while_events_arrive(
    run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = os.eventfd(1)
    monkeypatch.setattr(FakeAgent, "fileno", lambda _: always)

    def body(bench: Bench) -> None:
        bench.rules()
        bench.workload.patience_s = 0.5
        bench.play(PACED)

    assert "OverdueError: the script did not end in time" in run_body(body).reason


@pytest.mark.parametrize(
    ("count", "reason"),
    [(5, ""), (31, "events of close that the kernel skipped: expected at most 15, got 31")],
)
def test_misses_of_other_processes_hide_few_losses(
    count: int, reason: str, run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that sees no close and counts none, where the kernel skips programs of a busy neighbour."""
    feed, facts, counted = FakeAgent.feed, FakeAgent.facts, FakeAgent.accounts

    def skipped(_: FakeAgent) -> dict[EventType, int]:
        return {EventType.CLOSE: 1009 if made else 0}

    def accounts(self: FakeAgent) -> dict[EventType, Account]:
        of_all = counted(self)
        return of_all | {EventType.CLOSE: Account(program_misses=1009 if made else 0)}

    made: list[Event] = []
    monkeypatch.setattr(FakeAgent, "skipped", skipped)
    monkeypatch.setattr(FakeAgent, "accounts", accounts)
    monkeypatch.setattr(FakeAgent, "facts", lambda self: facts(self) | {"capabilities": {"skips": "fires"}})
    monkeypatch.setattr(
        FakeAgent,
        "feed",
        lambda self, event: made.append(event) if event.type is EventType.CLOSE else feed(self, event),
    )

    def body(bench: Bench) -> None:
        bench.rules()
        bench.play(f"repeat {count}\nopen {bench.file('a')} O_WRONLY -> $0\nclose $0\nend\n")

    ran = run_body(body)
    assert (ran.verdict, ran.reason) == ("FAIL" if reason else "PASS", reason)
    assert ran.ledger["close"]["lost"]["program_misses"] == count
    assert ran.ledger["close"]["misses_of_others"] == 1009 - count


def test_an_invalid_script_is_a_failure(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.rules()
        bench.play("dance\n")

    assert "line 1 of the script: unknown call 'dance'" in run_body(body).reason


def test_a_generator_that_dies_is_a_failure(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.rules()
        bench.play("exit_group 3\n")

    assert "the generator ended with status 3" in run_body(body).reason


def test_a_call_with_an_unknown_event_is_a_failure(
    run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(effects.CALLS, "chmod")

    def body(bench: Bench) -> None:
        bench.rules()
        bench.play(f"chmod {bench.path('first')} 0600\n")

    assert "the event of call chmod is unknown" in run_body(body).reason


def test_a_scenario_without_assertions_is_a_failure(
    run_body: RunBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_body(lambda bench: None).verdict == "FAIL"


def test_an_unexpected_refusal_is_a_failure(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.rules()
        bench.play(f"unlink {bench.path('none')}\n")

    assert run_body(body).reason == "refused by the kernel: expected {}, got {'unlink:1 errno 2': 1}"


def test_a_missing_sentinel_is_a_failure(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.subject.enforce({"other": 'open.file.path == "/nowhere"'})
        bench.play(f"unlink {bench.file('a')}\n")

    assert run_body(body).reason.startswith("sentinels before, between and after: expected [['/")


def test_a_scenario_that_is_impossible_here_is_a_skip_with_the_observed_reason(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.equal("one", 1, 1)
        raise CannotTellError("this CPU is too slow")

    ran = run_body(body)
    assert (ran.verdict, ran.reason) == ("SKIP", "this CPU is too slow")


def test_a_failure_is_not_hidden_by_a_skip(run_body: RunBody) -> None:
    def body(bench: Bench) -> None:
        bench.equal("one", 1, 2)
        raise CannotTellError("this CPU is too slow")

    ran = run_body(body)
    assert (ran.verdict, ran.reason) == ("FAIL", "one: expected 1, got 2")
