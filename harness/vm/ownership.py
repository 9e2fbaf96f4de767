"""Gives each process a directory for its run-time files, with a lock that ends with the process.

    <runtime>/<token>/lock         flock held by the owner while it lives
    <runtime>/<token>/owner.json   {"pid", "uri"}: the libvirt of its machines
    <runtime>/<token>/...          libvirt's state, sockets, keys, run disks

The token is random. It is part of every domain's name and of every path in QEMU's command line, so it
proves that a process on this host is ours; other processes are left alone. Each process has its own
directory: an embedded libvirt's root belongs to one process. A runtime directory is used only where
`harness.host.private` trusts it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from harness.errors import InfrastructureError
from harness.host import cache, private
from harness.vm import kept, qemus

PREFIX = "fim-"
TOKEN = re.compile(r"fim-[0-9a-f]{10}")
_LOCK = "lock"
_OWNER = "owner.json"

# A Unix socket's path may have 107 bytes; libvirt's longest below our directory is
# "/e/lib/domain-99-fim-0123456789-9/monitor.sock", and <token> is 14.
_MAX_ROOT = 107 - 14 - len("/e/lib/domain-999-fim-0123456789-99/monitor.sock.tmp")

Warn = Callable[[str], object]
"""Receives one line about a folder or file that was ignored because it cannot be trusted."""


def ignored(_line: str) -> None:
    """Drop a warning."""


def runtime_roots() -> list[Path]:
    """Return the roots for run directories, best first: XDG_RUNTIME_DIR, the cache, the temporary directory.

    A root whose path is too long for the sockets below it is left out.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    roots = [Path(runtime) / "fim-harness"] if runtime else []
    roots.append(cache.location() / "run")
    # Another user may create this one first: it is used only if it is private to this user.
    roots.append(Path(f"/tmp/fim-harness-{os.getuid()}"))  # noqa: S108
    return [root for root in roots if len(os.fsencode(root)) <= _MAX_ROOT]


def run_directories(roots: Sequence[Path] | None = None, warn: Warn = ignored) -> Iterator[Path]:
    """Yield each run directory below `roots` (default: `runtime_roots()`) that only we can have written."""
    for root in runtime_roots() if roots is None else roots:
        try:
            reason = private.refusal(root)
            entries = [] if reason else sorted(root.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            reason, entries = f"{root}: {error.strerror}", []
        if reason:
            warn(f"ignored: {reason}")
        for path in entries:
            if TOKEN.fullmatch(path.name) and _trusted(path, warn):
                yield path


def _trusted(path: Path, warn: Warn) -> bool:
    """Whether an entry of a private root is a directory of ours; libvirt may have made it, with any mode."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False  # its owner has just removed it
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        warn(f"ignored: {path} is not a directory of this user")
        return False
    if problem := _problem_of_lock(path / _LOCK):
        warn(f"ignored: {path / _LOCK}: {problem}; remove {path} if no run uses it")
        return False
    return True


def _problem_of_lock(lock: Path) -> str:
    """Why `lock` cannot be a lock; "" if it can, or does not exist. One odd file must not stop the reaper."""
    try:
        if not stat.S_ISREG(lock.lstat().st_mode):
            return "not a regular file"
        os.close(os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


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
        """Create and lock a directory below `root`, by default below the first usable of `runtime_roots()`.

        Raises InfrastructureError with the reason of each root if none is usable.
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
        private.make(root)
        path = root / f"{PREFIX}{secrets.token_hex(5)}"
        # Locked before it has the name that a reaper looks for.
        unnamed = root / f".{path.name}"
        unnamed.mkdir(mode=0o700)
        lock = os.open(unnamed / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(path)
        return cls(path, lock)

    def note_uri(self, uri: str) -> None:
        """Record where this process runs its machines, for a reaper."""
        private.write(self.path / _OWNER, json.dumps({"pid": os.getpid(), "uri": uri}).encode())

    def release(self) -> None:
        """End each QEMU of the directory, then remove it; leave it for a reaper if a QEMU does not end.

        The lock is removed last, so that a reaper never finds the directory unlocked and half removed.
        """
        self._end_machines()
        if any(qemus.of_token(self.token)):
            self.close()
            return
        with contextlib.suppress(FileNotFoundError):
            for entry in self.path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != _LOCK:
                    entry.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        # A dead process may have left a child that was about to become QEMU. It fails now, because its files
        # are gone, or it had opened them before and is visible by now.
        self._end_machines()
        self.close()

    def _end_machines(self, spared: Collection[str] = ()) -> None:
        for _ in qemus.kill_by_token(self.token, spared):
            pass

    def close(self) -> None:
        """Release the lock and leave the directory for a reaper."""
        os.close(self._lock)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if machines := kept.alive(self.path):
            self._end_machines([machine.machine for machine in machines])
            self.close()
        else:
            self.release()


def adopt_dead(path: Path) -> RunDirectory | None:
    """Lock and return the directory `path` of a process that is gone; None while its owner lives.

    `path` comes from `run_directories`. A directory without a lock is adopted: libvirt wrote it again after
    its owner had removed it.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(path / _LOCK, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return RunDirectory(path, lock)


def lock_is_open(path: Path) -> bool:
    """Whether any process that this user can inspect has the lock of a removed directory open."""
    removed = f"{path.parent.resolve() / path.name / _LOCK} (deleted)"
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has just ended, or belongs to another user
            if str(descriptor.readlink()) == removed:
                return True
    return False


def living(roots: Sequence[Path] | None = None) -> Iterator[Path]:
    """Yield the run directories whose owner lives."""
    for path in run_directories(roots):
        if (path / _LOCK).exists():
            directory = adopt_dead(path)
            if directory is None:
                yield path
            else:
                directory.close()


def owner_uri(directory: RunDirectory) -> str:
    """The libvirt URI that the owner used, or "" if it died before it wrote one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(private.read(directory.path / _OWNER))["uri"])
    return ""
