"""One guest from its definition to its end, watched all the time.

    with Machine(spec, connection) as machine:
        guest = machine.wait_ready(60)
        guest.run(["uname", "-r"], timeout=10)

Three watchers report to one thread, which decides alone: the hypervisor's events through a queue, the console
through its file, the host by QEMU's process. Whichever knows first ends the machine. Ending it ends QEMU and
with it every SSH connection, so whoever waits for the guest hears of it at once and asks `explain` why.
"""

from __future__ import annotations

import itertools
import math
import queue
import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType

from harness.errors import InfrastructureError
from harness.guest.base import Endpoint, Guest, GuestError
from harness.guest.keys import GuestKeys
from harness.guest.shell import ssh_argv
from harness.vm import domain, kept, rundisk
from harness.vm.console import ConsoleFile, ConsoleLog, Stage
from harness.vm.domain import MachineSpec
from harness.vm.hypervisor import Domain, Hypervisor, LifeEvent, PortTakenError, StartError
from harness.vm.kept import Kept
from harness.vm.life import FOLLOWS, Death, DeathCause, MachineDiedError, State, boot_timeout, flooded, judge
from harness.vm.ports import ADDRESS, Port
from harness.vm.pulse import Pulse
from harness.vm.snapshot import Snapshot

_POLL_S = 0.05
# A console that was quiet for so long after "Kernel panic" has shown the whole trace.
_SETTLE_S = 0.5
# And one that never becomes quiet has shown enough of it.
_ENOUGH_S = 3.0
_EXPLAIN_S = 5.0
_RETRY_S = 0.2
_START_ATTEMPTS = 5
_FILE_BYTES = 256 << 20  # beside its memory, which QEMU writes to a file when it is saved

_numbers = itertools.count(1)

Connect = Callable[[Endpoint, float], Guest]


def _import_ssh() -> None:
    import harness.guest.ssh  # noqa: F401 - for its being imported


def _over_ssh(endpoint: Endpoint, timeout_s: float) -> Guest:
    from harness.guest.ssh import connect

    return connect(endpoint, timeout_s)


class _Patience:
    """How long a console is waited for once it has told of a panic."""

    def __init__(self) -> None:
        self._grew_at = time.monotonic()
        self._fatal_at: float | None = None

    def grew(self) -> None:
        """Something was printed."""
        self._grew_at = time.monotonic()

    def ended(self, *, fatal: bool) -> bool:
        """Whether what a panic prints was printed."""
        now = time.monotonic()
        if fatal and self._fatal_at is None:
            self._fatal_at = now
        enough = self._fatal_at is not None and now > self._fatal_at + _ENOUGH_S
        return enough or now > self._grew_at + _SETTLE_S


class Machine:
    """One machine; a context manager that starts it and always destroys it.

    `connect` opens an `Endpoint` within some seconds (default: over SSH).
    """

    def __init__(self, spec: MachineSpec, hypervisor: Hypervisor, connect: Connect | None = None) -> None:
        self.spec = spec
        self.name = f"{hypervisor.token}-{next(_numbers)}"
        self.console = ConsoleLog()
        self.guest: Guest | None = None
        self._hypervisor = hypervisor
        self._connect = connect or _over_ssh
        self._private = hypervisor.private_dir(self.name.rpartition("-")[2])
        self._keys = GuestKeys.generate()
        self._state = State.DEFINED
        self._death: DeathCause | None = None
        self._changed = threading.Condition()
        self._events: queue.SimpleQueue[LifeEvent] = queue.SimpleQueue()
        self._domain: Domain | None = None
        self._port: Port | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def death(self) -> DeathCause | None:
        """Why it ended; None while it lives."""
        return self._death

    @property
    def endpoint(self) -> Endpoint:
        """Where and with which keys the guest is reached. Raises InfrastructureError before `start`."""
        if self._port is None:
            raise InfrastructureError(f"{self.name} was not started")
        return Endpoint(ADDRESS, self._port.number, self._keys, self._private)

    def start(self, snapshot: Snapshot | None = None) -> None:
        """Boots it, or lets it go on where such a machine was saved.

        Raises StartError with the hypervisor's reason, InfrastructureError for a full disk.
        """
        self._enter(State.BOOTING)
        try:
            self.spec.workdir.mkdir(parents=True, exist_ok=True)
            rundisk.write(self._private / "run.tar", {**self._keys.guest_files(), **rundisk.moment()})
            if snapshot:
                shutil.copyfile(snapshot.console, self.spec.console)
        except OSError as error:
            raise InfrastructureError(f"cannot write what a machine needs: {error}") from error
        # To import paramiko takes as long as half of a restore, during which this process only waits.
        threading.Thread(target=_import_ssh, name="import", daemon=True).start()
        self._domain = self._start_on_some_port(snapshot)
        # Should this process be killed, nobody watches the console of a QEMU that goes on.
        self._domain.limit_files((self.spec.memory_mib << 20) + _FILE_BYTES)
        self._watcher.start()

    def save(self, snapshot: Snapshot) -> None:
        """Writes a snapshot of it, and lets it go on. Raises InfrastructureError."""
        self._raise_if_dead()
        if self._domain is None or self._state is not State.READY:
            raise InfrastructureError(f"{self.name} is {self._state.value}, it cannot be saved")
        try:
            shutil.copyfile(self.spec.console, snapshot.console)
            self._domain.save(snapshot.memory)
        except OSError as error:
            raise InfrastructureError(f"the machine cannot be saved: {error}") from error
        # It stood still meanwhile, and its clock with it.
        assert self.guest
        self.guest.run(["date", "-s", f"@{time.time():.2f}"])

    def wait_ready(self, deadline_s: float, silent_s: float = math.inf) -> Guest:
        """The guest, once a command ran in it; its kernel must print something within `silent_s` seconds.

        Raises MachineDiedError at once when it cannot become ready any more.
        """
        deadline = time.monotonic() + deadline_s
        if silent_s < deadline_s and not self._speaks(silent_s):
            self._die(boot_timeout(silent_s, self.console))
        self._wait(lambda: self.console.stage is Stage.READY or self._disk_full(), deadline)
        if self.console.stage is not Stage.READY:
            # A console that could not be written says nothing about the guest.
            why = DeathCause(Death.QEMU, f"no space left in {self.spec.workdir}", self.console.tail())
            self._die(why if self._disk_full() else boot_timeout(deadline_s, self.console))
        while True:
            self._raise_if_dead()
            try:
                self.guest = self._reach(deadline - time.monotonic())
                self._enter(State.READY)
                return self.guest
            except GuestError as error:
                self._after_failed_reach(error, deadline)

    def _speaks(self, silent_s: float) -> bool:
        """Whether the kernel prints something in time, or something else ends the wait."""
        deadline = time.monotonic() + silent_s
        return self._wait(lambda: self.console.stage >= Stage.KERNEL or self._disk_full(), deadline)

    def explain(self, timeout_s: float = _EXPLAIN_S) -> DeathCause | None:
        """Why the guest does not answer: waits so long for a watcher to know; None if the machine lives.

        A guest that runs a command lives, and nothing is waited for.
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
        """Lets it live on after this process, for a person; returns how to get in.

        Nothing watches it any more, and `destroy` is not to be called. Raises InfrastructureError.
        """
        self._raise_if_dead()
        found = Kept(self.name, cell, tuple(ssh_argv(self.endpoint)))
        self._hypervisor.spare(self.name)
        kept.note(self._private.parent, found)
        if self.guest:
            self.guest.close()
        return found

    def destroy(self) -> None:
        """Ends it and gives everything back; may be called in any state and again."""
        if self.guest:
            self.guest.close()
        self._die(DeathCause(Death.DESTROYED, "the harness destroyed it", self.console.tail()))
        if self._watcher.is_alive():
            self._watcher.join()
        if self._port:
            self._port.release()

    def _start_on_some_port(self, snapshot: Snapshot | None) -> Domain:
        # The port is reserved, yet QEMU's word counts; any other reason not to start comes again with the
        # next port.
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._port = Port()
            xml = domain.render(
                self.spec,
                name=self.name,
                port=self._port.number,
                run_disk=self._private / "run.tar",
                user=self._hypervisor.qemu_user,
                append=snapshot is not None,
            )
            try:
                (self.spec.workdir / "domain.xml").write_text(xml)
                return self._launch(xml, snapshot)
            except OSError as error:
                raise InfrastructureError(f"cannot write what a machine needs: {error}") from error
            except StartError as error:
                self._port.release()
                taken = "host forwarding" in error.message
                if not taken or attempt == _START_ATTEMPTS:
                    self._die(DeathCause(Death.QEMU, error.message))
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
            # An open port is not a guest: the first connection is often reset, and sshd may not be able to
            # fork.
            guest.ping(seconds)
        except GuestError:
            guest.close()
            raise
        return guest

    def _after_failed_reach(self, error: GuestError, deadline: float) -> None:
        if time.monotonic() >= deadline:
            self._die(DeathCause(Death.SSH, f"no command ran over SSH: {error}", self.console.tail()))
        self._wait(lambda: False, min(deadline, time.monotonic() + _RETRY_S))

    def _watch(self) -> None:
        try:
            self._look()
        finally:
            # It ends with the machine; should it fail, a machine that nobody watches must not seem to live.
            self._die(DeathCause(Death.QEMU, "its watcher failed", self.console.tail()))

    def _look(self) -> None:
        file = ConsoleFile(self.spec.console)
        pulse, patience = Pulse(), _Patience()
        while self._state is not State.DEAD:
            event = self._next_event()
            for chunk in file.new_chunks():
                self.console.feed(chunk)
                patience.grew()
            assert self._domain
            event = event or pulse.feel(self._domain.vitality())
            cause = judge(event, self.console, settled=patience.ended(fatal=bool(self.console.fatal)))
            cause = cause or (flooded(self.console) if file.full else None)
            if cause:
                self._die(cause)
            with self._changed:
                self._changed.notify_all()

    def _next_event(self) -> LifeEvent | None:
        try:
            return self._events.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Waits until `condition` holds or the machine is dead; False when the deadline came first."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._state is State.DEAD or condition(), max(0.0, deadline - time.monotonic())
            )

    def _enter(self, state: State) -> None:
        with self._changed:
            if state not in FOLLOWS[self._state]:
                self._raise_if_dead()
                raise InfrastructureError(
                    f"{self.name} is {self._state.value}, it cannot become {state.value}"
                )
            self._state = state
            self._changed.notify_all()

    def _die(self, cause: DeathCause) -> None:
        """The first cause counts; every later one is a consequence."""
        with self._changed:
            if self._state is State.DEAD:
                return
            self._death = cause
            self._state = State.DEAD
            self._changed.notify_all()
        # Whoever waits for the guest is let go first: QEMU may take a while to end on a busy host.
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
