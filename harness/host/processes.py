"""Controls a process by a pidfd, so that a signal cannot hit a later process with the same id.

`adopt_orphans` makes orphaned descendants our children, so that we can reap them. Where init reaps slowly
(containers, small machines) a dead QEMU stays a zombie for seconds, and libvirt waits for its end.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import select
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_STOPPED = "T"


@functools.cache
def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants from now on."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_session_leaders(name: str) -> None:
    """Reap zombie children that lead a session and whose name begins with `name`.

    A program that becomes a daemon leaves such a process behind, and no other process waits for it.
    """
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError, ValueError):
            for pid in map(int, (task / "children").read_text().split()):
                if Path(f"/proc/{pid}/comm").read_text().startswith(name) and os.getsid(pid) == pid:
                    os.waitpid(pid, os.WNOHANG)


def kill_children(pids: Collection[int], timeout_s: float) -> None:
    """Kill these children at once, and wait up to `timeout_s` for each: what they locked is then free."""
    held = []
    for pid in pids:
        with suppress(ProcessLookupError):
            held.append(HeldProcess(pid))
    for process in held:
        process.kill(0)
    for process in held:
        process.ended(timeout_s)
        process.release()


class HeldProcess:
    """A running process, by its id. Raises ProcessLookupError if no process has it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def kill(self, timeout_s: float) -> bool:
        """Kill the process and wait; return whether it ended within the time. A zombie has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        return self.ended(timeout_s)

    def limit_files(self, size: int) -> None:
        """Limit the files that the process writes to `size` bytes: SIGXFSZ ends a program that exceeds it."""
        with suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, size))

    def stopped(self) -> bool:
        """Whether the process is stopped by a signal."""
        # The process name, which comes before the state, may contain brackets.
        with suppress(OSError, IndexError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == _STOPPED
        return False

    def ended(self, timeout_s: float = 0) -> bool:
        """Wait for the process to end; return whether it ended within the time."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def reap(self) -> None:
        """Reap the process if it has ended and is a child of this one."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)

    def release(self) -> None:
        """Close the pidfd."""
        os.close(self._descriptor)
