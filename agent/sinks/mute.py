"""Holds back matches for a while, at the request of an operator.

A mute names rules and paths by globs, ends by itself, and is kept in a file, so that it survives a restart.
The events show it: its start and its end are events, with the number of matches that it held back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from agent.events.model import Event
from agent.rules.patterns import Pattern
from agent.rules.regex import PatternError
from agent.rules.trust import read_trusted
from agent.sinks.render import escape

MAX_MUTES = 64
MAX_S = 30 * 86_400.0  # without an end, disable the rule in the policy, where every reader sees it
MAX_TEXT = 500  # characters of a reason
MAX_LISTED = 200  # pairs of rule and path with a count of their own
MAX_ENDED = 20  # mutes that are listed after their end
SAVE_S = 10.0
_MAX_BYTES = 8 << 20
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    UsageError,
)  # what reading a stored file of any content can raise
_EVERY_RULE, _EVERY_PATH = "*", "/**"

Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(slots=True)
class Mute:
    """One mute; times are seconds since 1970. `matches` counts what was held back, by `RULE PATH`."""

    id: int
    rule: str
    path: str
    reason: str
    uid: int  # of the user who asked for it
    started: float
    until: float
    held: int = 0
    matches: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ValueError for a stored mute with a value of another type, or without an end."""
        numbers = (self.id, self.uid, self.held, *self.matches.values())
        texts = (self.rule, self.path, self.reason, *self.matches)
        if not (all(type(one) is int for one in numbers) and all(type(one) is str for one in texts)):
            raise ValueError("a mute has a value of another type")
        if not self.until - self.started <= MAX_S:  # nor NaN
            raise ValueError(f"a mute does not end after {MAX_S / 86400:g} days")

    def about(self) -> dict[str, Any]:
        """Return what the events say of it: everything but the single matches."""
        about = asdict(self)
        del about["matches"]
        return about


class Mutes:
    """The mutes in force, kept in `file`. `report` sends an event of the agent itself."""

    def __init__(
        self, file: Path | None = None, report: Report | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self.active: list[Mute] = []
        self.report = report or (lambda _kind, _members: None)
        self._file = file
        self._wall = wall
        self._ended: list[Mute] = []
        self._globs: dict[str, Pattern] = {}
        self._last = 0
        self._save_at = 0.0
        self._changed = False

    def restore(self) -> str:
        """Read the mutes of an earlier run; return why they could not be read, "" if they were."""
        if self._file is None:
            return ""
        try:
            stored = _read(self._file)
            self._last = int(stored["last"])
            self._ended = [Mute(**each) for each in stored["ended"]]
            mutes = [Mute(**each) for each in stored["active"]]
            for mute in (*mutes, *self._ended):
                mute.check()
            self._globs = {mute.path: _glob(mute.path) for mute in mutes}
        except FileNotFoundError:
            return ""
        except _DAMAGED as error:
            self._last, self._ended = 0, []
            return f"no mute is in force: cannot read {self._file}: {error}"
        for mute in mutes:  # a clock that was set back must not make a mute longer
            mute.until = min(mute.until, self._wall() + mute.until - mute.started)
        self.active = mutes
        return ""

    def add(self, rule: str, path: str, seconds: float, reason: str, uid: int) -> Mute:
        """Put a mute in force and report it. Raises UsageError for an invalid one."""
        rule, path = rule or _EVERY_RULE, path or _EVERY_PATH
        if (rule, path) == (_EVERY_RULE, _EVERY_PATH):
            raise UsageError("the mute would hold back everything", hint="name a --rule or a --path")
        if not 1 <= seconds <= MAX_S:
            raise UsageError(f"a mute of {seconds:g} s", hint=f"use 1s to {MAX_S / 86400:g}d")
        if not 1 <= len(reason.strip()) <= MAX_TEXT or len(rule) > MAX_TEXT:
            raise UsageError(f"the reason must have 1 to {MAX_TEXT} characters", hint="add --reason TEXT")
        if len(self.active) >= MAX_MUTES:
            raise UsageError(f"{MAX_MUTES} mutes are in force", hint="end one: agent mute --end ID")
        self._globs[path] = _glob(path)
        now = self._wall()
        mute = Mute(self._last + 1, rule, path, reason.strip(), uid, now, now + seconds)
        self.active.append(mute)
        try:
            self._save()
        except OSError as error:
            self.active.remove(mute)
            raise UsageError(f"cannot store the mute: {error}", hint="see --state of `agent run`") from error
        self._last = mute.id
        self.report("mute", {"state": "started", **mute.about()})
        return mute

    def end(self, number: int) -> Mute:
        """End a mute before its time. Raises UsageError if none has this number."""
        found = [mute for mute in self.active if mute.id == number]
        if not found:
            raise UsageError(f"no mute {number} is in force", hint="see agent mute --list")
        self._end(found[0])
        return found[0]

    def holds(self, rule: str, event: Event) -> bool:
        """Whether to hold back a match of a rule; it is counted then."""
        for mute in self.active:
            if fnmatchcase(rule, mute.rule) and (path := self._matching(mute, event)) is not None:
                key = f"{rule} {escape(path)}"
                mute.held += 1
                if key in mute.matches or len(mute.matches) < MAX_LISTED:
                    mute.matches[key] = mute.matches.get(key, 0) + 1
                self._changed = True
                return True
        return False

    def tick(self) -> None:
        """End the mutes whose time is over, and store the counts."""
        now = self._wall()
        for mute in [mute for mute in self.active if mute.until <= now]:
            self._end(mute)
        if self._changed and not self._save_at <= now < self._save_at + SAVE_S:
            self.store()

    def store(self) -> None:
        """Store the counts; a full disk must not end the agent, and the mutes in the file stay."""
        self._save_at, self._changed = self._wall(), False
        try:
            self._save()
        except OSError:
            self._changed = True

    def state(self) -> dict[str, Any]:
        """Return all mutes in force and the last that ended, with what they held back."""
        return {
            "active": [asdict(mute) for mute in self.active],
            "ended": [asdict(mute) for mute in self._ended],
        }

    @property
    def held(self) -> int:
        """Matches held back by the mutes that are listed."""
        return sum(mute.held for mute in (*self.active, *self._ended))

    def _end(self, mute: Mute) -> None:
        self.active.remove(mute)
        self._ended = [*self._ended, mute][-MAX_ENDED:]
        self.report("mute", {"state": "ended", **mute.about()})
        self.store()

    def _matching(self, mute: Mute, event: Event) -> bytes | None:
        """Return the path of the event that a mute names, or None."""
        for file in (event.file, event.file2):
            if file is not None and (mute.path == _EVERY_PATH or self._globs[mute.path].matches(file.path)):
                return file.path
        return None

    def _save(self) -> None:
        if self._file is None:
            return
        content = json.dumps({"last": max([self._last, *(mute.id for mute in self.active)]), **self.state()})
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        fresh.replace(self._file)


def _glob(path: str) -> Pattern:
    try:
        return Pattern("glob", os.fsencode(path), path=True)
    except PatternError as error:
        raise UsageError(f"invalid glob {path!r}: {error}", hint="write --path '/srv/app/**'") from error


def _read(file: Path) -> dict[str, Any]:
    file.lstat()  # raises FileNotFoundError
    found = json.loads(read_trusted(file, _MAX_BYTES))
    if not isinstance(found, dict):
        raise TypeError("it is no JSON object")
    return found
