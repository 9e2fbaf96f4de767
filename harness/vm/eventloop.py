"""Runs libvirt's event loop in a thread: one for each process, started by the first connection.

libvirt delivers lifecycle events only while a thread runs its loop, and the loop must be registered
before the first connection is opened. The loop ends before Python does: a timer or event that calls into
an interpreter during its shutdown ends the process with SIGSEGV, even after a run without errors.
"""

from __future__ import annotations

import atexit
import functools
import threading

from harness.host import deadlines
from harness.vm.api import libvirt

_WAKE_MS = 1000


@functools.cache
def start() -> threading.Thread:
    """Start the loop if it does not run yet; it runs until Python ends."""
    # Without a handler libvirt prints every error to stderr, including expected ones that are handled.
    libvirt.registerErrorHandler(_swallow, None)
    libvirt.virEventRegisterDefaultImpl()
    # In some versions a loop without handles blocks in poll and does not notice new ones; a timer wakes it.
    timer = libvirt.virEventAddTimeout(_WAKE_MS, _tick, None)
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(over,), name="libvirt-events", daemon=True)
    thread.start()
    atexit.register(_stop, thread, over, timer)
    return thread


def _run(over: threading.Event) -> None:
    while not over.is_set():
        libvirt.virEventRunDefaultImpl()


def _stop(thread: threading.Thread, over: threading.Event, timer: int) -> None:
    over.set()
    libvirt.virEventUpdateTimeout(timer, 0)
    thread.join(deadlines.EVENT_LOOP_S)


def _swallow(_context: object, _error: object) -> None:
    return


def _tick(_timer: int, _opaque: object) -> None:
    return
