"""Lists the event that each call of a script makes, to compute how many events a script generates."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from agent.events.model import EventType
from agent.selftest.workload import LineReport, Outcome


class Effect(NamedTuple):
    """The event of a call, and the positions of its arguments in the line; 0 if it does not have one.

    `file` and `file2` are paths, or variables with a descriptor. A call on a file that does not exist makes
    no event.
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
    "chattr": Effect(EventType.CHATTR, 1, flags=2),
    "chattr_untouched": Effect(EventType.CHATTR, 1, flags=2),
    "fssetxattr": Effect(EventType.CHATTR, 1),
    "file_setattr": Effect(EventType.CHATTR, 2),
    "bind": Effect(EventType.MKNOD, 1),
    "mount": Effect(EventType.MOUNT, 2, name=3, source=1),
    "move_mount": Effect(EventType.MOUNT, 4),
    "mount_setattr": Effect(EventType.MOUNT, 2),
    "open_tree_attr": Effect(EventType.MOUNT, 2),
    "fsconfig_reconfigure": Effect(EventType.MOUNT, 1),
    "pivot_root": Effect(EventType.MOUNT, 2),
    "umount": Effect(EventType.UMOUNT, 1),
    "umount2": Effect(EventType.UMOUNT, 1),
}

# Other entry points of the same operations, with the same arguments.
CALLS |= {
    f"{name}32": CALLS[name]
    for name in (
        "open",
        "link",
        "unlink",
        "chmod",
        "rename",
        "mkdir",
        "rmdir",
        "symlink",
        "truncate",
        "move_mount",
        "fchown",
        "fsetxattr",
        "fremovexattr",
        "chattr",
    )
}
CALLS["fchown16"] = CALLS["fchown"]
CALLS |= {
    f"ring_{name}": CALLS[name]
    for name in ("openat", "openat2", "unlinkat", "renameat", "mkdirat", "linkat", "symlinkat", "setxattr")
}
CALLS["open_handle"] = Effect(EventType.OPEN, 1, flags=2)

# Calls that make one event if they succeed; a child that was waited for has ended.
_ON_SUCCESS: dict[str, EventType] = {"fork": EventType.FORK, "wait": EventType.EXIT}

# Calls that make no event, and the words of the script language.
_NO_EVENT = {
    *("write", "fsync", "sync", "dup", "chdir", "fchdir", "chroot", "unshare", "umask"),
    *("setuid", "setgid", "setresuid", "sendfile", "copy_file_range", "splice", "mapwrite", "ring_features"),
    *("open_tree", "fsopen", "fsconfig", "fsconfig_create", "fsconfig_flag", "fsmount", "fspick", "memfd"),
    *("comm", "mute", "handle", "kill", "cpu", "repeat", "rate", "thread", "stopped", "resume"),
}

_WRITING = {"creat", "O_WRONLY", "O_RDWR"}
_REFUSALS_OF_EXEC = (errno.EACCES, errno.EPERM, errno.ETXTBSY)  # of the file, before it is read
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENAMETOOLONG}


def generated(outcome: Outcome) -> Counter[EventType]:
    """Return the number of generated events by type. Raises ValueError for a call that is not listed here."""
    total: Counter[EventType] = Counter()
    lines = [line.split() for line in outcome.script.splitlines()]
    writers = closes_of_writers(outcome.script)
    for report in outcome.reports:
        effect = effect_of(lines[report.line - 1])
        if effect:
            total[effect.kind] += times(report)
        elif report.call == "exec":  # reports success before the call, and a failure after it
            total[EventType.EXEC] += report.ok - report.failed
            total[EventType.EXEC] += sum(report.errors.get(error, 0) for error in _REFUSALS_OF_EXEC)
            if lines[report.line - 1][2:3] in (["open"], ["hold"]):  # the executed generator opens a file
                total[EventType.OPEN] += report.ok - report.failed
        elif report.call in _ON_SUCCESS:
            total[_ON_SUCCESS[report.call]] += report.ok
        elif report.line in writers:
            total[EventType.CLOSE] += report.ok
        elif report.call not in _NO_EVENT | {"close", *CALLS}:
            raise ValueError(
                f"the event of call {report.call} is unknown: add it to agent/selftest/effects.py"
            )
    return total


def lines_of(outcome: Outcome) -> dict[EventType, list[str]]:
    """Return the lines of a script by the type of their events, each with the result of the call."""
    script = outcome.script.splitlines()
    by_kind: dict[EventType, list[str]] = {}
    for report in outcome.reports:
        text = f"{report.line}: {script[report.line - 1].strip()}: returned {report.ret}"
        for kind, count in generated(Outcome(outcome.script, (report,))).items():
            if count:
                by_kind.setdefault(kind, []).append(text)
    return by_kind


def effect_of(words: Sequence[str]) -> Effect | None:
    """Return the effect of a line of a script, or None if its call makes no event on a file."""
    effect = CALLS.get(words[0])
    flags = {flag for word in words for flag in word.split("|")}
    if effect and effect.kind is EventType.OPEN and "O_PATH" in flags:
        return None
    if effect and "AT_REMOVEDIR" in flags:
        return effect._replace(kind=EventType.RMDIR)
    return effect


def times(report: LineReport) -> int:
    """Return how many events a line with an effect made."""
    unseen = sum(count for error, count in report.errors.items() if error in _NOT_FOUND)
    return report.ok + report.failed - unseen


def closes_of_writers(script: str) -> dict[int, int]:
    """Return the lines that close a file which was open for writing, each with the line that opened it.

    The latter is the last line that set the variable.
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
