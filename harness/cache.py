"""Downloads and built images, kept under `~/.cache/fim-harness` and safe for several runs at once.

    KIND/KEY/manifest.json   what the entry holds: the SHA-256 of each file, the target of each link
    KIND/KEY/content/        the entry itself
    KIND/KEY.lock            held by who builds the entry, or removes it
    KIND/KEY.partial/        an entry that is being built; without a builder, what a killed one left

A key says what an entry was made from, so that an entry never changes under its name. It appears whole or not
at all: it is built under another name, written through to the disk, then renamed. What is in use carries a
shared lock until the process ends, and is not removed by `clean` in another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.progress import Progress, silent

MIB = 1 << 20
_FULL = 16 * MIB  # a program that fails with less than this free most likely failed for want of it
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Build = Callable[[Path], None]


def default_root() -> Path:
    """`$XDG_CACHE_HOME/fim-harness`, or `~/.cache/fim-harness`; a relative variable counts for nothing."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "fim-harness"


def digest(*parts: str | bytes) -> str:
    """A key made of all parts, in hexadecimal; where one part ends and the next begins counts too."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of that file for the block; with `wait` false the value says whether it could be had."""
    handle = _lock(path, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


class Cache:
    """All entries below one folder, which is made when it is first needed."""

    def __init__(self, root: Path | None = None, progress: Progress = silent) -> None:
        self.root = root or default_root()
        self._progress = progress
        self._in_use: dict[Path, int] = {}

    def get(
        self, kind: str, key: str, build: Build, *, needs: int = 0, progress: Progress | None = None
    ) -> Path:
        """That entry's content, verified; built by `build(folder)` first if it is not there or damaged.

        `needs` is the free space that building takes, in bytes. What `build` raises passes through; nothing
        is kept then. Raises InfrastructureError where the disk is full or the cache cannot be written.
        """
        say = progress or self._progress
        entry = self.root / kind / key
        if entry not in self._in_use:
            with _disk_errors(self.root):
                entry.parent.mkdir(parents=True, exist_ok=True)
                with self._building(entry, say):
                    self._make_good(entry, build, needs, say)
                    self._use(entry)
        return entry / "content"

    def clean(self, *, keep_bytes: int = 0, older_than_s: float = 0) -> int:
        """Removes the least recently used entries until at most `keep_bytes` are left; returns bytes freed.

        Entries used within `older_than_s` seconds stay, and so do those that a running process uses or
        builds.
        """
        entries = sorted(_entries(self.root), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in entries) - keep_bytes
        freed = 0
        for entry in entries:
            if freed >= excess or entry.used > time.time() - older_than_s:
                break
            if _remove(entry.path):
                freed += entry.size
        return freed

    def size(self) -> int:
        """The bytes that all entries take."""
        return sum(entry.size for entry in _entries(self.root))

    @contextlib.contextmanager
    def _building(self, entry: Path, say: Progress) -> Iterator[None]:
        lock = _lock_of(entry)
        handle = _lock(lock, wait=False)
        if handle is None:
            say(f"waiting for another run that is making {entry.parent.name}/{entry.name[:12]}")
            handle = _lock(lock)
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _make_good(self, entry: Path, build: Build, needs: int, say: Progress) -> None:
        if entry.exists():
            damage = _damage(entry)
            if not damage:
                return
            say(f"cache: {entry.parent.name}/{entry.name[:12]} is damaged ({damage}): making it again")
            shutil.rmtree(entry)
        _need_space(self.root, needs)
        partial = entry.with_name(entry.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "content").mkdir(parents=True)
        try:
            build(partial / "content")
            _seal(partial)
            partial.rename(entry)
            _sync(entry.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _use(self, entry: Path) -> None:
        handle = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.utime(entry)
        self._in_use[entry] = handle


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class _Listing:
    """What a folder holds: bytes in all, and for each file or link what it is."""

    size: int
    files: dict[str, str]


def _entries(root: Path) -> Iterator[_Entry]:
    for manifest in root.glob("*/*/manifest.json"):
        try:
            size = json.loads(manifest.read_bytes())["size"]
            yield _Entry(manifest.parent, int(size), manifest.parent.stat().st_mtime)
        except (OSError, ValueError, KeyError, TypeError):
            # Removed by another process just now, or damaged: worth nothing, first to go.
            yield _Entry(manifest.parent, 0, 0)


def _remove(entry: Path) -> bool:
    lock = _lock_of(entry)
    with locked(lock, wait=False) as free, contextlib.suppress(FileNotFoundError):
        if not free:
            return False
        handle = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        shutil.rmtree(entry)
        lock.unlink()
        return True
    return False


def _lock_of(entry: Path) -> Path:
    return entry.with_name(entry.name + ".lock")


def _lock(path: Path, *, wait: bool = True) -> int | None:
    """Opens and locks; again if the file was removed between the two, as nobody else would see that lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _seal(partial: Path) -> None:
    content = partial / "content"
    listing = _listing(content)
    for path in content.rglob("*"):
        if not path.is_symlink():
            _sync(path)
    manifest = partial / "manifest.json"
    manifest.write_text(json.dumps(asdict(listing), indent=1) + "\n")
    _sync(manifest)
    _sync(partial)


def _damage(entry: Path) -> str:
    """What is wrong with an entry, in a few words; empty if nothing is."""
    try:
        expected = json.loads((entry / "manifest.json").read_bytes())["files"]
        found = _listing(entry / "content").files
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable: {error}"
    if found == expected:
        return ""
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return f"{names[0]} is {'missing' if names[0] not in found else 'not what was stored'}"


def _listing(content: Path) -> _Listing:
    files: dict[str, str] = {}
    size = 0
    for path in sorted(content.rglob("*")):
        mode = path.lstat().st_mode
        name = str(path.relative_to(content))
        if stat.S_ISLNK(mode):
            files[name] = f"link {path.readlink()}"
        elif stat.S_ISREG(mode):
            files[name] = f"sha256 {file_digest(path)}"
            size += path.stat().st_size
    return _Listing(size, files)


def file_digest(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _need_space(root: Path, needs: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needs:
        raise _no_space(root, f"{free // MIB} MiB free, {needs // MIB} MiB needed")


def _no_space(root: Path, what: str) -> InfrastructureError:
    return InfrastructureError(
        f"no disk space in {root}: {what}",
        hint="free some, run `harness clean`, or set XDG_CACHE_HOME to a larger disk",
    )


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Says in one line that a disk is full or not writable, also where a program found that out."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _no_space(root, "it filled up while an entry was made") from error
        raise InfrastructureError(
            f"the cache cannot be used: {error}", hint="set XDG_CACHE_HOME to a folder of yours"
        ) from error
    except InfrastructureError as error:
        if root.exists() and shutil.disk_usage(root).free < _FULL and "no disk space" not in error.message:
            raise _no_space(root, error.message) from error
        raise
