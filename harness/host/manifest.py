"""Records the digests of a folder's files in a manifest beside it, so that damage is noticed.

    FOLDER/manifest.json   the total size; for each file its SHA-256, for each symbolic link its target
    FOLDER/content/        the files
    FOLDER/verified        a digest of all inodes at the time when they last agreed with the manifest

Reading 300 MB for each command would take a second. The kernel sets a file's time of status change at every
write, and no program can set it back: while these times are the same, the content is the same.

Permissions and empty folders are not recorded: no entry depends on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "manifest.json"
VERIFIED = "verified"


@dataclass(frozen=True)
class Manifest:
    """`size` in bytes; `files` maps a path below the content to a digest or to the target of a link."""

    size: int
    files: dict[str, str]


def seal(folder: Path) -> None:
    """Write the manifest of a folder's content, and sync all of it to the disk; raises OSError."""
    for path in (folder / "content").rglob("*"):
        if not path.is_symlink():
            sync(path)
    manifest = folder / NAME
    manifest.write_text(json.dumps(asdict(describe(folder / "content")), indent=1) + "\n")
    sync(manifest)
    _remember(folder)
    sync(folder)


def seal_size(folder: Path) -> None:
    """Write a manifest that has only the size of a folder's content, and sync all of it; raises OSError."""
    size = sum(
        os.lstat(f"{parent}/{name}").st_size
        for parent, _folders, names in os.walk(folder / "content")
        for name in names
    )
    manifest = folder / NAME
    manifest.write_text(json.dumps(asdict(Manifest(size, {})), indent=1) + "\n")
    os.sync()  # much cheaper than a call for each of 90,000 files


def unreadable(folder: Path) -> str:
    """Return why the manifest of a folder that was sealed by size cannot be read; empty if it can."""
    try:
        read(folder)
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    return ""


def damage(folder: Path) -> str:
    """Return the first damage of a sealed folder, in a few words; empty if it is intact."""
    if _as_remembered(folder):
        return ""
    try:
        expected = read(folder).files
        found = describe(folder / "content").files
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    wrong = next(_differences(expected, found), "")
    if not wrong:
        _remember(folder)
    return wrong


def _as_remembered(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return (folder / VERIFIED).read_text() == _inodes(folder)
    return False


def _remember(folder: Path) -> None:
    # A cache that cannot be written is verified each time.
    with contextlib.suppress(OSError):
        partial = folder / f"{VERIFIED}.{os.getpid()}"
        partial.write_text(_inodes(folder))
        partial.replace(folder / VERIFIED)


def _inodes(folder: Path) -> str:
    """Return a digest of the inodes of a sealed folder. Raises OSError."""
    rows = [_inode(str(folder / NAME), len(str(folder)))]
    for parent, folders, names in os.walk(folder / "content"):
        folders.sort()
        rows += [_inode(f"{parent}/{name}", len(str(folder))) for name in sorted((*folders, *names))]
    return digest("\n".join(rows))


def _inode(path: str, start: int) -> str:
    status = os.lstat(path)
    # The times of a folder change when files in it come and go; those files have rows of their own.
    times = () if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return f"{path[start:]} {status.st_dev} {status.st_ino} {status.st_mode} {times}"


def read(folder: Path) -> Manifest:
    """Read a folder's manifest; raises OSError or ValueError."""
    plain = json.loads((folder / NAME).read_bytes())
    match plain:
        case {"size": int(size), "files": dict(files)}:
            return Manifest(size, files)
    raise ValueError(f"{NAME} is not a manifest")


def describe(content: Path) -> Manifest:
    """Return the manifest of a folder as it is now; raises OSError."""
    files: dict[str, str] = {}
    size = 0
    for path in sorted(content.rglob("*")):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            files[str(path.relative_to(content))] = f"link {path.readlink()}"
        elif not stat.S_ISDIR(status.st_mode):
            files[str(path.relative_to(content))] = f"sha256 {file_digest(path)}"
            size += status.st_size
    return Manifest(size, files)


def digest(*parts: str | bytes) -> str:
    """Return a SHA-256 of all parts in hexadecimal; it depends on where one part ends and the next begins."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal; raises OSError."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk; raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _differences(expected: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    for name in sorted({*expected, *found}):
        if name not in found:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} is not in the manifest"
        elif found[name] != expected[name]:
            yield f"{name} was changed"
