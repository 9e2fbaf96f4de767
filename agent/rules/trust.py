"""Reads a rule file only if no other user can change it.

Rules decide what the agent reports, so only root and the agent's own user may be able to change them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import UsageError

MAX_LINKS = 40  # symbolic links on the way to one file, as in the kernel
_MOUNTINFO = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """A line of mountinfo: the directory `root` of a file system is mounted at `at`."""

    device: str
    root: Path
    at: Path
    read_only: bool


def read_trusted(path: Path, most: int) -> bytes:
    """Return up to `most` bytes of a rule file that only root or the agent's own user can change.

    Raises UsageError for a file that cannot be read, is not a regular file, belongs to another user or is
    writable for other users, or that another user could replace in a directory of its path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if reason := distrust(os.fstat(descriptor)):
            raise UsageError(f"refusing {path}: {reason}", hint=f"chown root {path}; chmod go-w {path}")
        _check_directories(path)
        try:
            return file.read(most)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None


def distrust(status: os.stat_result) -> str:
    """Return why a file cannot be trusted; "" if it can."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {status.st_uid}"
    if status.st_mode & 0o022:
        return f"other users can write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def _check_directories(path: Path) -> None:
    try:
        for directory in visited(path):
            if reason := distrust_directory(directory):
                hint = f"chown root {directory}; chmod go-w {directory}; or mount it read-only"
                raise UsageError(f"refusing {path}: {reason}", hint=hint)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def distrust_directory(directory: Path) -> str:
    """Return why another user could replace a file in a directory; "" if no other user can.

    Owner and mode, the sticky bit or a read-only mount can prevent it.
    """
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        reason = f"{directory} belongs to uid {status.st_uid}"
    elif status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        reason = f"other users can write to {directory}"
    else:
        return ""
    return "" if read_only(directory, mounts()) else reason


def visited(path: Path) -> Iterator[Path]:
    """Yield every directory in which the kernel looks up a name on the way to a file.

    Follows symbolic links. Raises OSError for too many links, and UsageError for a link of another user.
    """
    here, links = Path("/"), 0
    pending = [*reversed(path.absolute().parts[1:])]
    while pending:
        name = pending.pop()
        if name == "..":
            here = here.parent
            continue
        yield here
        entry = here / name
        if not entry.is_symlink():
            here = entry
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if entry.lstat().st_uid not in (0, os.geteuid()):
            reason = f"the link {entry} belongs to uid {entry.lstat().st_uid}"
            raise UsageError(f"refusing {path}: {reason}", hint=f"chown -h root {entry}")
        target = entry.readlink()
        if target.is_absolute():
            here = Path("/")
        pending += reversed([part for part in target.parts if part != "/"])


def mounts(text: str | None = None) -> list[Mount]:
    """Return the mounts of this process, oldest first."""
    lines = (_MOUNTINFO.read_text("utf-8", "surrogateescape") if text is None else text).splitlines()
    return [_mount(line.split(" ")) for line in lines]


def _mount(words: Sequence[str]) -> Mount:
    after = words.index("-")
    read_only = "ro" in words[5].split(",") or "ro" in words[after + 3].split(",")
    return Mount(words[2], Path(_unescape(words[3])), Path(_unescape(words[4])), read_only)


def _unescape(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def read_only(directory: Path, table: Sequence[Mount]) -> bool:
    """Whether a directory is mounted read-only, and writable through no other mount of this process."""
    over = [mount for mount in table if directory.is_relative_to(mount.at)]
    mount = max(reversed(over), key=lambda candidate: len(candidate.at.parts), default=None)
    if mount is None or not mount.read_only:
        return False
    inside = mount.root / directory.relative_to(mount.at)
    others = (other for other in table if other.device == mount.device and inside.is_relative_to(other.root))
    return all(other.read_only for other in others)
