"""Tells the events of a script from the script and the generator's reports: what a perfect kernel would say.

For the agent's stand-in on a host where nothing can be loaded. Inodes are made up from paths, so that they
are the same for the same path.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

from agent.events import Event, EventType, File, FileFlags
from agent.selftest.workload import LineReport, Outcome, unquote

TOLD = (EventType.OPEN, EventType.UNLINK, EventType.RENAME)


def events(outcome: Outcome, comms: dict[int, bytes]) -> Iterator[Event]:
    """The events in the order of the reports; the turns of a loop one after the other.

    `comms` maps threads to the names that they took; it outlives the script.
    """
    lines = [line.split() for line in outcome.script.splitlines()]
    for report in outcome.reports:
        words = lines[report.line - 1]
        if report.call == "comm":
            comms[report.tid] = unquote(words[1])
        comm = comms.get(report.tid, comms.get(report.ppid, b"fim-gen"))
        for turn in range(report.ok + report.failed):
            if event := _event(report, words, turn):
                event.comm = comm
                yield event


def _event(report: LineReport, words: list[str], turn: int) -> Event | None:
    if report.call == "open":
        event = Event(EventType.OPEN, file=_file(words[1], turn), flags=_flags(words[2]))
        event.mode = int(words[3], 8) if len(words) > 3 and words[3].isdigit() else 0
    elif report.call == "unlink":
        event = Event(EventType.UNLINK, file=_file(words[1], turn))
    elif report.call == "rename":
        event = Event(EventType.RENAME, file=_file(words[1], turn), file2=_file(words[2], turn))
    else:
        return None
    event.pid, event.tid, event.ppid = report.pid, report.tid, report.ppid
    event.uid, event.gid = report.uid, report.gid
    event.retval = min(report.ret, 0)
    event.time_ns = report.last_ns
    return event


def _file(word: str, turn: int) -> File:
    path = unquote(word).replace(b"%d", str(turn).encode()).replace(b"%%", b"%")
    above = [path.rsplit(b"/", level)[0] for level in (1, 2, 3)]
    parents = tuple(_inode(parent) for parent in above if parent)
    return File(path, _inode(path), 1, 1, 0o100600, nlink=1, flags=FileFlags.NONE, parents=parents)


def _inode(path: bytes) -> int:
    return 1 + zlib.crc32(path)


def _flags(word: str) -> int:
    return sum(getattr(os, name) for name in word.split("|"))
