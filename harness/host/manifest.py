"""What a folder holds, written down beside it, so that damage is noticed.

    FOLDER/manifest.json   bytes in all; for each file its SHA-256, for each symbolic link its target
    FOLDER/content/        what it is about
    FOLDER/verified        stands for the inodes of all of it when it was last compared with the manifest

To read 300 MB again for each command takes a second. The kernel sets a file's time of status change at every
write, and nobody can set it back: as long as all of them are the same, the content is as well.

Permissions and empty folders are not recorded: nothing that is kept depends on them.
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
    """`size` in bytes; `files` maps a path below the content to what is there."""

    size: int
    files: dict[str, str]


def seal(folder: Path) -> None:
    """Writes the manifest of a folder's content, and all of it through to the disk; raises OSError."""
    for path in (folder / "content").rglob("*"):
        if not path.is_symlink():
            sync(path)
    manifest = folder / NAME
    manifest.write_text(json.dumps(asdict(describe(folder / "content")), indent=1) + "\n")
    sync(manifest)
    _remember(folder)
    sync(folder)


def damage(folder: Path) -> str:
    """What is wrong with a sealed folder, in a few words; empty if nothing is."""
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
    """A digest of what the kernel says of each file of a sealed folder. Raises OSError."""
    rows = [_inode(str(folder / NAME), len(str(folder)))]
    for parent, folders, names in os.walk(folder / "content"):
        folders.sort()
        rows += [_inode(f"{parent}/{name}", len(str(folder))) for name in sorted((*folders, *names))]
    return digest("\n".join(rows))


def _inode(path: str, start: int) -> str:
    status = os.lstat(path)
    # The time of a folder changes when other files come and go, and those are rows of their own.
    times = () if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return f"{path[start:]} {status.st_dev} {status.st_ino} {status.st_mode} {times}"


def read(folder: Path) -> Manifest:
    """A folder's manifest; raises OSError or ValueError."""
    plain = json.loads((folder / NAME).read_bytes())
    match plain:
        case {"size": int(size), "files": dict(files)}:
            return Manifest(size, files)
    raise ValueError(f"{NAME} is not a manifest")


def describe(content: Path) -> Manifest:
    """What a folder holds now; raises OSError."""
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
    """A key made of all parts, in hexadecimal; where one part ends and the next begins counts too."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """A file's SHA-256 in hexadecimal; raises OSError."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Writes a file, or a folder's names, through to the disk; raises OSError."""
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
            yield f"{name} does not belong there"
        elif found[name] != expected[name]:
            yield f"{name} is not what was stored"
