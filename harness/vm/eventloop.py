"""libvirt's event loop in a thread of its own: one a process, started by the first connection, never stopped.

libvirt delivers lifecycle events only while somebody runs its loop, and it must be registered before the
first connection is opened. The thread is a daemon: it holds nothing that a process which ends would have to
give back.
"""

from __future__ import annotations

import functools
import threading

from harness.vm.api import libvirt

_WAKE_MS = 1000


@functools.cache
def start() -> threading.Thread:
    """Starts the loop if it does not run yet."""
    # Without a handler libvirt prints every error to stderr, also those that are expected and handled.
    libvirt.registerErrorHandler(_swallow, None)
    libvirt.virEventRegisterDefaultImpl()
    # An empty loop would block for ever in poll without noticing new handles on some versions; a timer wakes
    # it.
    libvirt.virEventAddTimeout(_WAKE_MS, _tick, None)
    thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
    thread.start()
    return thread


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _swallow(_context: object, _error: object) -> None:
    return


def _tick(_timer: int, _opaque: object) -> None:
    return
