"""The results of one play: the generator's records and the matches of both agents.

Every text that comes from the guest is bytes, decoded as UTF-8 with surrogateescape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Match = Mapping[str, Any]  # a line of the agent, and "part": 0 before the reload of a play, 1 after it


@dataclass(frozen=True)
class Stat:
    """The statx data of an object."""

    dev: str = ""  # "major:minor"
    ino: int = 0
    mnt: int = 0  # 0: this kernel's statx knows no mount id
    mode: int = 0
    uid: int = 0
    gid: int = 0
    nlink: int = 0
    size: int = 0
    mtime: int = 0  # ns
    ctime: int = 0  # ns
    btime: int = 0  # ns; 0: this file system has none


@dataclass(frozen=True)
class Seen:
    """What the kernel said about one argument before the call.

    `resolved` is the path without following a last link, `followed` with following it; of a name that does
    not exist, the path of its directory and the name. None: the kernel refused to resolve it, with `error`.
    `st` is None if the object does not exist. Of a descriptor, `resolved` is what /proc/self/fd says.
    """

    arg: int
    resolved: str | None = None
    followed: str | None = None
    st: Stat | None = None
    followed_st: Stat | None = None
    error: int = 0
    parent: Stat | None = None  # the directory of a name that does not exist


@dataclass(frozen=True)
class Opened:
    """The kernel's data on the descriptor that a call returned."""

    path: str
    st: Stat | None = None


@dataclass(frozen=True)
class Record:
    """One operation of one process, and the kernel's results."""

    program: str
    line: int  # of the script, from 1
    call: str
    words: tuple[str, ...]  # the line as it stands in the script, split, without `-> $N`
    pid: int
    tid: int
    ppid: int
    uid: int
    gid: int
    ret: int
    ok: int = 0  # how often it succeeded: lines in loops run often
    failed: int = 0
    status: int = 0
    comm: str = ""
    seen: tuple[Seen, ...] = ()
    fd: Opened | None = None
    part: int = 0

    def at(self, arg: int) -> Seen | None:
        """Return the witness of an argument, counted from 0."""
        return next((seen for seen in self.seen if seen.arg == arg), None)


@dataclass(frozen=True)
class Outside:
    """What fanotify reported of one part of a play, and the devices ("major:minor") that it watched."""

    part: int
    events: frozenset[tuple[int, str, str]]  # process, kind, last name
    devices: frozenset[str]


@dataclass(frozen=True)
class Played:
    """A play that ran to its end."""

    records: tuple[Record, ...]
    on: tuple[Match, ...]
    off: tuple[Match, ...]
    ledger_on: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ledger_off: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lost: int = 0  # by the agent with filters, without the neighbour's own events
    lost_off: int = 0  # the same of the agent without filters; if not 0, `off` is incomplete
    problems: tuple[str, ...] = ()
    outside: tuple[Outside, ...] = ()  # of the parts that fanotify watched
