"""A bench without machines: what happens in each test is written down beforehand.

For the harness's own tests, and for trying a report or a matrix out. A script maps `CELL::TEST` (globs) to an
act: pass, fail, skip, crash, qemu-dies, lost, hang, refuse, malformed, kill-worker, interrupt. `CELL::boot`
and `CELL::load` are steps as well, and the act `missing` means that there is nothing to boot.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from agent.selftest.protocol import Loaded, Ran
from harness.bench import Death, HungError, Machine, RefusedError, Say, Supplies
from harness.errors import InfrastructureError
from harness.expansion import Cell
from harness.plan import Plan
from harness.results import KernelFacts, Package

PANIC = "Kernel panic - not syncing: sysrq triggered crash"


class FakeBench:
    """Machines that do what `script` says; `log`, if given, gets a line for each thing that happens."""

    def __init__(self, script: Mapping[str, str] | None = None, log: Path | None = None) -> None:
        self.script = dict(script or {})
        self.log = log

    def accelerator(self) -> tuple[str, str]:
        """Neither."""
        return "tcg", "none: these machines are fakes"

    def releases(self, plan: Plan) -> dict[str, str]:
        """Releases that look like Debian's."""
        return {cell.kernel.name: _release(cell) for cell in plan.cells}

    def prepare(self, plan: Plan, accelerator: str, say: Say) -> Supplies:
        """Nothing to fetch; a machine whose `boot` is `missing` cannot be had."""
        say("fetching nothing")
        machines = plan.machines().items()
        package = Package(name="linux-image", version="1", sha256="0" * 64)
        return Supplies(
            accelerator=accelerator,
            kernels={
                name: KernelFacts(
                    name=cells[0].kernel.name,
                    requested=cells[0].kernel.series,
                    release=_release(cells[0]),
                    packages=(package,),
                )
                for name, cells in machines
            },
            missing={name: "404" for name, cells in machines if self.act(cells[0].id, "boot") == "missing"},
        )

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:  # noqa: ARG002
        """A machine that plays the script."""
        return FakeMachine(self, cell)

    def reap(self) -> list[str]:
        """Nothing outlives a fake."""
        self.note("reap")
        return []

    def close(self) -> None:
        """Nothing is open."""

    def act(self, cell: str, step: str) -> str:
        """What the script says of a step; `pass` if nothing."""
        name = f"{cell}::{step}"
        return next((act for glob, act in self.script.items() if fnmatchcase(name, glob)), "pass")

    def note(self, line: str) -> None:
        """Write down that something happened, and in which process."""
        if self.log:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {line}\n")


class FakeMachine:
    """A guest of a FakeBench; it is its own self-test server."""

    start: Literal["cold", "warm"] = "cold"

    def __init__(self, bench: FakeBench, cell: Cell) -> None:
        self.bench = bench
        self.cell = cell
        self._death: Death | None = None

    def boot(self, deadline_s: float) -> None:  # noqa: ARG002
        """Play the step `boot`."""
        self.bench.note(f"boot {self.cell.machine}")
        self._play("boot")

    def deploy(self) -> None:
        """Nothing to put anywhere."""

    def selftest(self, log: Path) -> FakeMachine:
        """The server is the machine."""
        log.write_text("fake agent\n", encoding="utf-8")
        return self

    def load(self, cell: Cell, deadline_s: float) -> Loaded:  # noqa: ARG002
        """Play the step `load`."""
        self.cell = cell
        self._play("load")
        hooks = ({"event": "open", "point": "file_open", "type": "lsm", "state": "fires", "runs": 3},)
        return Loaded(
            id=1, seconds=0.5, capabilities={"lsm": "fires"}, hooks=hooks, coverage={"open": "full"}
        )

    def test(self, name: str, deadline_s: float) -> Ran:  # noqa: ARG002
        """Play the step that is called like the test."""
        self.bench.note(f"test {self.cell.id} {name}")
        return _answer(name, self._play(name))

    def close(self) -> None:
        """Nothing runs."""

    def death(self) -> Death | None:
        """What the script did to the guest."""
        return self._death

    def collect(self, folder: Path) -> None:
        """A console that says how it ended."""
        (folder / "console.log").write_text(f"{self._death or 'alive'}\n", encoding="utf-8")

    def destroy(self) -> None:
        """Write down that the machine is gone."""
        self.bench.note(f"destroy {self.cell.machine}")

    def _play(self, step: str) -> str:
        act = self.bench.act(self.cell.id, step)
        if act == "crash":
            self._death = Death("guest", PANIC)
        elif act == "qemu-dies":
            self._death = Death("host", "QEMU was killed by signal 9")
        elif act in ("kill-worker", "interrupt"):
            os.kill(os.getpid(), signal.SIGKILL if act == "kill-worker" else signal.SIGINT)
        elif act == "hang":
            raise HungError(f"no answer to {step}")
        elif act == "refuse":
            raise RefusedError(f"{step} refused", detail="verifier says no")
        if self._death or act == "lost":
            raise InfrastructureError("the SSH connection is gone")
        return act


def _answer(name: str, act: str) -> Ran:
    ok = act != "fail"
    assertions = ({"name": "arrived", "ok": ok, "expected": 1, "got": 1 if ok else 0},)
    ledger: dict[str, Any] = {"open": {"generated": 7, "delivered": 7, "matched": 7}}
    if act == "malformed":
        ledger = {"open": {"generated": -1}}
    verdict = {"fail": "FAIL", "skip": "SKIP"}.get(act, "PASS")
    reason = "lsm is silent here" if verdict == "SKIP" else ""
    return Ran(
        id=1, name=name, verdict=verdict, reason=reason, assertions=assertions, ledger=ledger, duration_s=0.1
    )


def _release(cell: Cell) -> str:
    return f"{cell.kernel.series}.1-{cell.kernel.flavour}-{cell.arch}"
