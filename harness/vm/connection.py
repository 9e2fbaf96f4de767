"""Connects to libvirt, embedded in this process by default or at another URI, and starts domains.

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
from harness.host import deadlines
from harness.host.acceleration import cpu_model
from harness.host.cache import default_root
from harness.host.processes import HeldProcess, adopt_orphans, reap_session_leaders
from harness.host.progress import Progress, silent
from harness.vm import eventloop, qemus, savefile
from harness.vm.api import libvirt
from harness.vm.embed import EmbedRoot
from harness.vm.hypervisor import LifeEvent, StartError, Vitality
from harness.vm.ownership import RunDirectory
from harness.vm.probing import probing, reaped

EMBEDDED = "qemu:///embed"

_LOOK_S = 0.02
_QEMU_MESSAGE = re.compile(r"Z qemu-system-\S+: (.+)", re.DOTALL)

OnEvent = Callable[[LifeEvent], None]

# The pairs (event, detail) of libvirt that end a domain; other events are ignored. None stands for any
# detail.
_ENDS: dict[tuple[int, int | None], LifeEvent] = {
    (libvirt.VIR_DOMAIN_EVENT_CRASHED, None): LifeEvent.PANICKED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN): LifeEvent.SHUT_DOWN,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED): LifeEvent.DESTROYED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED): LifeEvent.PANICKED,
    (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED): LifeEvent.FAILED,
}


class LibvirtDomain:
    """A domain of this connection; `process` is its QEMU, or None if that does not run on this host."""

    def __init__(self, handle: Any, process: HeldProcess | None = None) -> None:
        self._handle = handle
        self._process = process

    def destroy(self) -> None:
        """End the domain at once; does nothing if it has ended."""
        # libvirt waits until init has reaped QEMU, which takes seconds in containers and small VMs. It
        # notices QEMU's end by itself, so it is enough to kill a QEMU that is our child.
        if self._process and self._process.kill(deadlines.QEMU_EXIT_S):
            self._process.reap()
            return
        # The domain may have ended by itself.
        with contextlib.suppress(libvirt.libvirtError):
            self._handle.destroy()

    def limit_files(self, size: int) -> None:
        """Set a resource limit of the process; see `hypervisor.Domain`."""
        if self._process:
            self._process.limit_files(size)

    def vitality(self) -> Vitality:
        """The state of the QEMU process; RUNNING if that is not on this host."""
        if self._process and self._process.ended():
            self._process.reap()
            return Vitality.GONE
        return Vitality.STOPPED if self._process and self._process.stopped() else Vitality.RUNNING

    def save(self, memory: Path) -> None:
        """Write memory and devices, compressed (see `savefile`); this stops the guest for half a second."""
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
        """Whether the domain runs; libvirt does not know a transient domain that has ended."""
        try:
            return bool(self._handle.isActive())
        except libvirt.libvirtError:
            return False


class Connection:
    """One open connection; a context manager. Closing it destroys every domain that it started."""

    def __init__(self, handle: Any, directory: RunDirectory, root: EmbedRoot | None) -> None:
        self._handle = handle
        self._directory = directory
        self._root = root
        self._domains: dict[str, LibvirtDomain] = {}
        self._spared: list[str] = []
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
        """Open `uri`; an embedded libvirt keeps its state in `directory` and QEMU's capabilities in `cache`.

        Raises InfrastructureError with libvirt's error.
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
        """This user for a libvirt daemon, which would choose another; "" for an embedded libvirt."""
        return "" if self._root else f"+{os.getuid()}:+{os.getgid()}"

    def private_dir(self, name: str) -> Path:
        """Create a directory below the run directory."""
        path = self._directory.path / name
        path.mkdir(mode=0o700)
        return path

    def start(self, name: str, xml: str, on_event: OnEvent) -> LibvirtDomain:
        """Start a transient domain; see `hypervisor.Hypervisor`."""
        # A daemon destroys the domain when our connection ends. An embedded libvirt has no daemon.
        flags = 0 if self._root else libvirt.VIR_DOMAIN_START_AUTODESTROY
        return self._begin(name, on_event, lambda: self._handle.createXML(xml, flags))

    def restore(self, name: str, xml: str, memory: Path, on_event: OnEvent) -> LibvirtDomain:
        """Start a domain from its saved memory; see `hypervisor.Hypervisor`."""
        pipe = self._directory.path / f"{name}.memory"

        def restored() -> Any:
            with savefile.fed(memory, xml, pipe):
                self._handle.restoreFlags(str(pipe), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
            return self._handle.lookupByName(name)

        return self._begin(name, on_event, restored)

    @property
    def identity(self) -> str:
        """QEMU, libvirt and processor; "" for a daemon, which does not end restored domains with a run."""
        return f"{self._handle.getVersion()} {libvirt.getVersion()} {cpu_model()}" if self._root else ""

    def _begin(self, name: str, on_event: OnEvent, create: Callable[[], Any]) -> LibvirtDomain:
        self._listeners[name] = on_event
        self._put_away[name] = threading.Event()
        try:
            # libvirt may probe QEMU again, as when /dev/kvm has appeared or disappeared.
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
        """Reap a QEMU that ends while it starts: libvirt would wait half a minute for it.

        Kill a QEMU that does neither start nor end, as with an empty snapshot.
        """
        over = threading.Event()

        def look() -> None:
            process = None
            deadline = time.monotonic() + deadlines.START_S
            while not over.wait(_LOOK_S) and not (process and process.ended()):
                process = process or self._process_of(name)
                if process and time.monotonic() > deadline:
                    process.kill(deadlines.QEMU_EXIT_S)
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
        # None if the domain runs on another host or has ended.
        with contextlib.suppress(OSError, ValueError):
            if self._root:
                return HeldProcess(self._root.pid_of(name))
        return None

    def version(self) -> str:
        """Return QEMU's version by libvirt, such as "7.2.22"."""
        number = int(self._handle.getVersion())
        return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

    def spare(self, name: str) -> None:
        """Let the domain outlive this connection.

        Raises InfrastructureError for a daemon, which would end the domain with the connection.
        """
        if not self._root:
            raise InfrastructureError("only machines of an embedded libvirt (no --uri) outlive a run")
        self._spared.append(name)
        self._domains.pop(name, None)
        self._put_away.pop(name, None)

    def close(self) -> None:
        """Destroy all running domains, wait until libvirt has removed them, then close."""
        for domain in self._domains.values():
            domain.destroy()
        # If a signal interrupted the start of a domain, its QEMU runs although we never got its handle.
        if any([*qemus.kill_by_token(self.token, self._spared)]):
            reap_session_leaders("qemu-system-")
        # An embedded libvirt that is not done would write its state again after our directory was removed.
        deadline = time.monotonic() + deadlines.PUT_AWAY_S
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
    """A `reaper.DomainReaper` for daemons; an embedded libvirt has died with its process."""
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
        # The daemon has destroyed our domains when our connection ended, so an error here is harmless.
        return 0


def _reason(error: Any) -> str:
    # QEMU's own message follows libvirt's text, a time and QEMU's name.
    message: str = error.get_error_message().strip()
    match = _QEMU_MESSAGE.search(message)
    return match[1] if match else message


def _examined(uri: str) -> Any:
    """Open an embedded libvirt and make it probe QEMU now, which it would do only when needed."""
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
