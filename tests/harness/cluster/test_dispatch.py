"""Which worker is named when an execution ends without a result, and which machines it costs."""

from __future__ import annotations

import json
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from distributed import KilledWorker

from harness.cluster import facts
from harness.cluster.dispatch import Dispatch, Execution
from harness.cluster.placement import Need, Worker
from harness.cluster.received import Received
from harness.errors import InfrastructureError
from harness.host import deadlines
from harness.host.progress import Phase, Step
from harness.plan.plan import Plan
from harness.results.model import TestResult
from harness.results.verdict import Verdict
from harness.run.fake import FakeBench
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from tests.harness.cluster.test_parts import known


class Future:
    """The future of a task that ended with an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def result(self, timeout: float) -> None:
        assert timeout
        raise self._error


class Client:
    """A client that only cancels."""

    status = "running"

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    def cancel(self, futures: list[Any], *, force: bool) -> None:
        assert force
        self.cancelled += futures


class View:
    """A view that keeps lines and steps."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any, /) -> None:
        self.events.append(event)

    def ended(self, cell: str, result: TestResult) -> None:
        self.events.append((cell, result.name, str(result.verdict)))

    repeated = ended

    def plan(self, *_words: Any) -> None:
        raise AssertionError


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Run:
    made = Run(Options(matrix=tmp_path / "matrix.yaml", plan=plan, folder=tmp_path / "out"), FakeBench())
    made.begin(Supplies(accelerator="none"))
    return made


@pytest.fixture
def dispatch(run: Run) -> Dispatch:
    unused = cast("Any", None)
    return Dispatch(cast("Any", Client()), run, unused, unused, Received(run), View())


def assign(dispatch: Dispatch, worker: Worker, *machines: str) -> list[str]:
    """Let a worker have machines, in this order."""
    dispatch._workers[worker.address] = worker
    for machine in machines:
        dispatch._running[machine] = Execution(
            Need(machine), worker, future=cast("Any", f"future of {machine}")
        )
    return list(machines)


def failing(dispatch: Dispatch, machine: str, kind: str, verdict: Verdict) -> tuple[str, str]:
    """Report the result of the machine's first test; return its cell and name."""
    cell = dispatch._run.plan.machines()[machine][0]
    result = TestResult(name=cell.tests[0], verdict=verdict, reason="seen")
    line = json.dumps([kind, cell.id, result.model_dump(mode="json")]).encode()
    dispatch._show({"key": machine, "line": line})
    return cell.id, cell.tests[0]


def begin(dispatch: Dispatch, machine: str) -> None:
    """Report that a machine boots."""
    line = f'["step", {list(Step(Phase.BOOT, machine=machine).to_wire())}]'.replace("'", '"')
    dispatch._show({"key": machine, "line": line.encode()})


@pytest.mark.parametrize("kind", ["failed", "test"])
def test_a_failure_of_an_execution_that_is_lost_stays(dispatch: Dispatch, kind: str) -> None:
    """The machine runs again, and the next execution need not fail: of two results the worse one counts."""
    machine = next(iter(dispatch._run.plan.machines()))
    assign(dispatch, Worker("tls://a", "a", "host"), machine)
    cell, test = failing(dispatch, machine, kind, Verdict.FAIL)
    dispatch._lose(machine, "lost")
    assert dispatch._waiting == [Need(machine)]
    dispatch._run.record_test(cell, TestResult(name=test, verdict=Verdict.PASS))
    assert dispatch._run._tests[cell, test].verdict is Verdict.FAIL


def test_what_the_infrastructure_did_to_a_lost_execution_does_not_stay(dispatch: Dispatch) -> None:
    machine = next(iter(dispatch._run.plan.machines()))
    assign(dispatch, Worker("tls://a", "a", "host"), machine)
    cell, test = failing(dispatch, machine, "test", Verdict.INFRA)
    dispatch._lose(machine, "lost")
    dispatch._run.record_test(cell, TestResult(name=test, verdict=Verdict.PASS))
    assert dispatch._run._tests[cell, test].verdict is Verdict.PASS


def reasons(dispatch: Dispatch) -> dict[str, list[str]]:
    return {machine: [one.reason for one in lost] for machine, lost in dispatch._lost.items() if lost}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            KilledWorker("task", cast("Any", SimpleNamespace(name="a", address="tls://a")), 1),
            "worker a died while it ran (KilledWorker)",
        ),
        (CancelledError(), "worker lost: CancelledError"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_an_execution_that_ends_with_an_error(dispatch: Dispatch, error: BaseException, reason: str) -> None:
    """Its machine runs again, and it is INFRA with both reasons after the second time."""
    worker = Worker("tls://a", "a", "host")
    machine = next(iter(dispatch._run.plan.machines()))
    for number in (1, 2):
        assign(dispatch, worker, machine)
        dispatch._gather(machine, cast("Any", Future(error)))
        dispatch._handle_one()
        assert dispatch._waiting == [Need(machine)] * (number == 1)
        dispatch._waiting.clear()
    assert reasons(dispatch) == {machine: [reason, reason]}
    assert worker.refused == f"it lost 2 machines in a row, last {machine}"
    first = dispatch._run.plan.machines()[machine][0].id
    dispatch._run.finish()
    finished = dispatch._run.finished
    assert finished
    cell = next(cell for cell in finished.cells if cell.id == first)
    assert (cell.verdict, cell.reason) == (Verdict.INFRA, f"{reason}; {reason}")


@pytest.mark.parametrize(
    ("begun", "lost"),
    [
        ([], ["5.10-amd64"]),
        (["5.10-amd64"], ["5.10-amd64"]),
        (["5.10-amd64", "6.1-amd64"], ["5.10-amd64", "6.1-amd64"]),
        (["6.1-amd64"], ["6.1-amd64"]),
    ],
)
def test_a_lost_worker_taints_only_machines_that_began(
    dispatch: Dispatch, begun: list[str], lost: list[str]
) -> None:
    """If no report arrived that one had begun, it was the first; the worker has lost one host."""
    worker = Worker("tls://a", "a", "host")
    assign(dispatch, worker, "5.10-amd64", "6.1-amd64")
    for machine in begun:
        begin(dispatch, machine)
    dispatch._remove(worker.address, expected=False)
    assert sorted(reasons(dispatch)) == lost
    assert [need.machine for need in dispatch._waiting] == ["5.10-amd64", "6.1-amd64"]
    assert dispatch._losses["a"] == 1
    assert cast("Any", dispatch._client).cancelled == ["future of 6.1-amd64", "future of 5.10-amd64"]


def test_a_worker_that_is_told_to_end_taints_nothing(dispatch: Dispatch) -> None:
    worker = Worker("tls://a", "a", "host")
    assign(dispatch, worker, "6.1-amd64")
    begin(dispatch, "6.1-amd64")
    dispatch._remove(worker.address, expected=True)
    assert reasons(dispatch) == {}
    assert dispatch._losses["a"] == 0
    assert dispatch._waiting == [Need("6.1-amd64")]


def test_a_result_that_comes_too_late_is_ignored(dispatch: Dispatch) -> None:
    """Its machine was taken back, and runs elsewhere."""
    assign(dispatch, Worker("tls://a", "a", "host"), "6.1-amd64")
    dispatch._take_back("6.1-amd64")
    dispatch._end("6.1-amd64", {"archive": b"x", "kernels": ["k"], "left_out": [], "disk_mib": 0})
    assert dispatch._waiting == [Need("6.1-amd64")]
    assert dispatch._run.hosts == {}


def join(dispatch: Dispatch, name: str, memory: float = 4096.0, **change: object) -> Worker:
    """Let a worker join late that describes itself so."""
    address = f"tls://{name}"
    found = {
        "name": name,
        "versions": facts.versions(),
        "facts": known().model_dump_json(),
        "problem": "",
        "memory": memory,
        **change,
    }
    dispatch._unknown.add(address)
    dispatch._join(address, found, str(found["problem"]))
    return dispatch._workers[address]


def test_a_worker_cannot_forge_a_line_by_its_name(dispatch: Dispatch) -> None:
    """The view and the notes of the run have it as one visible line."""
    name = "a\x1b[2J\nworker b on c"
    worker = join(dispatch, name, facts="", problem="broken")
    assert worker.name.isprintable()
    assert all("\x1b" not in str(line) and "\n" not in str(line) for line in seen(dispatch))


def test_a_late_worker_is_what_it_describes(dispatch: Dispatch) -> None:
    """Also how much memory Dask's own option gives it, which may be less than its host has."""
    worker = join(dispatch, "a", memory=100.0)
    assert (worker.host, worker.store, worker.refused) == ("a", "s", "")
    assert worker.lacks(Need("m")) == f"{Need('m').memory_mib} MiB of memory"
    assert join(dispatch, "b").lacks(Need("m")) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"versions": {**facts.versions(), "harness": "0.0.9 (abc)"}},
            f"worker a has harness 0.0.9 (abc), this host has {facts.versions()['harness']}",
        ),
        ({"facts": "", "problem": "the plugin could not be set up"}, "the plugin could not be set up"),
        ({"facts": known(disk_mib=3).model_dump_json()}, "only 3 MiB of its disk are free, 1024 are needed"),
    ],
)
def test_a_late_worker_that_cannot_be_used_is_named(
    dispatch: Dispatch, change: dict[str, object], reason: str
) -> None:
    """And it is refused again when its nanny has started it again."""
    assert join(dispatch, "a", **cast("Any", change)).refused == reason
    assert any("worker a on " in str(line) and reason in str(line) for line in seen(dispatch))
    dispatch._remove("tls://a", expected=False)
    assert join(dispatch, "a").refused == reason


def seen(dispatch: Dispatch) -> list[Any]:
    return list(cast("Any", dispatch._view).events)


def test_a_scheduler_that_hangs_as_a_worker_joins_is_noticed(
    dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list of workers is asked for, and never comes."""
    asked: list[object] = []
    monkeypatch.setattr(Client, "loop", SimpleNamespace(add_callback=asked.append), raising=False)
    monkeypatch.setattr(deadlines, "SCHEDULER_S", 0.0)
    dispatch._look()
    assert len(asked) == 1
    with pytest.raises(InfrastructureError, match="does not answer"):
        dispatch._handle_one()
