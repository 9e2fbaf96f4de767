"""What a process holds outside itself lies in one directory, with a lock that dies with the process.

    <runtime>/<token>/lock         flock held by the owner, for as long as it lives
    <runtime>/<token>/owner.json   {"pid", "uri"}: where its machines run
    <runtime>/<token>/...          libvirt's state, sockets, keys, run disks

The token is random, is in every domain's name and in every path given to QEMU, so a process on this host is
provably one of ours or it is left alone. Each process has its own directory: an embedded libvirt's root
belongs to one process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from types import TracebackType

from harness.errors import InfrastructureError
from harness.host.cache import default_root

PREFIX = "fim-"
_TOKEN = re.compile(r"fim-[0-9a-f]{10}")
_LOCK = "lock"
_OWNER = "owner.json"

# A Unix socket's path may have 107 bytes; libvirt's longest below our directory is
# "/e/lib/domain-99-fim-0123456789-9/monitor.sock", and <token> is 14.
_MAX_ROOT = 107 - 14 - len("/e/lib/domain-999-fim-0123456789-99/monitor.sock.tmp")


def runtime_roots() -> list[Path]:
    """Where run directories may lie, best first: XDG_RUNTIME_DIR, the cache, the temporary directory.

    A root whose path is too long for the sockets below it is not in the list.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    roots = [Path(runtime) / "fim-harness"] if runtime else []
    roots.append(default_root() / "run")
    # Private to us and checked to be so before use.
    roots.append(Path(f"/tmp/fim-harness-{os.getuid()}"))  # noqa: S108
    return [root for root in roots if len(os.fsencode(root)) <= _MAX_ROOT]


class RunDirectory:
    """One process's directory, locked while the process lives; a context manager that removes it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def token(self) -> str:
        """The name that everything of this process carries, such as `fim-0123456789`."""
        return self.path.name

    @classmethod
    def claim(cls, root: Path | None = None) -> RunDirectory:
        """A fresh, locked directory below `root`, by default the first of `runtime_roots()` that works.

        Raises InfrastructureError if none can.
        """
        reasons = []
        for candidate in [root] if root else runtime_roots():
            try:
                return cls._claim_below(candidate)
            except OSError as error:
                reasons.append(str(error))
        raise InfrastructureError(
            f"no directory for run-time files: {'; '.join(reasons)}",
            hint="set XDG_RUNTIME_DIR to a short path that you may write to",
        )

    @classmethod
    def _claim_below(cls, root: Path) -> RunDirectory:
        _make_private(root)
        path = root / f"{PREFIX}{secrets.token_hex(5)}"
        # Locked before it has the name that a reaper looks for.
        unnamed = root / f".{path.name}"
        unnamed.mkdir(mode=0o700)
        lock = os.open(unnamed / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(path)
        return cls(path, lock)

    def note_uri(self, uri: str) -> None:
        """Writes down where this process runs its machines, for a reaper."""
        (self.path / _OWNER).write_text(json.dumps({"pid": os.getpid(), "uri": uri}))

    def release(self) -> None:
        """Removes the directory, its lock last: nobody can find it unlocked and half gone."""
        with contextlib.suppress(FileNotFoundError):
            for entry in self.path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != _LOCK:
                    entry.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Lets go of the lock and leaves the directory for a reaper."""
        os.close(self._lock)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not a circle: `kept` knows only where the directories are.
        from harness.vm import kept

        if kept.alive(self.path):
            self.close()
        else:
            self.release()


def adopt_dead(path: Path) -> RunDirectory | None:
    """The directory of a process that is gone, now locked by us; None while its owner lives.

    None also for what is no run directory. One without a lock is: a libvirt that came late made it again.
    """
    if not _TOKEN.fullmatch(path.name) or not path.is_dir():
        return None
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return RunDirectory(path, lock)


def owner_uri(directory: RunDirectory) -> str:
    """The libvirt URI that the owner used, or "" if it died before it wrote one."""
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads((directory.path / _OWNER).read_text())["uri"])
    return ""


def _make_private(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{root} is not private to this user")
