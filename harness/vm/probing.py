"""Reaps the QEMU processes by which libvirt probes the capabilities of each emulator.

Such a QEMU detaches from its parent, so it becomes our child (see `processes.adopt_orphans`), and libvirt
waits up to 40 s for its end: we must reap it. The processes of one user probe one after the other, and the
first keeps the result for the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from harness.host.locks import locked
from harness.host.processes import HeldProcess, reap_session_leaders
from harness.host.progress import Progress
from harness.vm.embed import EmbedRoot

_LOOK_S = 0.02
_SILENT_S = 2.0


@contextlib.contextmanager
def probing(root: EmbedRoot, progress: Progress) -> Iterator[None]:
    """Let one process at a time probe QEMU in the block, with the results of earlier ones.

    Reports a line if it takes more than 2 s.
    """
    slow = threading.Timer(
        _SILENT_S, progress, ["libvirt is probing QEMU; the result is kept for the next time"]
    )
    slow.daemon = True
    slow.start()
    try:
        with locked(root.capabilities / "lock"), reaped(root):
            root.prepare()
            yield
            root.keep_capabilities()
    finally:
        slow.cancel()


@contextlib.contextmanager
def reaped(root: EmbedRoot) -> Iterator[None]:
    """Reap each QEMU that libvirt probes during the block as soon as it has ended."""
    over = threading.Event()

    def look() -> None:
        held: dict[int, HeldProcess] = {}
        while not over.wait(_LOOK_S):
            _hold_new(root.probed_pids(), held)
            for pid in [pid for pid, process in held.items() if process.ended()]:
                held[pid].reap()
                held.pop(pid).release()
        for process in held.values():
            process.release()

    looking = threading.Thread(target=look, name="probing", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        reap_session_leaders("qemu-system-")


def _hold_new(pids: Iterator[int], held: dict[int, HeldProcess]) -> None:
    for pid in pids:
        if pid not in held:
            with contextlib.suppress(ProcessLookupError):
                held[pid] = HeldProcess(pid)
