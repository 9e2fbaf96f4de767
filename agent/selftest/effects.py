"""What the agent must see of each call in a script: the generator's side of the ledger, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from agent.events import EventType
from agent.selftest.workload import LineReport

_EVENT: dict[str, EventType] = {
    "open": EventType.OPEN,
    "openat": EventType.OPEN,
    "openat2": EventType.OPEN,
    "creat": EventType.OPEN,
    "unlink": EventType.UNLINK,
    "rmdir": EventType.RMDIR,
    "mkdir": EventType.MKDIR,
    "mkdirat": EventType.MKDIR,
    "rename": EventType.RENAME,
    "renameat": EventType.RENAME,
    "renameat2": EventType.RENAME,
    "link": EventType.LINK,
    "linkat": EventType.LINK,
    "symlink": EventType.SYMLINK,
    "symlinkat": EventType.SYMLINK,
    "mknod": EventType.MKNOD,
    "mknodat": EventType.MKNOD,
}

# Calls that are no event of their own, and the words of the script language.
_NONE = {
    *("close", "write", "fsync", "dup", "chdir", "fchdir", "umask", "setuid", "setgid", "setresuid"),
    *("comm", "fork", "thread", "wait", "repeat", "rate"),
}


def generated(reports: Iterable[LineReport]) -> Counter[EventType]:
    """Events by type: a call that the kernel refused is an event like one that it granted.

    Raises ValueError for a call whose effect is not written down here: what is not known cannot be counted.
    """
    total: Counter[EventType] = Counter()
    for report in reports:
        if report.call in _EVENT:
            total[_EVENT[report.call]] += report.ok + report.failed
        elif report.call not in _NONE:
            raise ValueError(f"nobody knows which event {report.call} makes: agent/selftest/effects.py")
    return total
