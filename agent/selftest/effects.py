"""What the agent must see of each call in a script: the generator's side of the ledger, as data."""

from __future__ import annotations

from collections import Counter

from agent.events import EventType
from agent.selftest.workload import Outcome

# One event for each call, whether the kernel grants or refuses it.
_ALWAYS: dict[str, EventType] = {
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

# One event for each call that succeeds; a child that was waited for has ended.
_GRANTED: dict[str, EventType] = {"fork": EventType.FORK, "wait": EventType.EXIT}

# No event of their own, and the words of the script language.
_NEVER = {
    *("write", "fsync", "dup", "chdir", "fchdir", "umask", "setuid", "setgid", "setresuid"),
    *("comm", "repeat", "rate"),
}

_WRITING = {"creat", "O_WRONLY", "O_RDWR"}


def generated(outcome: Outcome) -> Counter[EventType]:
    """Events by type.

    Raises ValueError for a call whose effect is not written down here: what is not known cannot be counted.
    """
    total: Counter[EventType] = Counter()
    writers = _writers(outcome.script)
    for report in outcome.reports:
        if report.call in _ALWAYS:
            total[_ALWAYS[report.call]] += report.ok + report.failed
        elif report.call in _GRANTED:
            total[_GRANTED[report.call]] += report.ok
        elif report.line in writers:
            total[EventType.CLOSE] += report.ok
        elif report.call not in _NEVER | {"close"}:
            raise ValueError(f"nobody knows which event {report.call} makes: agent/selftest/effects.py")
    return total


def _writers(script: str) -> set[int]:
    """The lines that close what was opened for writing, by the line that last set their variable."""
    writing: dict[str, bool] = {}
    closes = set()
    for number, words in enumerate((line.split() for line in script.splitlines()), 1):
        if words[-2:-1] == ["->"]:
            writing[words[-1]] = bool(_WRITING & {flag for word in words for flag in word.split("|")})
        elif words[:1] == ["close"] and writing.get(words[1]):
            closes.add(number)
    return closes
