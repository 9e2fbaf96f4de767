"""A process held fast by a pidfd: a signal through it cannot hit another that got the same id."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress


class HeldProcess:
    """A running process, by its id. Raises ProcessLookupError if there is none."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def kill(self, timeout_s: float) -> bool:
        """Kills it and waits; whether it is gone. A zombie is gone: it waits for its parent only."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        return self.ended(timeout_s)

    def ended(self, timeout_s: float = 0) -> bool:
        """Whether it ends within that time."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def release(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)
