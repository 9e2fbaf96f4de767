"""Looks up the names of users and groups in the host's own files.

A uid in an event is a uid of the host. Names therefore come from the host's `/etc/passwd` and `/etc/group`,
also for a process in a container, whose own files may give the number another name. Directory services are
not queried, because a lookup that can block would stall the event stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

CHECK_INTERVAL_S = 1.0  # how long a name may be outdated after its file changed


class NameFile:
    """One file of `name:password:number:…` lines, read again after changes.

    An unreadable file has no names, and invalid lines are ignored. The name of an unknown number is b"".
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._next_check = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._names: dict[int, bytes] = {}

    def name(self, number: int) -> bytes:
        """Return the first name of `number` in the file, as the C library does."""
        now = self._clock()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL_S
            self._refresh()
        return self._names.get(number, b"")

    def _refresh(self) -> None:
        stamp = self._current_stamp()
        if stamp == self._stamp:
            return
        try:
            self._names = parse_names(self._path.read_bytes())
        except OSError:
            self._names = {}
        self._stamp = stamp

    def _current_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        # Tools replace these files by rename: the inode changes even if a coarse clock hides the new time.
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse_names(content: bytes) -> dict[int, bytes]:
    """Return names by number from a passwd or group file; the first line of a number decides."""
    names: dict[int, bytes] = {}
    for line in content.splitlines():
        parts = line.split(b":")
        if len(parts) > 2 and parts[0] and parts[2].isdigit():
            names.setdefault(int(parts[2]), parts[0])
    return names


class Users:
    """User and group names of the host whose root is `root`."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._users = NameFile(root / "etc/passwd", clock)
        self._groups = NameFile(root / "etc/group", clock)

    def user(self, uid: int) -> bytes:
        """Return the name of a user, b"" if the host has none."""
        return self._users.name(uid)

    def group(self, gid: int) -> bytes:
        """Return the name of a group, b"" if the host has none."""
        return self._groups.name(gid)
