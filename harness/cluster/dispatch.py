"""Hands out the machines of a run to the workers of a cluster, and gathers results.

A worker runs one machine, and has the next one already, so that it never waits for the client. The client
decides, and not Dask's scheduler: a task with resources is never queued there, so a worker that joins late
would get none. Each task is bound to one worker. When this worker is lost, or another one is idle, the client
takes the task back and decides again.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, KilledWorker

from harness.cluster import facts, placement, plugin, wire
from harness.cluster.facts import Facts
from harness.cluster.kit import Blobs, Kit
from harness.cluster.placement import KVM, MAX_LOSSES, Need, Past, Worker
from harness.cluster.received import Received, record_lost, record_not_run
from harness.errors import InfrastructureError
from harness.host import deadlines
from harness.host.progress import Phase, Step
from harness.results.model import Attempt, TestResult
from harness.results.verdict import Verdict
from harness.run.run import Run
from harness.run.view import View
from harness.text import one_line

_LOOK_S = 0.5  # signals wait at most this long for the main thread
_ASK = 10  # looks without an event after which the scheduler is asked whether it is alive
_STARTING = 8  # workers that are described, or receive files, at the same time


@dataclass
class Execution:
    """One execution of a machine on a worker; `future` is None until it was submitted."""

    need: Need
    worker: Worker
    future: Future | None = None
    began: bool = False  # whether the machine boots; until then the worker prepares it at most
    tests: dict[tuple[str, str], TestResult] = field(default_factory=dict)  # results seen so far


class Dispatch:
    """Runs the machines `order` of `run`, from first to last, and records the result of each."""

    def __init__(
        self, client: Client, run: Run, kit: Kit, blobs: Blobs, received: Received, view: View
    ) -> None:
        self._client = client
        self._run = run
        self._kit = kit
        self._blobs = blobs
        self._received = received
        self._view = view
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(_STARTING, thread_name_prefix="cluster")
        self._numbers = itertools.count(1)
        self._topic = f"harness-{run.id}"
        self._waiting: list[Need] = []
        self._running: dict[str, Execution] = {}  # by key
        self._workers: dict[str, Worker] = {}  # by address
        self._unknown: set[str] = set()  # addresses of workers that are not described yet
        self._gone: dict[str, tuple[Worker, float]] = {}  # lost workers by name, until they are given up
        self._refused: dict[str, str] = {}  # by name
        self._losses: Counter[str] = Counter()  # of workers in a row, by name
        self._lost: dict[str, list[Attempt]] = {}  # by machine
        self._past = Past()
        self._sending: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by store
        self._sent: dict[str, set[str]] = {}  # digests of blobs by store
        self._first_until = 0.0  # when the first worker must have joined
        self._quiet = 0  # looks since the last event
        self._changed = True  # whether another worker, or another machine, may be placed now
        self._planned = set(run.plan.pairs())
        self._shown: set[tuple[str, str]] = set()  # tests

    def play(self, order: list[str]) -> None:
        """Run to the end. Raises InfrastructureError if the scheduler is lost, and OSError."""
        machines = self._run.plan.machines()
        self._waiting = [self._need(name, machines[name][0].arch) for name in order]
        self._client.subscribe_topic(self._topic, self._heard)
        self._client.subscribe_topic("all", self._workers_changed)
        self._first_until = time.monotonic() + deadlines.WORKER_BACK_S
        self._look()
        while self._waiting or self._running:
            self._place()
            self._handle_one()

    def close(self) -> None:
        """Take back what runs; its tests that ended keep their results."""
        futures = [execution.future for execution in self._running.values() if execution.future]
        for execution in self._running.values():
            for (cell, _test), result in execution.tests.items():
                self._run.record_test(cell, result)
        self._running.clear()
        if self._client.status == "running":
            self._client.cancel(futures, force=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _need(self, machine: str, arch: str) -> Need:
        kvm = self._kit.settings.accelerator == KVM
        return Need(machine, arch, kvm, self._kit.pins.kernels.get(machine, ""))

    # Events arrive in threads of Dask; all that changes this object runs in the thread of `play`.

    def _handle_one(self) -> None:
        if self._client.status != "running":
            raise self._lost_scheduler("was lost")
        try:
            self._events.get(timeout=_LOOK_S)()
            self._quiet = 0
        except queue.Empty:
            self._changed = True  # time has passed: a lost worker may be given up
            self._quiet += 1
            if self._quiet == _ASK:
                self._client.loop.add_callback(self._ask)
            # Looks are counted, and not seconds, because this process may have been suspended.
            if self._quiet * _LOOK_S >= deadlines.SCHEDULER_S:
                raise self._lost_scheduler("does not answer") from None

    async def _ask(self) -> None:
        """Get an event from the scheduler. Runs in the event loop of Dask."""
        with contextlib.suppress(OSError):  # then the status of the client changes
            await self._client.scheduler.identity(n_workers=0)
            self._events.put(lambda: None)

    def _lost_scheduler(self, how: str) -> InfrastructureError:
        hint = f"start it, then run the rest: harness run --resume {self._run.folder}"
        return InfrastructureError(f"the scheduler of the cluster {how}", hint=hint)

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        self._events.put(lambda: self._show(event[1]))

    def _workers_changed(self, event: tuple[float, dict[str, Any]]) -> None:
        if event[1].get("action") == "remove-worker":
            address, expected = event[1]["worker"], event[1]["expected"]
            self._events.put(lambda: self._remove(address, expected=expected))
        elif event[1].get("action") == "add-worker":
            self._events.put(self._look)

    def _show(self, message: dict[str, Any]) -> None:
        execution = self._running.get(message["key"])
        if execution is None:
            return
        event = wire.parse(message["line"])
        if isinstance(event, wire.Tested):
            cell, result = event.cell, event.result
            if (cell, result.name) in self._planned:
                execution.tests[cell, result.name] = result
                if event.final:
                    self._show_test(cell, result)
                else:
                    self._view.repeated(cell, result)
        elif event is not None:
            execution.began |= isinstance(event, Step) and event.phase is Phase.BOOT
            self._view(event)

    def _show_test(self, cell: str, result: TestResult) -> None:
        if (cell, result.name) not in self._shown:
            self._shown.add((cell, result.name))
            self._view.ended(cell, result)

    def _look(self) -> None:
        """Find workers that joined; `play` does not wait for a scheduler that may hang."""
        self._client.loop.add_callback(self._list)

    async def _list(self) -> None:
        """Get the addresses of all workers. Runs in the event loop of Dask."""
        with contextlib.suppress(OSError):  # then the status of the client changes
            present = set((await self._client.scheduler.identity(n_workers=-1))["workers"])
            self._events.put(lambda: self._found(present))

    def _found(self, present: set[str]) -> None:
        """Ask each worker that joined what it is."""
        for address in present - self._workers.keys() - self._unknown:
            self._unknown.add(address)
            self._pool.submit(self._describe, address)
        if not (self._workers or self._unknown or self._gone):
            self._view("the cluster has no worker yet")

    def _describe(self, address: str) -> None:
        try:
            found = self._client.run(plugin.describe, workers=[address])[address]
        except Exception as error:  # noqa: BLE001 - any error of the worker is raised here, and refuses only it
            problem = one_line(f"{type(error).__name__}: {error}")
            self._events.put(lambda: self._join(address, {}, problem))
        else:
            self._events.put(lambda: self._join(address, found, found["problem"]))

    def _join(self, address: str, found: dict[str, Any], problem: str) -> None:
        if address not in self._unknown:
            return  # lost meanwhile
        self._unknown.discard(address)
        self._changed = True
        worker = Worker(address, one_line(str(found.get("name", address))), host=one_line(address))
        self._workers[address] = worker
        different = facts.differs(found["versions"], f"worker {worker.name}") if found else ""
        if not different and found.get("facts"):
            described = Facts.model_validate_json(found["facts"])
            worker.host, worker.store = described.host.name, described.store
            worker.accelerators = described.accelerators
            worker.memory_mib = int(found["memory"])
            self._past.kernels.setdefault(worker.store, set()).update(described.kernels)
            problem = facts.refusal(described)
        self._gone.pop(worker.name, None)
        if reason := different or problem or self._refused.get(worker.name, ""):
            self._refuse(worker, reason)

    def _refuse(self, worker: Worker, reason: str) -> None:
        worker.refused = reason
        if worker.name not in self._refused:
            line = f"worker {worker.name} on {worker.host} gets no work: {reason}"
            self._run.remark(line)
            self._view(line)
        self._refused[worker.name] = reason
        for key, execution in self._of(worker):
            if not execution.began:
                self._take_back(key)

    def _remove(self, address: str, *, expected: bool) -> None:
        self._unknown.discard(address)
        worker = self._workers.pop(address, None)
        if worker is None:
            return
        self._changed = True
        self._gone[worker.name] = worker, time.monotonic() + deadlines.WORKER_BACK_S
        executions = self._of(worker)
        # The report that the first one began may have been lost with the worker.
        begun = [key for key, execution in executions if execution.began] or [
            key for key, _ in executions[:1]
        ]
        machine = ""
        for key, execution in reversed(executions):
            if key not in begun:
                self._take_back(key)
                continue
            machine = execution.need.machine
            self._take_back(key, f"worker {worker.name} on {worker.host} was lost", counts=not expected)
        if machine and not expected:
            self._blame(worker, machine)

    def _of(self, worker: Worker) -> list[tuple[str, Execution]]:
        """Return the executions of a worker, in the order in which it runs them."""
        return [(key, execution) for key, execution in self._running.items() if execution.worker is worker]

    def _place(self) -> None:
        """Give each idle worker a machine, then each worker the next one, which it prepares."""
        if not self._changed:
            return
        self._changed = False
        for number in range(placement.SHARES):
            placed = ((worker, self._of(worker)) for worker in self._workers.values())
            # A worker runs what it gets in this order, so that one is sent after the other.
            free = [
                worker
                for worker, executions in placed
                if len(executions) == number and all(execution.future for _, execution in executions)
            ]
            for need, worker in placement.choose(self._waiting, free, self._past, self._workers.values()):
                self._waiting.remove(need)
                self._assign(need, worker)
        self._rebalance()
        if self._waiting and not self._unknown:
            self._give_up()

    def _assign(self, need: Need, worker: Worker) -> None:
        key = f"{self._topic}-{next(self._numbers)}"
        self._running[key] = Execution(need, worker)
        self._pool.submit(self._start, key, need, worker)

    def _rebalance(self) -> None:
        """Give idle workers the machines that wait for their turn on another one."""
        placed = [(worker, self._of(worker)) for worker in self._workers.values()]
        idle = [worker for worker, executions in placed if not executions]
        prepared = {
            execution.need: key
            for _worker, executions in placed
            for key, execution in executions[1:]
            if not execution.began
        }
        for need, worker in placement.choose([*prepared], idle, self._past, self._workers.values()):
            self._cancel(prepared[need])
            self._assign(need, worker)

    def _give_up(self) -> None:
        """Record NOT_RUN for machines that no worker can run, nor one that may come back."""
        now = time.monotonic()
        absent = [worker for worker, until in self._gone.values() if until > now]
        if not (self._workers or absent) and now < self._first_until:
            return
        for need in list(self._waiting):
            if reason := placement.impossible(need, [*self._workers.values(), *absent]):
                self._waiting.remove(need)
                cells = self._received.left(need.machine)
                if lost := self._lost.get(need.machine):
                    record_lost(self._run, cells, lost)
                else:
                    record_not_run(self._run, cells, reason)
                self._view(f"{need.machine}: not run: {reason}")

    def _start(self, key: str, need: Need, worker: Worker) -> None:
        """Send what the worker's host does not have, then the task. Runs in the pool."""
        try:
            left_s = self._run.pace.left()
            limit_s = left_s if self._run.pace.ends_at else 0.0
            part = self._kit.part(self._received.rest(), need.machine, limit_s, self._topic)
            self._send(part.blobs.values(), worker)
            future = self._client.submit(
                plugin.play,
                part.to_bytes(),
                key=key,
                workers=[worker.address],
                allow_other_workers=False,
                resources=need.resources,
                pure=False,
            )
        except Exception as error:  # noqa: BLE001 - lost in this thread, it would leave the run waiting forever
            reason = f"worker {worker.name} on {worker.host}: {one_line(str(error))}"
            self._events.put(lambda: self._lose(key, reason))
        else:
            self._events.put(lambda: self._submitted(key, future))
            future.add_done_callback(lambda future: self._gather(key, future))

    def _send(self, digests: Any, worker: Worker) -> None:
        with self._sending[worker.store]:  # the other workers of this host wait for the same files
            known = self._sent.setdefault(worker.store, set())
            wanted = [digest for digest in digests if digest not in known]
            if not wanted:
                return
            run = self._client.run
            for digest in run(plugin.missing, wanted, workers=[worker.address])[worker.address]:
                for chunk in plugin.chunks(self._blobs[digest]):
                    run(plugin.receive, self._topic, digest, chunk, workers=[worker.address])
            known.update(wanted)

    def _submitted(self, key: str, future: Future) -> None:
        if key in self._running:
            self._running[key].future = future
            self._changed = True
        else:
            self._client.cancel([future], force=True)

    def _gather(self, key: str, future: Future) -> None:
        """Fetch a result at once: it dies with its worker. Runs in a thread of Dask."""
        try:
            outcome = future.result(timeout=deadlines.GATHER_S)
        except (CancelledError, KilledWorker) as error:
            reason = f"worker lost: {type(error).__name__}"
            if isinstance(error, KilledWorker):
                reason = f"worker {error.last_worker.name} died while it ran (KilledWorker)"
            self._events.put(lambda: self._lose(key, reason))
        except Exception as error:  # noqa: BLE001 - any error of the task, or of reading it, is raised here
            reason = one_line(f"{type(error).__name__}: {error}")
            self._events.put(lambda: self._lose(key, reason))
        else:
            self._events.put(lambda: self._end(key, outcome))

    def _end(self, key: str, outcome: dict[str, Any]) -> None:
        execution = self._running.get(key)
        if execution is None:
            return  # it was taken back meanwhile
        worker, machine = execution.worker, execution.need.machine
        self._past.kernels.setdefault(worker.store, set()).update(outcome["kernels"])
        where = f"worker {worker.name} on {worker.host}"
        if not outcome["archive"]:
            self._lose(key, f"{where}: {outcome['reason']}")
            return
        try:
            results = self._received.accept(machine, outcome["archive"], self._lost.get(machine, []))
        except InfrastructureError as error:
            self._lose(key, f"{where}: {error.message}")
            return
        del self._running[key]
        self._changed = True
        self._losses[worker.name] = 0
        if outcome["left_out"]:
            names = one_line(", ".join(outcome["left_out"]))
            self._run.remark(f"{machine}: evidence that is too large stayed on {worker.host}: {names}")
        self._show_rest(results)
        self._view(Step(Phase.WAIT, machine=machine))
        if outcome["disk_mib"] < facts.LEAST_DISK_MIB:
            self._refuse(worker, f"only {outcome['disk_mib']} MiB of its disk are free")

    def _show_rest(self, results: Any) -> None:
        """Show tests whose line did not arrive."""
        for cell in results.cells:
            for test in cell.tests:
                self._show_test(cell.id, test)

    def _lose(self, key: str, reason: str) -> None:
        """Record that a worker lost an execution; after `MAX_LOSSES` in a row it gets no more work."""
        if execution := self._take_back(key, reason):
            self._blame(execution.worker, execution.need.machine)

    def _blame(self, worker: Worker, machine: str) -> None:
        self._losses[worker.name] += 1
        if self._losses[worker.name] >= MAX_LOSSES:
            self._refuse(worker, f"it lost {MAX_LOSSES} machines in a row, last {machine}")

    def _take_back(self, key: str, lost: str = "", *, counts: bool = True) -> Execution | None:
        """Cancel an execution, so that its machine runs again first, unless it was `lost` `MAX_LOSSES` times.

        Returns the execution, None if it has ended meanwhile.
        A loss `counts` unless the worker was told to end.
        """
        execution = self._cancel(key)
        if execution is None:
            return None
        machine = execution.need.machine
        losses = self._lost.setdefault(machine, [])
        if lost:
            self._view(f"{machine}: {lost}")
            self._past.lost_by.setdefault(machine, set()).add(execution.worker.address)
        if lost and counts:
            losses.append(Attempt(verdict=Verdict.INFRA, reason=one_line(lost, 400)))
        if len(losses) < MAX_LOSSES:
            self._waiting.insert(0, execution.need)
        else:
            record_lost(self._run, self._received.left(machine), losses)
        return execution

    def _cancel(self, key: str) -> Execution | None:
        execution = self._running.pop(key, None)
        if execution:
            self._changed = True
            self._keep_failures(execution)
            if execution.future:
                self._client.cancel([execution.future], force=True)
            self._view(Step(Phase.WAIT, machine=execution.need.machine))
        return execution

    def _keep_failures(self, execution: Execution) -> None:
        """Record what failed in an execution that is given up: the next one need not fail."""
        for (cell, _test), result in execution.tests.items():
            if result.verdict.exit_code == Verdict.FAIL.exit_code:
                self._run.record_test(cell, result)
