"""What the host says of an emulator, as an event of its domain's life: the watcher that trusts nobody.

libvirt tells of an end as well, but only after it has put the domain away, and of a QEMU that was stopped by
a signal it says nothing: that guest would be silent until a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.vm.hypervisor import LifeEvent, Vitality

# How long it must be so. An end leaves time for whoever knows more of it, such as of a panic before it; a
# stop for who only looks, as a debugger does.
_MEANS = {
    Vitality.GONE: (LifeEvent.FAILED, 0.3),
    Vitality.STOPPED: (LifeEvent.STOPPED, 1.0),
}


class Pulse:
    """Felt again and again, it says when something is wrong for long enough."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = Vitality.RUNNING
        self._since = clock()

    def feel(self, now: Vitality) -> LifeEvent | None:
        """The event that this is, None while all is well or not yet clear."""
        if now is not self._last:
            self._last, self._since = now, self._clock()
        event, patience = _MEANS.get(now, (None, 0.0))
        return event if self._clock() - self._since >= patience else None
