"""Whether a rule file can be believed.

Rules decide what is watched, so nobody else may be able to write them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.errors import UsageError


def read_trusted(path: Path) -> bytes:
    """Contents of a rule file that only root or the agent's own user can change.

    Raises UsageError for a file that is not there, is no regular file, belongs to or can be written by
    others, or lies in a directory in which others can put another one in its place.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        reason = distrust(os.fstat(descriptor)) or distrust_directories(path)
        if reason:
            raise UsageError(f"refusing {path}: {reason}", hint=f"chown root {path}; chmod go-w {path}")
        return file.read()


def distrust(found: os.stat_result) -> str:
    """Why a file is not to be believed; "" when it is."""
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {found.st_uid}"
    if found.st_mode & 0o022:
        return f"others can write it (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def distrust_directories(path: Path) -> str:
    """Why a directory above a file is not to be believed; "" when all are. A sticky one is."""
    for directory in path.resolve().parents:
        found = directory.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{directory} belongs to uid {found.st_uid}"
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            return f"others can write to {directory}"
    return ""
