"""The harness's libvirt: embedded in this process by default, any other by URI.

with RunDirectory.claim() as directory, Connection.open(directory) as connection:
    domain = connection.start(xml, on_event)
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import quoteattr

from harness.errors import InfrastructureError
from harness.host.acceleration import cpu_model
from harness.host.cache import default_root
from harness.host.processes import HeldProcess, adopt_orphans
from harness.host.progress import Progress, silent
from harness.vm import eventloop, savefile
from harness.vm.api import libvirt
from harness.vm.embed import EmbedRoot
from harness.vm.hypervisor import LifeEvent, StartError, Vitality
from harness.vm.ownership import RunDirectory
from harness.vm.probing import probing, reaped

EMBEDDED = "qemu:///embed"

_EXIT_DEADLINE_S = 10.0
_PUT_AWAY_S = 4.0
_LOOK_S = 0.02
_START_S = 30.0
_QEMU_SAID = re.compile(r"Z qemu-system-\S+: (.+)", re.DOTALL)

OnEvent = Callable[[LifeEvent], None]

# libvirt's (event, detail) that end a domain; what is not here ends nothing. With detail None any detail
# fits.
_ENDS: dict[tuple[int, int | None], LifeEvent] = {
    (libvirt.VIR_DOMAIN_EVENT_CRASHED, None): LifeEvent.PANICKED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN): LifeEvent.SHUT_DOWN,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED): LifeEvent.DESTROYED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED): LifeEvent.PANICKED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED): LifeEvent.FAILED,
}


class LibvirtDomain:
    """A domain of this connection; `process` is its QEMU where that is known to be on this host."""

    def __init__(self, handle: Any, process: HeldProcess | None = None) -> None:
        self._handle = handle
        self._process = process

    def destroy(self) -> None:
        """Ends it at once; does nothing if it has ended."""
        # libvirt waits until init has reaped QEMU, for seconds where init is slow at it (containers, small
        # VMs). It hears of QEMU's end by itself, so where QEMU is ours it is enough to kill it.
        if self._process and self._process.kill(_EXIT_DEADLINE_S):
            self._process.reap()
            return
        # It may have ended by itself, which is as good.
        with contextlib.suppress(libvirt.libvirtError):
            self._handle.destroy()

    def limit_files(self, size: int) -> None:
        """By a resource limit of its process; see `hypervisor.Domain`."""
        if self._process:
            self._process.limit_files(size)

    def vitality(self) -> Vitality:
        """By its process; one that is not on this host is believed to run until libvirt says else."""
        if self._process and self._process.ended():
            self._process.reap()
            return Vitality.GONE
        return Vitality.STOPPED if self._process and self._process.stopped() else Vitality.RUNNING

    def save(self, memory: Path) -> None:
        """Its memory and devices, compressed; see `savefile`. It stands still for half a second."""
        whole = memory.with_name(f"{memory.name}.whole")
        xml = f"<domainsnapshot><memory snapshot='external' file={quoteattr(str(whole))}/></domainsnapshot>"
        try:
            self._handle.snapshotCreateXML(xml, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA)
            savefile.pack(whole, memory)
        except (libvirt.libvirtError, ValueError) as error:
            raise InfrastructureError(f"the machine cannot be saved: {error}") from error
        finally:
            whole.unlink(missing_ok=True)

    def is_active(self) -> bool:
        """Whether it runs; a transient domain that ended is unknown to libvirt."""
        try:
            return bool(self._handle.isActive())
        except libvirt.libvirtError:
            return False


class Connection:
    """One open connection; a context manager. Every domain it started is destroyed when it closes."""

    def __init__(self, handle: Any, directory: RunDirectory, root: EmbedRoot | None) -> None:
        self._handle = handle
        self._directory = directory
        self._root = root
        self._domains: dict[str, LibvirtDomain] = {}
        self._listeners: dict[str, OnEvent] = {}
        self._put_away: dict[str, threading.Event] = {}
        self._callback = handle.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None
        )

    @classmethod
    def open(
        cls,
        directory: RunDirectory,
        uri: str = EMBEDDED,
        *,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> Connection:
        """Opens `uri`; an embedded libvirt keeps its state in `directory`, probed capabilities in `cache`.

        Raises InfrastructureError with libvirt's reason.
        """
        eventloop.start()
        directory.note_uri(uri)
        if uri != EMBEDDED:
            return cls(_open(uri), directory, None)
        adopt_orphans()
        root = EmbedRoot(directory.path / "e", (cache or default_root()) / "libvirt")
        with probing(root, progress):
            handle = _examined(root.uri)
        return cls(handle, directory, root)

    @property
    def token(self) -> str:
        """The prefix of every domain's name."""
        return self._directory.token

    @property
    def qemu_user(self) -> str:
        """Ourselves, where a daemon would take a user of its own."""
        return "" if self._root else f"+{os.getuid()}:+{os.getgid()}"

    def private_dir(self, name: str) -> Path:
        """A new directory below the run directory."""
        path = self._directory.path / name
        path.mkdir(mode=0o700)
        return path

    def start(self, name: str, xml: str, on_event: OnEvent) -> LibvirtDomain:
        """Starts a transient domain; see `hypervisor.Hypervisor`."""
        # A daemon destroys the domain when our connection ends, however it ends. Embedded, we are the daemon.
        flags = 0 if self._root else libvirt.VIR_DOMAIN_START_AUTODESTROY
        return self._begin(name, on_event, lambda: self._handle.createXML(xml, flags))

    def restore(self, name: str, xml: str, memory: Path, on_event: OnEvent) -> LibvirtDomain:
        """Starts a domain from its saved memory; see `hypervisor.Hypervisor`."""
        pipe = self._directory.path / f"{name}.memory"

        def restored() -> Any:
            with savefile.fed(memory, xml, pipe):
                self._handle.restoreFlags(str(pipe), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
            return self._handle.lookupByName(name)

        return self._begin(name, on_event, restored)

    @property
    def identity(self) -> str:
        """QEMU, libvirt and processor; a daemon, which would not end what we restored, restores nothing."""
        return f"{self._handle.getVersion()} {libvirt.getVersion()} {cpu_model()}" if self._root else ""

    def _begin(self, name: str, on_event: OnEvent, create: Callable[[], Any]) -> LibvirtDomain:
        self._listeners[name] = on_event
        self._put_away[name] = threading.Event()
        try:
            # It may examine QEMU again, as when /dev/kvm appeared or disappeared meanwhile.
            with self._reaped(name), reaped(self._root) if self._root else contextlib.nullcontext():
                handle = create()
            domain = LibvirtDomain(handle, self._process_of(name))
        except libvirt.libvirtError as error:
            del self._listeners[name], self._put_away[name]
            raise StartError(f"the machine did not start: {_reason(error)}") from error
        self._domains[name] = domain
        if self._root:
            self._root.keep_capabilities()
        return domain

    @contextlib.contextmanager
    def _reaped(self, name: str) -> Iterator[None]:
        """Reaps a QEMU that ends while it starts, for which libvirt would wait half a minute.

        One that does neither start nor end, as with a snapshot that holds nothing, is ended.
        """
        over = threading.Event()

        def look() -> None:
            process = None
            deadline = time.monotonic() + _START_S
            while not over.wait(_LOOK_S) and not (process and process.ended()):
                process = process or self._process_of(name)
                if process and time.monotonic() > deadline:
                    process.kill(_EXIT_DEADLINE_S)
            if process:
                process.reap()
                process.release()

        looking = threading.Thread(target=look, name=f"start-{name}", daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()

    def _process_of(self, name: str) -> HeldProcess | None:
        # None where the domain runs elsewhere, or has ended already.
        with contextlib.suppress(OSError, ValueError):
            if self._root:
                return HeldProcess(self._root.pid_of(name))
        return None

    def version(self) -> str:
        """QEMU's version, as libvirt found it, such as "7.2.22"."""
        number = int(self._handle.getVersion())
        return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

    def spare(self, name: str) -> None:
        """From now on that domain is not ours: it outlives this connection.

        Raises InfrastructureError where a daemon would end it with the connection.
        """
        if not self._root:
            raise InfrastructureError("only machines of an embedded libvirt outlive a run")
        self._domains.pop(name, None)
        self._put_away.pop(name, None)

    def close(self) -> None:
        """Destroys what still runs, waits until libvirt has put it away, then closes."""
        for domain in self._domains.values():
            domain.destroy()
        # An embedded libvirt that is still at it would write its state anew after our directory was removed.
        deadline = time.monotonic() + _PUT_AWAY_S
        for event in self._put_away.values():
            event.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(libvirt.libvirtError):
            self._handle.domainEventDeregisterAny(self._callback)
            self._handle.close()

    def _on_lifecycle(self, _handle: Any, domain: Any, event: int, detail: int, _opaque: object) -> None:
        name = domain.name()
        end = _ENDS.get((event, detail)) or _ENDS.get((event, None))
        if end and name in self._listeners:
            self._listeners[name](end)
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and name in self._put_away:
            self._put_away[name].set()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reap_domains(uri: str, token: str) -> int:
    """A `reaper.DomainReaper` for daemons: an embedded libvirt died with its process and has none to ask."""
    if uri.startswith(EMBEDDED):
        return 0
    eventloop.start()
    try:
        with contextlib.closing(_open(uri)) as handle:
            doomed = [domain for domain in handle.listAllDomains() if domain.name().startswith(f"{token}-")]
            for domain in doomed:
                LibvirtDomain(domain).destroy()
            return len(doomed)
    except InfrastructureError:
        # The daemon destroys what was ours when our connection died; that it is away is no reason to stop.
        return 0


def _reason(error: Any) -> str:
    # What QEMU itself said comes after libvirt's words, a time and QEMU's name.
    said: str = error.get_error_message().strip()
    match = _QEMU_SAID.search(said)
    return match[1] if match else said


def _examined(uri: str) -> Any:
    """An embedded libvirt that knows its QEMU, which it puts off until something depends on it."""
    handle = _open(uri)
    try:
        handle.getVersion()
    except libvirt.libvirtError as error:
        raise InfrastructureError(f"libvirt cannot use QEMU: {error.get_error_message()}") from error
    return handle


def _open(uri: str) -> Any:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise InfrastructureError(
            f"cannot connect to {uri}: {error.get_error_message()}", hint="run `harness doctor`"
        ) from error
