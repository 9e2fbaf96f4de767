"""A process held fast by a pidfd: a signal through it cannot hit another that got the same id.

Orphans below us become our children, so that we can reap them: where init is slow at it (containers, small
machines) a dead QEMU would stay for seconds, and libvirt waits until it is gone. See prctl(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import select
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_STOPPED = "T"


@functools.cache
def adopt_orphans() -> None:
    """From now on what our children leave behind is ours to reap."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_session_leaders(name: str) -> None:
    """Reap our zombies whose name begins like that and that lead a session.

    A program that becomes a daemon leaves such a process behind; nobody else waits for it.
    """
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError, ValueError):
            for pid in map(int, (task / "children").read_text().split()):
                if Path(f"/proc/{pid}/comm").read_text().startswith(name) and os.getsid(pid) == pid:
                    os.waitpid(pid, os.WNOHANG)


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

    def limit_files(self, size: int) -> None:
        """Let it write no file beyond `size` bytes: SIGXFSZ ends a program that tries."""
        with suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, size))

    def stopped(self) -> bool:
        """Whether a signal made it stand still."""
        # The name before the state may hold anything, also brackets.
        with suppress(OSError, IndexError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == _STOPPED
        return False

    def ended(self, timeout_s: float = 0) -> bool:
        """Whether it ends within that time."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def reap(self) -> None:
        """Lets it go if it has ended and was an orphan of ours."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)

    def release(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)
