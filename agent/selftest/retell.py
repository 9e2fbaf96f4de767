"""Tells the events of a script from the script and the generator's reports: what a perfect kernel would say.

For the agent's stand-in on a host where nothing can be loaded. Inodes are made up from paths, so that they
are the same for the same path.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence

from agent.events.model import Event, EventType, File, FileFlags
from agent.selftest.effects import Effect, closes_of_writers, effect_of, times
from agent.selftest.workload import LineReport, Outcome, unquote

_DIRECTORIES = (EventType.MKDIR, EventType.RMDIR)


def events(outcome: Outcome, comms: dict[int, bytes]) -> Iterator[Event]:
    """The events in the order of the reports; the turns of a loop one after the other.

    `comms` maps threads to the names that they took; it outlives the script.
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
    """One script, line by line, with what its variables hold."""

    def __init__(self, outcome: Outcome) -> None:
        self.lines = [line.split() for line in outcome.script.splitlines()]
        self._writers = closes_of_writers(outcome.script)
        self._opened = {
            words[-1]: words for words in self.lines if words[-2:-1] == ["->"] and effect_of(words)
        }

    def events(self, report: LineReport) -> Iterator[Event]:
        """The events of one report."""
        words = self.lines[report.line - 1]
        if effect := effect_of(words):
            found = (self._file_event(effect, words, turn) for turn in range(times(report)))
        elif report.line in self._writers:
            opener = self.lines[self._writers[report.line] - 1]
            found = (self._close(opener, turn) for turn in range(report.ok))
        else:
            found = (_process_event(report, words) for _ in range(_lives(report)))
        for event in found:
            yield _done_by(event, report)

    def _close(self, opener: Sequence[str], turn: int) -> Event:
        effect = effect_of(opener)
        assert effect
        return self._file_event(Effect(EventType.CLOSE, effect.file, flags=effect.flags), opener, turn)

    def _file_event(self, effect: Effect, words: Sequence[str], turn: int) -> Event:
        directory = effect.kind in _DIRECTORIES
        event = Event(effect.kind, file=self._file(words[effect.file], turn, directory=directory))
        if effect.file2:
            event.file2 = self._file(words[effect.file2], turn)
        event.flags = _flags(words, effect.flags)
        event.mode = _mode(words, effect.mode)
        event.name = unquote(words[effect.name]) if effect.name else b""
        event.source = unquote(words[effect.source]) if effect.source else b""
        if effect.kind is EventType.CHOWN:
            event.new_uid, event.new_gid = int(words[effect.file + 1]), int(words[effect.file + 2])
        return event

    def _file(self, word: str, turn: int, *, directory: bool = False) -> File:
        if word in self._opened:
            opener = self._opened[word]
            effect = effect_of(opener)
            assert effect
            word = opener[effect.file]
        path = _in_turn(unquote(word), turn)
        above = [path.rsplit(b"/", level)[0] for level in (1, 2, 3)]
        identities = (_inode(path), *(_inode(parent) if parent else 0 for parent in above))
        kind = stat.S_IFDIR if directory else stat.S_IFREG
        return File(
            path, _inode(path), 1, 1, kind | 0o600, nlink=1, flags=FileFlags.NONE, identities=identities
        )


def _lives(report: LineReport) -> int:
    """How often a line began or ended a process, or made it another program."""
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


def _done_by(event: Event, report: LineReport) -> Event:
    event.pid, event.tid, event.ppid = report.pid, report.tid, report.ppid
    if event.type is EventType.EXIT:
        event.pid, event.tid, event.ppid = report.ret, report.ret, report.pid
    event.uid, event.gid = report.uid, report.gid
    event.retval = 0 if event.type is EventType.CLOSE else min(report.ret, 0)
    event.time_ns = report.last_ns
    return event


def _in_turn(text: bytes, turn: int) -> bytes:
    """The generator's `%d` and `%%`, filled in."""
    return b"%".join(part.replace(b"%d", b"%d" % turn) for part in text.split(b"%%"))


def _inode(path: bytes) -> int:
    return 1 + zlib.crc32(path)


def _mode(words: Sequence[str], at: int) -> int:
    """A mode as a script writes it: octal, perhaps with names of types before it."""
    if not at or len(words) <= at or words[at] == "->":
        return 0
    return sum(int(part, 8) if part.isdigit() else getattr(stat, part) for part in words[at].split("|"))


def _flags(words: Sequence[str], at: int) -> int:
    if not at or len(words) <= at:
        return 0
    known = (getattr(os, name, 0) for name in words[at].split("|"))
    return sum(known)
