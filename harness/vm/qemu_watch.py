"""Detects from /proc that QEMU ended or was stopped by a signal, independently of libvirt.

libvirt reports an end only after it has removed the domain, and does not report that a signal stopped QEMU:
such a guest would be silent until a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.vm.hypervisor import LifeEvent, Vitality

# The event, and for how many seconds QEMU must be in this state. After its end the other watchers get time to
# report the cause, such as a panic. A short stop is no event: a debugger may have stopped QEMU.
_EVENTS = {
    Vitality.GONE: (LifeEvent.FAILED, 0.3),
    Vitality.STOPPED: (LifeEvent.STOPPED, 1.0),
}


class QemuWatch:
    """Turns repeated observations of a QEMU process into an event."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = Vitality.RUNNING
        self._since = clock()

    def look(self, now: Vitality) -> LifeEvent | None:
        """Return the event once the state has lasted long enough, None before and while QEMU runs."""
        if now is not self._last:
            self._last, self._since = now, self._clock()
        event, patience = _EVENTS.get(now, (None, 0.0))
        return event if self._clock() - self._since >= patience else None
