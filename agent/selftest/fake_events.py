"""Computes the events of a script from its lines and the generator's reports, for the fake agent.

Inode numbers are computed from paths, so that equal paths have equal inodes.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.events.model import Event, EventType, File, FileFlags
from agent.rules.constants import INODE_FLAGS, RENAME_FLAGS
from agent.selftest.effects import Effect, closes_of_writers, effect_of, times
from agent.selftest.workload import LineReport, Outcome, unquote

_DIRECTORIES = (EventType.MKDIR, EventType.RMDIR)
# Flags that the module `os` lacks, as scripts name them.
_FLAGS = INODE_FLAGS | {name.removeprefix("RENAME_"): value for name, value in RENAME_FLAGS.items()}


def events(outcome: Outcome, comms: dict[int, bytes]) -> Iterator[Event]:
    """Yield the events in the order of the reports, and the iterations of a loop one after the other.

    `comms` maps threads to the names that they set; the caller keeps it from script to script.
    """
    play = _Play(outcome)
    for report in outcome.reports:
        if report.call == "comm":
            comms[report.tid] = unquote(play.lines[report.line - 1][1])
        comm = comms.get(report.tid, comms.get(report.ppid, b"fim-gen"))
        for event in play.events(report):
            event.comm = comm
            yield event


class _Play:
    """One script: its lines, and the lines that set its variables."""

    def __init__(self, outcome: Outcome) -> None:
        self.lines = [line.split() for line in outcome.script.splitlines()]
        self._writers = closes_of_writers(outcome.script)
        self._opened = {
            words[-1]: words for words in self.lines if words[-2:-1] == ["->"] and effect_of(words)
        }

    def events(self, report: LineReport) -> Iterator[Event]:
        """Yield the events of one report."""
        words = self.lines[report.line - 1]
        if effect := effect_of(words):
            of_report = (self._file_event(effect, words, number) for number in range(times(report)))
        elif report.line in self._writers:
            opener = self.lines[self._writers[report.line] - 1]
            of_report = (self._close(opener, number) for number in range(report.ok))
        else:
            of_report = (_process_event(report, words) for _ in range(_process_events(report)))
        for event in of_report:
            yield _with_actor(event, report)

    def _close(self, opener: Sequence[str], number: int) -> Event:
        effect = effect_of(opener)
        assert effect
        return self._file_event(Effect(EventType.CLOSE, effect.file, flags=effect.flags), opener, number)

    def _file_event(self, effect: Effect, words: Sequence[str], number: int) -> Event:
        directory = effect.kind in _DIRECTORIES or (
            effect.kind is EventType.RENAME and _moves_directory(words)
        )
        event = Event(effect.kind, file=self._file(words[effect.file], number, directory=directory))
        if effect.file2:
            event.file2 = self._file(words[effect.file2], number)
        event.flags = _flags(words, effect.flags)
        event.mode = _mode(words, effect.mode)
        event.name = unquote(words[effect.name]) if effect.name else b""
        event.source = unquote(words[effect.source]) if effect.source else b""
        if effect.kind is EventType.CHOWN:
            event.new_uid, event.new_gid = int(words[effect.file + 1]), int(words[effect.file + 2])
        return event

    def _file(self, word: str, number: int, *, directory: bool = False) -> File:
        if word in self._opened:
            opener = self._opened[word]
            effect = effect_of(opener)
            assert effect
            word = opener[effect.file]
        path = _with_number(unquote(word), number)
        above = [path.rsplit(b"/", level)[0] for level in (1, 2, 3)]
        identities = (_inode(path), *(_inode(parent) if parent else 0 for parent in above))
        kind = stat.S_IFDIR if directory else stat.S_IFREG
        return File(
            path, _inode(path), 1, 1, kind | 0o600, nlink=1, flags=FileFlags.NONE, identities=identities
        )


def _process_events(report: LineReport) -> int:
    """Return how often a line started or ended a process or executed a program."""
    if report.call == "exec":
        return report.ok - report.failed
    return report.ok if report.call in ("fork", "wait") else 0


def _process_event(report: LineReport, words: Sequence[str]) -> Event:
    if report.call == "fork":
        return Event(EventType.FORK, child_pid=report.ret)
    if report.call == "wait":
        return Event(EventType.EXIT, exit_code=report.status)
    arguments = tuple(unquote(word) for word in words[1:])
    return Event(EventType.EXEC, file=File(arguments[0], _inode(arguments[0]), 1, 1), args=arguments)


def _with_actor(event: Event, report: LineReport) -> Event:
    event.pid, event.tid, event.ppid = report.pid, report.tid, report.ppid
    if event.type is EventType.EXIT:
        event.pid, event.tid, event.ppid = report.ret, report.ret, report.pid
    event.uid, event.gid = report.uid, report.gid
    event.retval = 0 if event.type is EventType.CLOSE else min(report.ret, 0)
    event.time_ns = report.last_ns
    return event


def _with_number(text: bytes, number: int) -> bytes:
    """Replace the generator's `%d` by the number of the iteration, and `%%` by `%`."""
    return b"%".join(part.replace(b"%d", b"%d" % number) for part in text.split(b"%%"))


def _moves_directory(words: Sequence[str]) -> bool:
    """Return whether a path of a rename is a directory; nothing is moved here, so either path may be it."""
    return any(Path(os.fsdecode(unquote(word))).is_dir() for word in words if word.startswith("/"))


def _inode(path: bytes) -> int:
    return 1 + zlib.crc32(path)


def _mode(words: Sequence[str], at: int) -> int:
    """Return the mode of a word: octal digits, or names of file types and octal digits joined by `|`."""
    if not at or len(words) <= at or words[at] == "->":
        return 0
    return sum(int(part, 8) if part.isdigit() else getattr(stat, part) for part in words[at].split("|"))


def _flags(words: Sequence[str], at: int) -> int:
    if not at or len(words) <= at:
        return 0
    known = (getattr(os, name, _FLAGS.get(name, 0)) for name in words[at].split("|"))
    return sum(known)
