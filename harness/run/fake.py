"""A bench without machines: a script decides what happens in each test.

It is for the harness's own tests, and for trying a report or a matrix. The script maps `CELL::TEST` (globs)
to an act:

- pass, fail, skip, malformed; splat: the kernel logs a warning; deaf: the kernel log is missing;
- refuse; hang: the agent does not answer; broken: the agent ended;
- crash: the kernel panics; freeze: the guest does not answer; qemu-dies; lost: the connection is lost;
- kill-worker, interrupt, hup, term: a signal to this process; kill-parent: SIGKILL to the parent of its
  parent, in a cluster the worker; sleep: a day; hold: until the file `go` is beside the log; full: the
  host's disk is full; error: a defect of the harness.

Steps other than tests are `CELL::boot`, `CELL::deploy`, `CELL::load`, `CELL::quit` (the agent ends),
`CELL::end`, and `CELL::fetch`, which can only sleep or hold; `bench::accelerator`, `bench::pin`,
`bench::prepare`, `bench::reap` and `bench::close` can only fail. Further acts: `missing` (boot: no kernel),
`warm` (boot: the machine was restored from a snapshot), `silent` (load: the hooks never fire), `leak` and
`blind` (end: something is left behind; the search fails). Acts separated by commas are for the first time,
the second, and so on; the last one repeats.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, HungError, InfrastructureError, ProductError, RefusedError
from harness.guest.base import Guest
from harness.guest.selftest import Loaded, Ran
from harness.host import background
from harness.host.background import Work
from harness.host.deadlines import ORDINARY
from harness.host.progress import Phase, Progress, Step, silent
from harness.plan.cells import Cell, fits
from harness.plan.plan import Plan
from harness.results.model import Agent, KernelFacts, Package
from harness.run.machines import Machine, Pins
from harness.run.supplies import Deliveries, Supplies
from harness.vm.life import Death, DeathCause

PANIC = "Kernel panic - not syncing: sysrq triggered crash"
TRACE = (
    f"[    9.696548] {PANIC}".encode(),
    b"[    9.698567]  <TASK>",
    b"[    9.698817]  dump_stack_lvl+0x44/0x5c",
    b"[    9.699619]  panic+0x118/0x2f4",
    b"[    9.699908]  sysrq_handle_crash+0x16/0x20",
    b"[    9.700071]  __handle_sysrq.cold+0x44/0x11c",
    b"[    9.704587]  </TASK>",
)
SPLAT = (
    "[    9.668136] WARNING: CPU: 0 PID: 86 at kernel/events/core.c:13 perf_thing+0x63/0x1000",
    "[    9.676900] RIP: 0010:perf_thing+0x63/0x1000",
    "[    9.707875] ---[ end trace 0000000000000000 ]---",
)

RAISED: dict[str, Callable[[str], Exception]] = {
    "full": lambda _step: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "error": lambda step: ValueError(f"an unexpected error in {step}"),
    "broken": lambda _step: ProductError("the self-test server ended"),
    "refuse": lambda step: RefusedError(f"{step} refused", detail="the verifier refused it"),
}

SENT = {
    "kill-worker": signal.SIGKILL,
    "kill-parent": signal.SIGKILL,
    "interrupt": signal.SIGINT,
    "hup": signal.SIGHUP,
    "term": signal.SIGTERM,
}
SLEEP_S = 86_400.0  # a run that waits for it never ends


class FakeBench:
    """Machines that follow `script`; `log`, if given, gets a line for each event."""

    def __init__(self, script: Mapping[str, str] | None = None, log: Path | None = None) -> None:
        self.script = dict(script or {})
        self.log = log
        self.progress: Progress = silent
        self.agent: Agent | None = None
        self._times: Counter[str] = Counter()

    def accelerator(self, arch: str) -> tuple[str, str]:  # noqa: ARG002
        """Report emulation, after the step `accelerator`."""
        self._step("accelerator")
        return "tcg", "these machines are fakes"

    def releases(self, plan: Plan) -> dict[str, str]:
        """Return releases that look like Debian's."""
        return {cell.kernel.name: _release(cell) for cell in plan.cells}

    def pin(self, plan: Plan, progress: Progress) -> Pins:  # noqa: ARG002
        """Pin nothing: fakes have no kernels and no agent."""
        self._step("pin")
        return Pins()

    def prepare(self, plan: Plan, accelerator: str, progress: Progress) -> Supplies:
        """Fetch nothing; a machine whose `boot` is `missing` has no kernel."""
        for name, cells in plan.machines().items():
            progress(Step(Phase.FETCH, _release(cells[0]), machine=name, total=36 << 20))
            progress(Step(Phase.WAIT, machine=name))
        self._step("prepare")
        if any(self._acts(cell.id, "fetch") == ["sleep"] for cell in plan.cells):
            self.note("fetch")
            time.sleep(SLEEP_S)
        machines = plan.machines().items()
        package = Package(name="linux-image", version="1", sha256="0" * 64)
        return Supplies(
            accelerator=accelerator,
            kernels={
                name: KernelFacts(
                    name=cells[0].kernel.name,
                    requested=cells[0].kernel.requested,
                    release=_release(cells[0]),
                    packages=(package,),
                )
                for name, cells in machines
            },
            missing={
                name: "404" for name, cells in machines if self._acts(cells[0].id, "boot") == ["missing"]
            },
        )

    def deliver(
        self, plan: Plan, accelerator: str, progress: Progress, order: Sequence[str] = ()
    ) -> Deliveries:
        """Deliver machines whose `fetch` is `hold` later, each by itself, and all others at once."""
        held = [
            name for name, cells in plan.machines().items() if self._acts(cells[0].id, "fetch") == ["hold"]
        ]
        whole = self.prepare(plan, accelerator, progress)
        late = {name: why for name, why in whole.missing.items() if name in held}
        common = whole.model_copy(update={"missing": dict(whole.missing.items() - late.items())})
        work = Work(max(1, len(held)))
        parts = {name: work.submit(self._held, name, late) for name in order if name in held}
        return Deliveries(common, parts, work)

    def _held(self, machine: str, missing: Mapping[str, str]) -> Supplies:
        self.note(f"fetch {machine}")
        self.wait("hold")
        return Supplies(
            accelerator="tcg", missing={name: why for name, why in missing.items() if name == machine}
        )

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:  # noqa: ARG002
        """Return a machine that follows the script."""
        return FakeMachine(self, cell)

    def reap(self) -> list[str]:
        """End nothing: fakes have no processes."""
        self.note("reap")
        self._step("reap")
        return []

    def close(self) -> None:
        """Play the step `close`."""
        self._step("close")

    def _step(self, step: str) -> None:
        """Play a step of the bench itself, `bench::STEP`."""
        if make := RAISED.get(self.act("bench", step)):
            raise make(step)

    def act(self, cell: str, step: str) -> str:
        """Return the act of a step this time; `pass` if the script has none."""
        name = f"{cell}::{step}"
        acts = self._acts(cell, step)
        self._times[name] += 1
        return acts[min(self._times[name], len(acts)) - 1]

    def _acts(self, cell: str, step: str) -> list[str]:
        name = f"{cell}::{step}"
        return next((acts for glob, acts in self.script.items() if fits(name, (glob,))), "pass").split(",")

    def wait(self, act: str) -> None:
        """Sleep, or wait until the file `go` is beside the log."""
        if act == "sleep":
            time.sleep(SLEEP_S)
        assert self.log
        while not self.log.with_name("go").exists():
            background.pause(0.02)

    def note(self, line: str) -> None:
        """Log an event with the process id."""
        if self.log:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {line}\n")


class FakeMachine:
    """A guest of a FakeBench; it is its own self-test server."""

    start: Literal["cold", "warm"] = "cold"
    accelerator = "tcg"
    notes: tuple[str, ...] = ()

    def __init__(self, bench: FakeBench, cell: Cell) -> None:
        self.bench = bench
        self.cell = cell
        self._death: Death | None = None
        self._frozen = False
        self._printed: list[str] = []

    def boot(self, deadline_s: float) -> None:  # noqa: ARG002
        """Play the step `boot`."""
        self.bench.note(f"boot {self.cell.machine}")
        self.start = "warm" if self._play("boot") == "warm" else "cold"

    def deploy(self) -> None:
        """Play the step `deploy`."""
        self.bench.note(f"deploy {self.cell.machine}")
        self._play("deploy")

    uname = ""

    @property
    def guest(self) -> Guest:
        """Raise InfrastructureError: a fake has no files and no commands."""
        raise InfrastructureError("a fake machine has no guest")

    def slowness(self) -> float:
        """Return the slowness of an emulated CPU."""
        return ORDINARY

    def selftest(self, log: Path, deadline_s: float) -> FakeMachine:  # noqa: ARG002
        """Return the machine itself as the server."""
        log.write_text("fake agent\n", encoding="utf-8")
        return self

    def stand_by(self) -> None:
        """Log it; a fake starts nothing."""
        self.bench.note(f"stand by {self.cell.machine}")

    def command(self, cell: Cell, log: Path) -> FakeMachine:  # noqa: ARG002
        """Return the machine itself as the server."""
        return self.selftest(log, 0.0)

    def load(self, cell: Cell, deadline_s: float) -> Loaded:  # noqa: ARG002
        """Play the step `load`."""
        self.cell = cell
        act = self._play("load")
        state = act if act in ("silent", "attach-fail", "load-fail") else "fires"
        hooks = ({"event": "open", "point": "file_open", "type": "lsm", "state": state, "runs": 3},)
        return Loaded(id=1, seconds=0.5, capabilities={"lsm": state}, hooks=hooks, coverage={"open": "full"})

    def test(self, name: str, deadline_s: float) -> Ran:  # noqa: ARG002
        """Play the step with the name of the test."""
        self.bench.note(f"test {self.cell.id} {name}")
        return _answer(name, self._play(name))

    def answers(self, deadline_s: float) -> bool:  # noqa: ARG002
        """Return False if the script ended or froze the guest."""
        return not self._death and not self._frozen

    def console(self, deadline_s: float = 0.0) -> bytes:  # noqa: ARG002
        """Return the warnings of steps outside of tests."""
        return "".join(f"{line}\n" for line in self._printed).encode()

    def leftovers(self, deadline_s: float) -> list[str]:  # noqa: ARG002
        """Play the step `end`."""
        self.bench.note(f"end {self.cell.id}")
        act = self._play("end")
        if act == "blind":
            raise InfrastructureError("the search failed")
        return ["program bpf_prog_1"] if act == "leak" else []

    hooks: tuple[Any, ...] = ()

    def close(self) -> HarnessError | None:
        """Play the step `quit`."""
        if self._death or self._frozen:
            return InfrastructureError("the SSH connection is gone")
        try:
            act = self._play("quit")
        except HarnessError as error:
            return error
        return ProductError("the self-test server ended") if act == "fail" else None

    def death(self) -> Death | None:
        """Return the death that the script caused."""
        return self._death

    def collect(self, folder: Path) -> None:
        """Write a console with the death."""
        (folder / "console.log").write_text(f"{self._death or 'alive'}\n", encoding="utf-8")

    def keep(self, cell: str) -> str:
        """Log that the machine is kept."""
        self.bench.note(f"keep {self.cell.machine}")
        return f"ssh {cell}"

    def destroy(self) -> None:
        """Log that the machine is destroyed."""
        self.bench.note(f"destroy {self.cell.machine}")

    def _play(self, step: str) -> str:
        act = self.bench.act(self.cell.id, step)
        if act == "crash":
            self._death = Death(DeathCause.PANIC, PANIC, TRACE)
        elif act == "qemu-dies":
            self._death = Death(DeathCause.QEMU, "QEMU was killed by signal 9")
        elif act in SENT:
            os.kill(_parent(os.getppid()) if act == "kill-parent" else os.getpid(), SENT[act])
        elif act in ("hang", "freeze"):
            self._frozen = act == "freeze"
            raise HungError(f"no answer to {step}")
        elif act in ("sleep", "hold"):
            self.bench.wait(act)
        elif act == "splat":
            self._printed += SPLAT
        elif act in RAISED:
            raise RAISED[act](step)
        if self._death or act == "lost":
            self._frozen = True
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
    warning = SPLAT if act == "splat" else ()
    log = (f"[1.000001] agent selftest: begin {name}", *warning, f"[1.000002] agent selftest: end {name}")
    return Ran(
        id=1,
        name=name,
        verdict=verdict,
        reason=reason,
        assertions=assertions,
        ledger=ledger,
        duration_s=0.1,
        log=() if act == "deaf" else log,
    )


def _release(cell: Cell) -> str:
    return f"{cell.kernel.series}.1-{cell.kernel.flavour}-{cell.arch}"


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
