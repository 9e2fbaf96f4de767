"""Measures one monitor in one new machine, so that nothing that an earlier monitor left has an effect."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.bench import places, policies
from harness.bench.model import Trial
from harness.bench.monitors import Monitor
from harness.bench.workloads import Workload
from harness.errors import InfrastructureError
from harness.guest.base import Guest
from harness.host import deadlines, resources
from harness.host.deadlines import Pace
from harness.images import native
from harness.kernels import catalogue
from harness.lab.lab import VmBench
from harness.plan.cells import Cell
from harness.run.supplies import Supplies
from harness.text import one_line

DRIVER = Path(__file__).with_name("driver.py")
DEFAULTS = Path(__file__).parents[2] / "agent/policies/default.yaml"
MAX_REASON = 300


class Trials:
    """Measures in machines of `bench` for `cell`; each must run with the accelerator `kind`."""

    def __init__(self, bench: VmBench, cell: Cell, supplies: Supplies, kind: str) -> None:
        self._bench = bench
        self._cell = cell
        self._supplies = supplies
        self._kind = kind

    def measure(self, number: int, monitor: Monitor, workloads: Sequence[Workload]) -> Trial:
        """Measure all workloads beside `monitor` in round `number`. Raises InfrastructureError."""
        with tempfile.TemporaryDirectory() as workdir:
            machine = self._bench.machine(self._cell, self._supplies, Path(workdir))
            try:
                machine.boot(Pace().within(deadlines.BOOT_S))
                if machine.accelerator != self._kind:
                    raise InfrastructureError(
                        f"{self._cell.machine} runs under {machine.accelerator} and not under {self._kind}"
                    )
                if monitor.is_agent:
                    machine.deploy()
                _copy(machine.guest, self._cell.arch, monitor.policy)
                return trial(machine.guest, number, monitor, workloads)
            finally:
                machine.destroy()


def trial(guest: Guest, number: int, monitor: Monitor, workloads: Sequence[Workload]) -> Trial:
    """Run the driver in a guest that has its files. Raises InfrastructureError."""
    guest.put_bytes(json.dumps(task(monitor, workloads)).encode(), f"{places.FILES}/task.json")
    command = f"python3 {places.DRIVER} <{places.FILES}/task.json"
    done = guest.run(["sh", "-c", command], deadlines.BENCH_TRIAL_S)
    if done.status:
        error = one_line(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2], MAX_REASON)
        raise InfrastructureError(f"the driver in the guest failed beside {monitor.name}: {error}")
    return read(done.stdout, number, monitor.name)


def read(report: bytes, number: int, monitor: str) -> Trial:
    """Return the driver's report as a trial; the guest may have printed anything."""
    try:
        found = {**json.loads(report), "round": number, "monitor": monitor}
        found["unable"] = one_line(found.get("unable", ""), MAX_REASON)
        return Trial.model_validate(found)
    except (ValueError, TypeError) as error:
        first = one_line(str(error).partition("\n")[0], MAX_REASON)
        raise InfrastructureError(f"the report of the driver in the guest is invalid: {first}") from error


def task(monitor: Monitor, workloads: Sequence[Workload]) -> dict[str, Any]:
    """Return what the driver reads."""
    return {
        "disk": places.DISK_SCRIPT,
        "output": places.OUTPUT,
        "watched": places.WATCHED,
        "argv": monitor.argv,
        "line": monitor.line,
        "prepare": monitor.prepare,
        "arm": monitor.arm,
        "folder": monitor.folder,
        "wraps": monitor.wraps,
        "workloads": [
            {
                "name": workload.name,
                "argv": workload.argv,
                "path": workload.path,
                "generated": workload.generated,
                "prepare": workload.prepare,
                "waits": workload.waits,
            }
            for workload in workloads
        ],
    }


def _copy(guest: Guest, arch: str, policy: str) -> None:
    guest.run(["mkdir", "-p", places.FILES])
    guest.put_bytes(_load(arch), places.LOAD, 0o755)
    guest.put_bytes(DRIVER.read_bytes(), places.DRIVER)
    made = {
        "policy.yaml": policies.for_agent(policy, DEFAULTS),
        "audit.rules": policies.for_auditd(policy, DEFAULTS) if policy != policies.OPENS else "",
        "folders.sh": policies.folders(policy, DEFAULTS) if policy != policies.OPENS else "",
    }
    for name, text in made.items():
        guest.put_bytes(text.encode(), f"{places.FILES}/{name}", 0o600)


@functools.cache
def _load(arch: str) -> bytes:
    return native.compile_static(resources.FOLDER / "bench-load.c", catalogue.architecture(arch))
