"""Provides real machines: kernels and images from Debian, machines from libvirt, guests over SSH."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import (
    HarnessError,
    HungError,
    InfrastructureError,
    MissingError,
    NotAcceptedError,
    ProductError,
)
from harness.guest import selftest, state
from harness.guest.base import Channel, Guest
from harness.guest.deploy import deploy, for_guest, with_types
from harness.guest.selftest import BrokenServerError, Loaded, Ran, SelftestClient
from harness.guest.state import State
from harness.host import acceleration, deadlines
from harness.host.acceleration import Accelerator
from harness.host.cache import Cache
from harness.host.progress import Event, Progress, silent
from harness.kernels import Lock, ResolvedKernel, symbols
from harness.lab import acceptance, emulation, provenance
from harness.lab.command import CommandServer
from harness.lab.supplies import Preparation, bundle, resolve_all
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import Agent
from harness.run.machines import Pins, Selftest
from harness.run.supplies import Deliveries, Supplies
from harness.text import one_line
from harness.vm import reaper
from harness.vm.connection import EMBEDDED, Connection, reap_domains
from harness.vm.console import MAX_BYTES
from harness.vm.domain import MachineSpec
from harness.vm.life import Death
from harness.vm.machine import Machine as VirtualMachine
from harness.vm.ownership import RunDirectory
from harness.vm.ports import Port
from harness.vm.restart import NoKvmError, Restarter
from harness.vm.snapshot import Snapshots
from harness.vm.warm import Starter

MEMORY_MIB = 512
ROOT_IN_MEMORY_MIB = 1024  # at least, for guests that hold their root in memory
STATE_MIB = 256  # of the disk of an installed root; small, because suites fill it

_SETTLE_S = 0.2  # the kernel frees programs and maps a moment after the agent's end
_SHOWN = "<1>"  # the level of an alert, which the console also shows with the parameter `quiet`
_LOOK_S = 0.05  # between two looks at the console


class VmBench:
    """Machines of a libvirt `uri` ("" is the embedded one), which is opened for the first machine.

    `lock` pins kernels: a lock, or a file that may not exist. With `cold` no machine is restored or saved.
    `accelerator` is one of `acceleration.CHOICES`. `connection` is an open one to use instead, which stays
    open: a process can open the embedded libvirt only once.
    """

    def __init__(
        self,
        uri: str = "",
        lock: Path | Lock | None = None,
        *,
        cold: bool = False,
        accelerator: str = "auto",
        connection: Connection | None = None,
    ) -> None:
        self._uri = uri
        self._wanted = accelerator
        self._lock = lock
        self._cold = cold
        self.progress: Progress = to_stderr
        self.agent: Agent | None = None
        self.taken: dict[str, ResolvedKernel] = {}  # kernels of another host, by machine
        self.gdb = False  # whether kernels can be debugged; such machines are to be booted and not restored
        self.memory_mib = MEMORY_MIB
        self.icount = False  # whether the clock of the guests counts instructions; needs TCG
        self.extra = ""  # packages of the guests' root; see `images.root_image`
        self._emulates: dict[str, Accelerator] = {}  # by architecture, once this run did
        self._snapshots: Snapshots | None = None
        self._open = contextlib.ExitStack()
        self._connection = self._borrowed = connection

    def accelerator(self, arch: str) -> tuple[str, str]:
        """Return the result of `harness.host.acceleration`.

        Raises ConfigError with the packages to install if this host lacks programs for such guests.
        """
        emulation.check_programs([arch])
        found = self._accelerator(arch)
        return found.kind, str(found)

    def _accelerator(self, arch: str) -> Accelerator:
        # Read before each machine: another worker may have rejected KVM. A run that lost KVM does not return
        # to it, also if only the permission was lost for a moment: its cells would be hard to compare.
        found = self._emulates.get(arch) or acceleration.find(arch, self._wanted)
        if found.kind == "tcg":
            self._emulates[arch] = found
        return found

    def releases(self, plan: Plan) -> dict[str, str]:
        """Ask the lock, then the repositories; the release of a kernel that is built here is not known."""
        cells = {cell.kernel.name: cell for cell in plan.cells if not cell.kernel.fragment}
        found, _ = resolve_all(cells, self._lock, silent)
        return {name: kernel.release for name, kernel in found.items()}

    def prepare(self, plan: Plan, accelerator: str, progress: Progress) -> Supplies:
        """Resolve, fetch and build; a kernel that cannot be fetched affects its own machines only."""
        return self._preparation(accelerator, progress).supplies(plan)

    def deliver(
        self, plan: Plan, accelerator: str, progress: Progress, order: Sequence[str] = ()
    ) -> Deliveries:
        """Do the same in threads, until the bench is closed."""
        deliveries = self._preparation(accelerator, progress).deliver(plan, order)
        self._open.callback(deliveries.end)
        return deliveries

    def _preparation(self, accelerator: str, progress: Progress) -> Preparation:
        preparation = Preparation(accelerator, progress, self._lock, self.agent)
        preparation.extra = self.extra
        preparation.taken = self.taken
        return preparation

    def pin(self, plan: Plan, progress: Progress) -> Pins:
        """Resolve through the lock, then the repositories."""
        return Preparation("", progress, self._lock, self.agent).pins(plan)

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> VmMachine:
        """Return a machine of this bench's only connection."""
        files = supplies.files[cell.machine]
        spec = MachineSpec(
            kernel=Path(files["kernel"]),
            initramfs=Path(files["initramfs"]),
            root=Path(files["root"]) if "root" in files else None,
            disks=(Path(files["modules"]),) if "modules" in files else (),
            workdir=workdir,
            cmdline=cell.cmdline.args if cell.cmdline else "",
            arch=cell.arch,
            vcpus=cell.kernel.vcpus,
            memory_mib=self.memory_mib if "root" in files else max(self.memory_mib, ROOT_IN_MEMORY_MIB),
            gdb_port=self._gdb_port(cell, supplies) if self.gdb else 0,
            icount=self.icount,
            state_mib=STATE_MIB if cell.root else 0,
        )
        hypervisor, found = self._hypervisor(), self._accelerator(cell.arch)

        def restarter(snapshots: Snapshots | None) -> Restarter:
            def starter(kind: str) -> Starter:
                made = replace(spec, kind=kind)
                return Starter(lambda: VirtualMachine(made, hypervisor), snapshots, self.progress)

            return Restarter(starter, found.kind, name=cell.machine, arch=cell.arch, wanted=self._wanted)

        machine = VmMachine(restarter(self._snapshots))
        machine.trial = lambda: restarter(None)
        machine.unproven = supplies.unproven.get(cell.machine, "")
        machine.base = Path(supplies.base)
        if found.kind == "tcg" and supplies.accelerators.get(cell.arch) == "kvm":
            machine.notes = (acceleration.given_up(found),)
        machine.agent = supplies.agent
        machine.arch = cell.arch
        machine.types = (Path(files["types"]),) if "types" in files else ()
        machine.release = supplies.kernels[cell.machine].release if cell.machine in supplies.kernels else ""
        return machine

    def _gdb_port(self, cell: Cell, supplies: Supplies) -> int:
        """Return a port for QEMU's debugging stub; report the gdb command that attaches to it."""
        port = self._open.enter_context(Port()).number
        release = supplies.kernels[cell.machine].release
        if cell.kernel.series:
            self.progress(symbols.advice(cell.kernel.series, release, cell.arch))
        built = f"{cell.kernel.build}/vmlinux" if cell.kernel.build else ""
        vmlinux = shlex.quote(cell.kernel.vmlinux or built or symbols.vmlinux(release))
        self.progress(f"gdb {vmlinux} -ex 'target remote 127.0.0.1:{port}'")
        return port

    def reap(self, *, also_kept: bool = False) -> list[str]:
        """Remove the remains of dead runs; machines that were kept for the user only with `also_kept`."""
        reaped = reaper.reap(reap_domains=reap_domains, also_kept=also_kept, warn=self.progress)
        return [str(one) for one in reaped]

    def close(self) -> None:
        """Close the connection, which ends every machine of it, unless it was given."""
        self._open.close()
        self._connection = self._borrowed

    def _hypervisor(self) -> Connection:
        if self._connection is None:
            uri = self._uri or EMBEDDED
            directory = self._open.enter_context(RunDirectory.claim())
            self._connection = self._open.enter_context(
                Connection.open(directory, uri, progress=self.progress)
            )
        if self._snapshots is None and self._connection.identity and not self._cold:
            self._snapshots = Snapshots(self._connection.identity, Cache(progress=self.progress))
        return self._connection


class VmMachine:
    """A libvirt machine, as the protocol `Machine` of `run/machines.py`."""

    start: Literal["cold", "warm"] = "cold"
    base = Path()  # the folder that the files of suites are named from
    agent: Agent | None = None  # the agent kept for this run; None deploys the current build
    types: tuple[Path, ...] = ()  # reduced type information that goes with the agent, as RELEASE.btf
    arch = "amd64"
    release = ""  # that the kernel resolved to
    unproven = ""  # digest of a kernel that has to boot some times before its cells count
    uname = ""
    notes: tuple[str, ...] = ()

    def __init__(self, starter: Restarter) -> None:
        self._starter = starter
        # Makes another machine of this kind, which is not saved.
        self.trial: Callable[[], Restarter] = lambda: starter
        self._fresh: State | None = None  # what was in the guest before anything of ours
        self._waiting: Channel | None = None  # to the interpreter of the next self-test server

    @property
    def accelerator(self) -> str:
        """The accelerator of the newest start."""
        return self._starter.kind

    @property
    def machine(self) -> VirtualMachine:
        """The virtual machine; a new one if the first could not be restored."""
        return self._starter.machine

    @property
    def guest(self) -> Guest:
        """The guest; raises InfrastructureError before it has booted."""
        if self.machine.guest is None:
            raise InfrastructureError("no connection to the guest: it has not booted")
        return self.machine.guest

    def boot(self, deadline_s: float) -> None:
        """Start the machine, and wait until a command has run in it.

        Raises NotAcceptedError if its kernel is new and does not boot each time.
        """
        store = Cache()
        if not self.unproven or acceptance.known(self.unproven, store):
            self._boot(deadline_s)
            return
        ordinary = self._starter
        for number in range(1, acceptance.BOOTS + 1):
            last = number == acceptance.BOOTS
            self._starter = ordinary if last else self.trial()
            try:
                self._boot(deadline_s)
            except MissingError:
                raise
            except InfrastructureError as error:
                raise NotAcceptedError(f"boot {number} of {acceptance.BOOTS}", error) from error
            if not last:
                self.machine.destroy()
                self.machine.spec.console.unlink(missing_ok=True)
        acceptance.remember(self.unproven, store)
        self.notes += (f"kernel {self.release} is new here: it booted {acceptance.BOOTS} times",)

    def _boot(self, deadline_s: float) -> None:
        try:
            self.start = self._starter.boot(deadline_s)
        except NoKvmError as error:
            raise MissingError(error.message, hint=error.hint) from error
        finally:
            self.notes += self._starter.notes

    def slowness(self) -> float:
        """Measure the guest by a loop, and record its state."""
        slowness, self._fresh = self._measure()
        self.uname = one_line(self._fresh.release)
        if self.release and self.uname != self.release:
            raise MissingError(f"the guest runs kernel {self.uname} instead of {self.release}")
        return slowness

    def deploy(self) -> None:
        """Copy the agent's bundle into the guest."""
        kept = provenance.kept(self.agent, Cache()) if self.agent else None
        agent = for_guest(kept, self.arch) if kept else bundle(self.arch)
        types = {path.stem: path.read_bytes() for path in self.types}
        deploy(self.guest, with_types(agent, types) if types else agent)

    def selftest(self, log: Path, deadline_s: float) -> Selftest:
        """Start the agent's server and wait for its greeting."""
        waiting, self._waiting = self._waiting, None
        with _last_words(log):
            return VmSelftest(SelftestClient.start(self.guest, deadline_s, waiting=waiting), log)

    def stand_by(self) -> None:
        """Start the interpreter of the next self-test server in advance, without the agent's modules."""
        self._waiting = self._waiting or selftest.stand_by(self.guest)

    def answers(self, deadline_s: float) -> bool:
        """Whether `true` runs in the guest."""
        try:
            self.guest.ping(deadline_s)
        except InfrastructureError:
            return False
        return True

    def console(self, deadline_s: float = 0.0) -> bytes:
        """Return the whole console. Raises InfrastructureError if it cannot be read completely.

        With a deadline, wait for a line that is written to the kernel's log now: some kernels print in a
        thread of their own, and some complain a moment after an agent has ended.
        """
        if not deadline_s:
            return self._console()
        mark = f"harness: the console is read to {secrets.token_hex(4)}"
        deadline = time.monotonic() + deadline_s
        script = f"sleep {_SETTLE_S}; echo '{_SHOWN}{mark}' >/dev/kmsg"
        done = self.guest.run(["sh", "-c", script], deadline_s)
        while mark.encode() not in (content := self._console()):
            if done.status or time.monotonic() > deadline:
                raise InfrastructureError("the console does not show what was written to the kernel's log")
            time.sleep(_LOOK_S)
        return content

    def _console(self) -> bytes:
        try:
            with self.machine.spec.console.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InfrastructureError(f"the console cannot be read: {error}") from error
        if len(content) > MAX_BYTES:
            raise InfrastructureError(f"the console is longer than {MAX_BYTES >> 20} MiB")
        return content

    def leftovers(self, deadline_s: float) -> list[str]:
        """Return what was added to the guest's state since its boot; see `guest.state`."""
        assert self._fresh
        return state.leftovers(self.guest, self._fresh, deadline_s)

    def command(self, cell: Cell, log: Path) -> Selftest:
        """Return the server of the cell's suite."""
        assert cell.suite
        return CommandServer(self.guest, cell.suite, self.base, log, self._reboot)

    def _reboot(self, deadline_s: float) -> Guest:
        guest = self.machine.reboot(deadline_s)
        _, self._fresh = self._measure()
        return guest

    def _measure(self) -> tuple[float, State]:
        services = bool(self.machine.spec.state_mib)
        return state.measure(self.guest, deadlines.MEASURE_S, services=services)

    def death(self) -> Death | None:
        """Return how the machine ended, after giving its watchers time to report it."""
        return self.machine.explain()

    def collect(self, folder: Path) -> None:
        """Copy the console and the domain's XML, and the kernel's log if the guest lives."""
        # A full disk already has a verdict, and an error here would replace it.
        with contextlib.suppress(OSError):
            self._collect(folder)

    def _collect(self, folder: Path) -> None:
        for name in ("console.log", "domain.xml"):
            # The files may already be in this folder.
            with contextlib.suppress(FileNotFoundError, shutil.SameFileError):
                shutil.copyfile(self.machine.spec.workdir / name, folder / name)
        (folder / "facts.json").write_text(json.dumps(self.facts(), indent=1) + "\n", encoding="utf-8")
        if self.machine.guest and not self.machine.death:
            with contextlib.suppress(InfrastructureError):
                done = self.machine.guest.run(["dmesg"], deadlines.DMESG_S)
                (folder / "dmesg.txt").write_bytes(done.stdout)

    def facts(self) -> dict[str, Any]:
        """Return the machine's spec, its state, and how it ended ("" while it lives)."""
        spec = json.loads(json.dumps(asdict(self.machine.spec), default=str))
        end = str(self.machine.death or "")
        return {**spec, "state": self.machine.state.value, "death": end}

    def keep(self, cell: str) -> str:
        """Keep the machine (see `harness.vm.kept`) and return the ssh command line."""
        return shlex.join(self.machine.keep(cell).ssh)

    def destroy(self) -> None:
        """End the machine."""
        self.machine.destroy()


class VmSelftest:
    """The agent's server in a guest; the last of its stderr is kept in `log` when it is closed."""

    def __init__(self, client: SelftestClient, log: Path) -> None:
        self.hooks: tuple[Any, ...] = ()
        self._client = client
        self._log = log
        self._quit_s = deadlines.QUIT_S

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        """Load the cell's variant."""
        with self._asking():
            variant = (cell.hookset, cell.btf, cell.transport)
            return self._client.load(*variant, deadline_s, cell.events, cell.world)

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run one scenario."""
        with self._asking():
            return self._client.test(name, deadline_s)

    def close(self) -> HarnessError | None:
        """End the server; return an error if it had ended before or ended with an error."""
        try:
            status = self._client.quit(self._quit_s)
            self.hooks = self._client.hooks
        except HarnessError as error:
            return error
        finally:
            self._log.write_bytes(self._client.stderr())
            self._client.close()
        return ProductError(f"the self-test server ended with status {status}") if status else None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with _last_words(self._log):
                yield
        except HungError:
            self._quit_s = deadlines.HUNG_QUIT_S
            raise


@contextlib.contextmanager
def _last_words(log: Path) -> Iterator[None]:
    """Keep in `log` what a server printed before it broke."""
    try:
        yield
    except BrokenServerError as error:
        log.write_text(error.detail, encoding="utf-8")
        raise


def to_stderr(event: Event, /) -> None:
    """Print remarks to stderr; steps are dropped."""
    if isinstance(event, str):
        sys.stderr.write(f"harness: {event}\n")
