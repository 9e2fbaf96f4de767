"""What the agent must see of each call in a script: the generator's side of the ledger, as data."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from agent.events.model import EventType
from agent.selftest.workload import LineReport, Outcome


class Effect(NamedTuple):
    """The event of a call, and which words of its line say what; 0: no word does.

    `file` and `file2` are paths, or variables that hold a descriptor. What the kernel does not find is no
    event.
    """

    kind: EventType
    file: int
    file2: int = 0
    flags: int = 0
    mode: int = 0
    name: int = 0
    source: int = 0


CALLS: dict[str, Effect] = {
    "open": Effect(EventType.OPEN, 1, flags=2, mode=3),
    "creat": Effect(EventType.OPEN, 1, mode=2),
    "openat": Effect(EventType.OPEN, 2, flags=3, mode=4),
    "openat2": Effect(EventType.OPEN, 2, flags=3, mode=4),
    "unlink": Effect(EventType.UNLINK, 1),
    "unlinkat": Effect(EventType.UNLINK, 2),
    "rmdir": Effect(EventType.RMDIR, 1),
    "mkdir": Effect(EventType.MKDIR, 1, mode=2),
    "mkdirat": Effect(EventType.MKDIR, 2, mode=3),
    "rename": Effect(EventType.RENAME, 1, 2),
    "renameat": Effect(EventType.RENAME, 2, 4),
    "renameat2": Effect(EventType.RENAME, 2, 4, flags=5),
    "link": Effect(EventType.LINK, 1, 2),
    "linkat": Effect(EventType.LINK, 2, 4),
    "symlink": Effect(EventType.SYMLINK, 2, name=1),
    "symlinkat": Effect(EventType.SYMLINK, 3, name=1),
    "mknod": Effect(EventType.MKNOD, 1, mode=2),
    "mknodat": Effect(EventType.MKNOD, 2, mode=3),
    "truncate": Effect(EventType.TRUNCATE, 1),
    "ftruncate": Effect(EventType.TRUNCATE, 1),
    "chmod": Effect(EventType.CHMOD, 1, mode=2),
    "fchmod": Effect(EventType.CHMOD, 1, mode=2),
    "fchmodat": Effect(EventType.CHMOD, 2, mode=3),
    "chown": Effect(EventType.CHOWN, 1),
    "fchown": Effect(EventType.CHOWN, 1),
    "fchownat": Effect(EventType.CHOWN, 2),
    "utimensat": Effect(EventType.UTIMES, 2),
    "setxattr": Effect(EventType.SETXATTR, 1, name=2),
    "lsetxattr": Effect(EventType.SETXATTR, 1, name=2),
    "fsetxattr": Effect(EventType.SETXATTR, 1, name=2),
    "removexattr": Effect(EventType.REMOVEXATTR, 1, name=2),
    "lremovexattr": Effect(EventType.REMOVEXATTR, 1, name=2),
    "fremovexattr": Effect(EventType.REMOVEXATTR, 1, name=2),
    "mount": Effect(EventType.MOUNT, 2, name=3, source=1),
    "umount": Effect(EventType.UMOUNT, 1),
    "umount2": Effect(EventType.UMOUNT, 1),
}

# The same by other ways in, with the same words.
CALLS |= {
    f"{name}32": CALLS[name]
    for name in ("open", "link", "unlink", "chmod", "rename", "mkdir", "rmdir", "symlink", "truncate")
}
CALLS |= {
    f"ring_{name}": CALLS[name]
    for name in ("openat", "openat2", "unlinkat", "renameat", "mkdirat", "linkat", "symlinkat", "setxattr")
}
CALLS["open_handle"] = Effect(EventType.OPEN, 1, flags=2)

# One event for each call that succeeds; a child that was waited for has ended.
_GRANTED: dict[str, EventType] = {"fork": EventType.FORK, "wait": EventType.EXIT}

# No event of their own, and the words of the script language.
_NEVER = {
    *("write", "fsync", "dup", "chdir", "fchdir", "chroot", "unshare", "umask"),
    *("setuid", "setgid", "setresuid", "sendfile", "copy_file_range", "splice", "mapwrite", "ring_features"),
    *("comm", "cpu", "repeat", "rate", "thread", "stopped", "resume"),
}

_WRITING = {"creat", "O_WRONLY", "O_RDWR"}
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENAMETOOLONG}


def generated(outcome: Outcome) -> Counter[EventType]:
    """Events by type.

    Raises ValueError for a call whose effect is not written down here: what is not known cannot be counted.
    """
    total: Counter[EventType] = Counter()
    lines = [line.split() for line in outcome.script.splitlines()]
    writers = closes_of_writers(outcome.script)
    for report in outcome.reports:
        effect = effect_of(lines[report.line - 1])
        if effect:
            total[effect.kind] += times(report)
        elif report.call == "exec":  # says so before it tries; only the failure comes back
            total[EventType.EXEC] += report.ok - report.failed
            if lines[report.line - 1][2:3] in (["open"], ["hold"]):  # which the generator as a program does
                total[EventType.OPEN] += report.ok - report.failed
        elif report.call in _GRANTED:
            total[_GRANTED[report.call]] += report.ok
        elif report.line in writers:
            total[EventType.CLOSE] += report.ok
        elif report.call not in _NEVER | {"close", *CALLS}:
            raise ValueError(f"nobody knows which event {report.call} makes: agent/selftest/effects.py")
    return total


def lines_of(outcome: Outcome) -> dict[EventType, list[str]]:
    """The lines of a script by the event type that they make, each with what the kernel returned."""
    script = outcome.script.splitlines()
    found: dict[EventType, list[str]] = {}
    for report in outcome.reports:
        words = f"{report.line}: {script[report.line - 1].strip()}: returned {report.ret}"
        for kind, count in generated(Outcome(outcome.script, (report,))).items():
            if count:
                found.setdefault(kind, []).append(words)
    return found


def effect_of(words: Sequence[str]) -> Effect | None:
    """The effect of a line of a script, if it is of a call that acts on files."""
    effect = CALLS.get(words[0])
    flags = {flag for word in words for flag in word.split("|")}
    if effect and effect.kind is EventType.OPEN and "O_PATH" in flags:
        return None
    if effect and "AT_REMOVEDIR" in flags:
        return effect._replace(kind=EventType.RMDIR)
    return effect


def times(report: LineReport) -> int:
    """How many events a line of a known effect made."""
    unseen = sum(count for error, count in report.errors.items() if error in _NOT_FOUND)
    return report.ok + report.failed - unseen


def closes_of_writers(script: str) -> dict[int, int]:
    """The lines that close what was opened for writing, and the line that opened it.

    It is told by the line that last set their variable.
    """
    writing: dict[str, int] = {}
    closes = {}
    for number, words in enumerate((line.split() for line in script.splitlines()), 1):
        if words[-2:-1] == ["->"]:
            writes = _WRITING & {flag for word in words for flag in word.split("|")}
            writing[words[-1]] = number if writes else 0
        elif words[:1] == ["close"] and (opened := writing.get(words[1])):
            closes[number] = opened
    return closes
