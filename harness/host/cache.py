"""Keeps downloads and built images under `~/.cache/fim-harness`; several runs may use it at the same time.

    KIND/KEY/            an entry: content/ and manifest.json
    KIND/KEY.lock        held by the process that makes or removes the entry
    KIND/KEY.partial/    an entry that is being made, or that a killed process did not finish

A key names everything that an entry was made from, so an entry never changes under its name. An entry is
made under another name, synced to the disk, then renamed, so it is complete or does not exist. A process
holds a shared lock on each entry that it uses until it ends; `clean` in another process skips such entries.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, InfrastructureError
from harness.host import locks, manifest, private
from harness.host.manifest import digest, file_digest
from harness.host.programs import ProgramError
from harness.host.progress import Progress, silent

__all__ = ["MIB", "Build", "Cache", "default_root", "digest", "file_digest", "location", "refuse_shared"]

MIB = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Build = Callable[[Path], None]


def default_root() -> Path:
    """Return the folder of the cache. Raises ConfigError if another user can change it."""
    root = location()
    refuse_shared(root)
    return root


def location() -> Path:
    """Return `$XDG_CACHE_HOME/fim-harness`, or `~/.cache/fim-harness` if the variable is no absolute path."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "fim-harness"


class Cache:
    """All entries below one folder, which is created when it is first needed; use one object per process.

    Several threads may use the object: each entry is made by one of them, and the others wait.
    """

    def __init__(self, root: Path | None = None, progress: Progress = silent) -> None:
        self.root = root or default_root()
        self._progress = progress
        self._in_use: dict[Path, int] = {}
        self._threads: dict[str, threading.Lock] = {}  # by entry

    def get(
        self,
        kind: str,
        key: str,
        build: Build,
        *,
        needs: int = 0,
        progress: Progress | None = None,
        verified: bool = True,
    ) -> Path:
        """Return the folder with the entry's verified content; `build(folder)` makes it if it is absent.

        `needs` is the free space in bytes that `build` takes. `verified` must be False for entries with too
        many files for digests, such as sources: then only their size is recorded. If `build` raises, nothing
        is kept, and the error passes through. Raises InfrastructureError if the disk is full or the cache
        cannot be written, and ConfigError if another user can change it.
        """
        entry = self.root / kind / key
        with self._threads.setdefault(str(entry), threading.Lock()):
            if entry not in self._in_use:
                refuse_shared(self.root)
                with _disk_errors(self.root), self._locked(entry, progress or self._progress) as say:
                    self._make_good(entry, build, needs, say, verified)
                    self._in_use[entry] = locks.use(entry)
                    os.utime(entry)
        return entry / "content"

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry exists; only `get` verifies it."""
        return (self.root / kind / key / manifest.NAME).exists()

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry unless another process uses it."""
        entry = self.root / kind / key
        with contextlib.suppress(KeyError):
            os.close(self._in_use.pop(entry))
        _remove(entry, entry)

    def clean(self, *, keep_bytes: int = 0, older_than_s: float = 0, kind: str = "*") -> int:
        """Remove the least recently used entries until at most `keep_bytes` are left; return the bytes freed.

        Entries used within the last `older_than_s` seconds stay, and so do those that a process uses or
        makes. `kind` limits this to the entries of one kind.
        """
        for partial in self.root.glob(f"{kind}/*.partial"):
            _remove(partial.with_suffix(""), partial)
        entries = sorted(_entries(self.root, kind), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in entries) - keep_bytes
        freed = 0
        for entry in entries:
            if freed >= excess or entry.used > time.time() - older_than_s:
                break
            if _remove(entry.path, entry.path):
                freed += entry.size
        return freed

    def size(self) -> int:
        """Return the size of all entries in bytes."""
        return sum(entry.size for entry in _entries(self.root))

    @contextlib.contextmanager
    def _locked(self, entry: Path, say: Progress) -> Iterator[Progress]:
        handle = locks.acquire(_lock_of(entry), wait=False)
        if handle is None:
            say(f"waiting for another run to make {_short(entry)}")
            handle = locks.acquire(_lock_of(entry))
        try:
            yield say
        finally:
            if handle is not None:
                os.close(handle)

    def _make_good(self, entry: Path, build: Build, needs: int, say: Progress, verified: bool) -> None:
        if entry.exists():
            damage = manifest.damage(entry) if verified else manifest.unreadable(entry)
            if not damage:
                return
            say(f"cache: {_short(entry)} is damaged ({damage}): making it again")
            shutil.rmtree(entry)
        _need_space(self.root, needs)
        partial = entry.with_name(f"{entry.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "content").mkdir(parents=True)
        try:
            build(partial / "content")
            (manifest.seal if verified else manifest.seal_size)(partial)
            partial.rename(entry)
            manifest.sync(entry.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float


def _entries(root: Path, kind: str = "*") -> Iterator[_Entry]:
    for path in root.glob(f"{kind}/*/{manifest.NAME}"):
        try:
            yield _Entry(path.parent, manifest.read(path.parent).size, path.parent.stat().st_mtime)
        except FileNotFoundError:
            continue  # another process removed it just now
        except (OSError, ValueError):
            yield _Entry(path.parent, 0, 0)  # damaged: the first to go


def _remove(entry: Path, folder: Path) -> bool:
    """Remove the folder of an entry unless a process makes or uses it; return whether it was removed."""
    with locks.locked(_lock_of(entry), wait=False) as free, contextlib.suppress(FileNotFoundError):
        if free and not locks.in_use(folder):
            shutil.rmtree(folder)
            _lock_of(entry).unlink()
            return True
    return False


def _lock_of(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")


def _short(entry: Path) -> str:
    return f"{entry.parent.name}/{entry.name[:12]}"


def refuse_shared(root: Path) -> None:
    """Raise ConfigError for a cache whose kernels, images and indexes another user can replace."""
    try:
        status, parent = root.stat(), root.parent.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder of this user"
        raise ConfigError(f"the cache {root} cannot be used: {error.strerror}", hint=hint) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"the cache {root} is not a folder", hint="remove it, or set XDG_CACHE_HOME")
    if private.foreign(status, sudo=False):
        raise ConfigError(
            f"the cache {root} belongs to uid {status.st_uid}, which can change it",
            hint="set XDG_CACHE_HOME to a folder of this user (sudo -H keeps root's own)",
        )
    if private.open_to_all(status) or private.open_to_group(status):
        who = "every user" if private.open_to_all(status) else f"every member of the group {status.st_gid}"
        raise ConfigError(
            f"the cache {root} can be changed by {who} of this host",
            hint=f"remove its contents, then chmod go-w {root}",
        )
    if private.replaceable(parent):
        raise ConfigError(
            f"the cache {root} can be replaced by every user of this host",
            hint=f"remove its contents, then chmod o-w {root.parent}",
        )


def _need_space(root: Path, needs: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needs:
        raise _no_space(root, f"{free // MIB} MiB free, {needs // MIB} MiB needed")


def _no_space(root: Path, what: str) -> InfrastructureError:
    hint = "free some, run `harness clean`, or set XDG_CACHE_HOME to a larger disk"
    return InfrastructureError(f"no disk space in {root}: {what}", hint=hint)


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into one line, also those that a program printed."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _no_space(root, "it filled up while an entry was made") from error
        hint = "set XDG_CACHE_HOME to a folder that can be written"
        raise InfrastructureError(f"the cache cannot be used: {error}", hint=hint) from error
    except ProgramError as error:
        if os.strerror(errno.ENOSPC) in error.stderr:
            raise _no_space(root, error.message) from error
        raise
