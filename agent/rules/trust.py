"""Reads a rule file only if no other user can change it.

Rules decide what the agent reports, so only root and the agent's own user may be able to change them.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import UsageError

MAX_LINKS = 40  # symbolic links on the way to one file, as in the kernel
_MOUNTINFO = Path("/proc/self/mountinfo")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_GIVE, _GIVE_LINK, _CLOSE = "chown root", "chown -h root", "chmod go-w"


class Fault(NamedTuple):
    """Why another user could change or replace a file: what is wrong `at` a path, and what corrects it."""

    at: Path
    reason: str
    command: str  # without the path


class Mount(NamedTuple):
    """A line of mountinfo: the directory `root` of a file system is mounted at `at`."""

    device: str
    root: Path
    at: Path
    read_only: bool


def read_trusted(path: Path, most: int) -> bytes:
    """Return up to `most` bytes of a rule file that only root or the agent's own user can change.

    Raises UsageError for a file that cannot be read, is not a regular file, belongs to another user or is
    writable for other users, or that another user could replace in a directory of its path. The error names
    every such file, directory and link, so that one correction is enough.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"refusing {path}: {distrust(status)}")
            of_file = [Fault(path, *fault) for fault in _of_file(status)]
            if faults := [*of_file, *_on_the_way(path)]:
                raise _refusal(path, faults)
            return file.read(most)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def distrust(status: os.stat_result) -> str:
    """Return why a file cannot be trusted; "" if it can."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    return "; ".join(reason for reason, _ in _of_file(status))


def _of_file(status: os.stat_result) -> Iterator[tuple[str, str]]:
    """Yield why another user could change a file, each time with the command that prevents it."""
    if _foreign(status):
        yield f"it belongs to uid {status.st_uid}", _GIVE
    if status.st_mode & _OTHERS_WRITE:
        yield f"other users can write it (mode {stat.S_IMODE(status.st_mode):04o})", _CLOSE


def _on_the_way(path: Path) -> Iterator[Fault]:
    """Yield why another user could replace a file. Raises OSError."""
    for entry in dict.fromkeys(visited(path)):
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            if _foreign(status):
                yield Fault(entry, f"the link {entry} belongs to uid {status.st_uid}", _GIVE_LINK)
            continue
        faults = []
        if _foreign(status):
            faults.append(Fault(entry, f"{entry} belongs to uid {status.st_uid}", _GIVE))
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            faults.append(Fault(entry, f"other users can write to {entry}", _CLOSE))
        if faults and not read_only(entry, mounts()):
            yield from faults


def _foreign(status: os.stat_result) -> bool:
    return status.st_uid not in (0, os.geteuid())


def _refusal(path: Path, faults: Sequence[Fault]) -> UsageError:
    commands: dict[str, list[str]] = {}
    for fault in faults:
        commands.setdefault(fault.command, []).append(str(fault.at))
    hint = "; ".join(f"{command} {shlex.join(paths)}" for command, paths in commands.items())
    if any(fault.at != path and fault.command != _GIVE_LINK for fault in faults):
        hint = f"put it into folders that only root can write, mount it read-only, or {hint}"
    return UsageError(f"refusing {path}: {'; '.join(fault.reason for fault in faults)}", hint=hint)


def visited(path: Path) -> Iterator[Path]:
    """Yield every directory in which the kernel looks up a name on the way to a file, and every link.

    Follows symbolic links. Raises OSError, also for too many links.
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
        yield entry
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
