"""Runs one machine from its definition to its end, and watches it all the time.

    with Machine(spec, connection) as machine:
        guest = machine.wait_ready(60)
        guest.run(["uname", "-r"], timeout=10)

One thread reads three sources: the hypervisor's events from a queue, the console from its file, the state of
the QEMU process from /proc. The first that reports a cause ends the machine. This ends QEMU and with it every
SSH connection, so callers that wait for the guest get an error at once, and `explain` returns the cause.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType

from harness.errors import InfrastructureError
from harness.guest.base import Endpoint, Guest, GuestError, GuestLostError
from harness.guest.keys import GuestKeys
from harness.guest.shell import ssh_argv
from harness.host import deadlines
from harness.images import ext4
from harness.vm import domain, kept, rundisk
from harness.vm.console import ConsoleFile, ConsoleLog, Stage
from harness.vm.domain import MachineSpec
from harness.vm.hypervisor import Domain, Hypervisor, LifeEvent, PortTakenError, StartError
from harness.vm.kept import Kept
from harness.vm.life import FOLLOWS, Death, DeathCause, MachineDiedError, State, boot_timeout, flooded, judge
from harness.vm.ports import ADDRESS, Port
from harness.vm.qemu_watch import QemuWatch
from harness.vm.snapshot import Snapshot

_POLL_S = 0.05
_RETRY_S = 0.2
_START_ATTEMPTS = 5
_FILE_BYTES = 256 << 20  # in addition to its memory, which QEMU writes to a file to save the machine

_numbers = itertools.count(1)

Connect = Callable[[Endpoint, float], Guest]


def _import_ssh() -> None:
    import harness.guest.ssh  # noqa: F401 - so that a later import takes no time


def _over_ssh(endpoint: Endpoint, timeout_s: float) -> Guest:
    from harness.guest.ssh import connect  # imported in a thread while the machine starts

    return connect(endpoint, timeout_s)


class _Patience:
    """Decides how long to wait for the rest of the console after a panic."""

    def __init__(self) -> None:
        self._grew_at = time.monotonic()
        self._fatal_at: float | None = None

    def grew(self) -> None:
        """Record that the guest printed something."""
        self._grew_at = time.monotonic()

    def ended(self, *, fatal: bool) -> bool:
        """Whether the console contains the trace of the panic."""
        now = time.monotonic()
        if fatal and self._fatal_at is None:
            self._fatal_at = now
        enough = self._fatal_at is not None and now > self._fatal_at + deadlines.TRACE_MOST_S
        return enough or now > self._grew_at + deadlines.TRACE_QUIET_S


class Machine:
    """One machine; a context manager that starts it and always destroys it.

    `connect` takes an `Endpoint` and a deadline in seconds (default: a connection over SSH).
    """

    def __init__(self, spec: MachineSpec, hypervisor: Hypervisor, connect: Connect | None = None) -> None:
        self.spec = spec
        self.name = f"{hypervisor.token}-{next(_numbers)}"
        self.console = ConsoleLog()
        self.guest: Guest | None = None
        self._hypervisor = hypervisor
        self._connect = connect or _over_ssh
        self._private = hypervisor.private_dir(self.name.rpartition("-")[2])
        self._state_disk = self._private / "state.ext4" if spec.state_mib else None
        self._keys = GuestKeys.generate()
        self._state = State.DEFINED
        self._death: Death | None = None
        self._changed = threading.Condition()
        self._events: queue.SimpleQueue[LifeEvent] = queue.SimpleQueue()
        self._domain: Domain | None = None
        self._port: Port | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)

    @property
    def state(self) -> State:
        """The state of the machine."""
        return self._state

    @property
    def death(self) -> Death | None:
        """How the machine ended; None while it lives."""
        return self._death

    @property
    def endpoint(self) -> Endpoint:
        """The address and keys of the guest. Raises InfrastructureError before `start`."""
        if self._port is None:
            raise InfrastructureError(f"{self.name} was not started")
        return Endpoint(ADDRESS, self._port.number, self._keys, self._private)

    def start(self, snapshot: Snapshot | None = None) -> None:
        """Boot the machine, or restore it from a snapshot.

        Raises StartError with the hypervisor's error, InfrastructureError for a full disk.
        """
        self._enter(State.BOOTING)
        try:
            self.spec.workdir.mkdir(parents=True, exist_ok=True)
            rundisk.write(self._private / "run.tar", {**self._keys.guest_files(), **rundisk.moment()})
            if self._state_disk:
                ext4.make(self._state_disk, self.spec.state_mib)
            if snapshot:
                shutil.copyfile(snapshot.console, self.spec.console)
        except OSError as error:
            raise InfrastructureError(f"cannot write the files of a machine: {error}") from error
        # Importing paramiko takes half the time of a restore, during which this process only waits.
        threading.Thread(target=_import_ssh, name="import", daemon=True).start()
        self._domain = self._start_on_some_port(snapshot)
        # If this process is killed, QEMU runs on and nothing limits its console.
        self._domain.limit_files((self.spec.memory_mib << 20) + _FILE_BYTES)
        self._watcher.start()

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot of the machine, which then continues. Raises InfrastructureError."""
        self._raise_if_dead()
        if self._domain is None or self._state is not State.READY:
            raise InfrastructureError(f"{self.name} cannot be saved: it is {self._state.value}, not ready")
        try:
            shutil.copyfile(self.spec.console, snapshot.console)
            self._domain.save(snapshot.memory)
        except OSError as error:
            raise InfrastructureError(f"the machine cannot be saved: {error}") from error
        # The guest and its clock were stopped meanwhile.
        assert self.guest
        self.guest.run(["date", "-s", f"@{time.time():.2f}"])

    def wait_ready(self, deadline_s: float, silent_s: float = math.inf) -> Guest:
        """Return the guest once a command ran in it.

        Its kernel must print something within `silent_s` seconds. Raises MachineDiedError once the guest
        cannot become ready any more.
        """
        deadline = time.monotonic() + deadline_s
        if silent_s < deadline_s and not self._prints(silent_s):
            self._die(boot_timeout(silent_s, self.console))
        self._wait(lambda: self.console.stage is Stage.READY or self._disk_full(), deadline)
        if self.console.stage is not Stage.READY:
            # If the disk was full, the console is no evidence against the guest.
            why = Death(DeathCause.QEMU, f"no space left in {self.spec.workdir}", self.console.tail())
            self._die(why if self._disk_full() else boot_timeout(deadline_s, self.console))
        return self._ready(deadline)

    def _ready(self, deadline: float) -> Guest:
        """Connect to the guest, which accepts connections now."""
        while True:
            self._raise_if_dead()
            try:
                self.guest = self._reach(deadline - time.monotonic())
                self._enter(State.READY)
                return self.guest
            except GuestError as error:
                self._after_failed_reach(error, deadline)

    def reboot(self, deadline_s: float) -> Guest:
        """Reboot the guest in order, and return it once a command ran in it. It must have a disk.

        Raises MachineDiedError if it does not become ready again, GuestError if it refuses to reboot.
        """
        assert self._state_disk
        assert self.guest
        old, boots = self.guest, self.console.boots
        deadline = time.monotonic() + deadline_s
        # The guest may end the connection before the command has returned.
        with contextlib.suppress(GuestLostError):
            done = old.run(["systemctl", "reboot"], deadline_s)
            if done.status:
                raise GuestError(f"the guest does not reboot: {done.stderr.decode('utf-8', 'replace')}")
        self._enter(State.BOOTING)
        self._wait(lambda: self.console.boots > boots, deadline)
        self._raise_if_dead()
        if self.console.boots == boots:
            self._die(boot_timeout(deadline_s, self.console))
        old.close()
        return self._ready(deadline)

    def _prints(self, silent_s: float) -> bool:
        """Whether the kernel prints something in time; also true if the machine ends or the disk is full."""
        deadline = time.monotonic() + silent_s
        return self._wait(lambda: self.console.stage >= Stage.KERNEL or self._disk_full(), deadline)

    def explain(self, timeout_s: float = deadlines.EXPLAIN_S) -> Death | None:
        """Return how the machine ended; wait up to `timeout_s` for a watcher to report it. None if it lives.

        If a command runs in the guest, return at once.
        """
        deadline = time.monotonic() + timeout_s
        if not self._answers(timeout_s):
            self._wait(lambda: False, deadline)
        return self._death

    def _answers(self, timeout_s: float) -> bool:
        try:
            if self.guest:
                self.guest.ping(timeout_s)
        except GuestError:
            return False
        return self.guest is not None

    def keep(self, cell: str) -> Kept:
        """Let the machine outlive this process for the user; return how to enter it.

        The machine is not watched any more; the caller must not call `destroy`. Raises InfrastructureError.
        """
        self._raise_if_dead()
        machine = Kept(self.name, cell, tuple(ssh_argv(self.endpoint)))
        self._hypervisor.spare(self.name)
        kept.note(self._private.parent, machine)
        if self.guest:
            self.guest.close()
        return machine

    def destroy(self) -> None:
        """End the machine and release its resources; may be called in any state and again."""
        if self.guest:
            self.guest.close()
        self._die(Death(DeathCause.DESTROYED, "the harness destroyed it", self.console.tail()))
        if self._watcher.is_alive():
            self._watcher.join()
        if self._port:
            self._port.release()

    def _start_on_some_port(self, snapshot: Snapshot | None) -> Domain:
        # QEMU may find the port taken although it was reserved. Any other error would occur again with the
        # next port, so it is not retried.
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._port = Port()
            xml = domain.render(
                self.spec,
                name=self.name,
                port=self._port.number,
                run_disk=self._private / "run.tar",
                state_disk=self._state_disk,
                user=self._hypervisor.qemu_user,
                append=snapshot is not None,
            )
            try:
                (self.spec.workdir / "domain.xml").write_text(xml)
                return self._launch(xml, snapshot)
            except OSError as error:
                raise InfrastructureError(f"cannot write the files of a machine: {error}") from error
            except StartError as error:
                self._port.release()
                taken = "host forwarding" in error.message
                if not taken or attempt == _START_ATTEMPTS:
                    self._die(Death(DeathCause.QEMU, error.message))
                    raise PortTakenError(error.message) if taken else error from error
        raise AssertionError("unreachable")

    def _disk_full(self) -> bool:
        return shutil.disk_usage(self.spec.workdir).free == 0

    def _launch(self, xml: str, snapshot: Snapshot | None) -> Domain:
        if snapshot:
            return self._hypervisor.restore(self.name, xml, snapshot.memory, self._events.put)
        return self._hypervisor.start(self.name, xml, self._events.put)

    def _reach(self, seconds: float) -> Guest:
        seconds = max(seconds, _RETRY_S)
        guest = self._connect(self.endpoint, seconds)
        try:
            # An open port does not mean that the guest is ready: the first connection is often reset, and
            # sshd may be unable to fork.
            guest.ping(seconds)
        except GuestError:
            guest.close()
            raise
        return guest

    def _after_failed_reach(self, error: GuestError, deadline: float) -> None:
        if time.monotonic() >= deadline:
            self._die(Death(DeathCause.SSH, f"no command ran over SSH: {error}", self.console.tail()))
        self._wait(lambda: False, min(deadline, time.monotonic() + _RETRY_S))

    def _watch(self) -> None:
        try:
            self._look()
        finally:
            # If this thread fails, end the machine: without a watcher it would seem to live for ever.
            self._die(Death(DeathCause.QEMU, "its watcher failed", self.console.tail()))

    def _look(self) -> None:
        file = ConsoleFile(self.spec.console)
        watch, patience = QemuWatch(), _Patience()
        while self._state is not State.DEAD:
            event = self._next_event()
            for chunk in file.new_chunks():
                self.console.feed(chunk)
                patience.grew()
            assert self._domain
            event = event or watch.look(self._domain.vitality())
            death = judge(event, self.console, settled=patience.ended(fatal=bool(self.console.fatal)))
            death = death or (flooded(self.console) if file.full else None)
            if death:
                self._die(death)
            with self._changed:
                self._changed.notify_all()

    def _next_event(self) -> LifeEvent | None:
        try:
            return self._events.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until `condition` holds or the machine is dead; return False at the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._state is State.DEAD or condition(), max(0.0, deadline - time.monotonic())
            )

    def _enter(self, state: State) -> None:
        with self._changed:
            if state not in FOLLOWS[self._state]:
                self._raise_if_dead()
                raise InfrastructureError(
                    f"{self.name} cannot become {state.value}: it is {self._state.value}"
                )
            self._state = state
            self._changed.notify_all()

    def _die(self, death: Death) -> None:
        """End the machine; only the first call sets the cause, later ones report consequences of it."""
        with self._changed:
            if self._state is State.DEAD:
                return
            self._death = death
            self._state = State.DEAD
            self._changed.notify_all()
        # First release callers that wait for the guest: on a busy host QEMU needs a while to end.
        if self.guest:
            self.guest.close()
        if self._domain:
            self._domain.destroy()

    def _raise_if_dead(self) -> None:
        if self._death:
            raise MachineDiedError(self._death)

    def __enter__(self) -> Machine:
        try:
            self.start()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
