"""Reads dpkg's database: which package a file belongs to, and its digest.

A package's MD5 sums are in `info/PACKAGE.md5sums`, those of its configuration files in `status`. The database
belongs to root. Its contents are not trusted all the same: names come from packages, so they are checked
before they are used, and every read is bounded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.context.packages import Owned
from agent.rules.trust import distrust

MAX_FILE_BYTES = 64 << 20
_MARGIN_NS = 2_000_000_000  # between the clocks of events and of file systems
_TEMPORARY = (b".dpkg-new", b".dpkg-tmp")
_PACKAGE = re.compile(rb"[a-z0-9][a-z0-9+.-]{0,127}(:[a-z0-9-]{1,32})?")
_VERSION = re.compile(rb"[0-9A-Za-z.+:~-]{1,128}")
_DIGEST = re.compile(rb"[0-9a-f]{32}")
# States in which the package's files are those of `Version`.
_WHOLE = {b"unpacked", b"half-configured", b"triggers-awaited", b"triggers-pending", b"installed"}

Version = bytes


class Dpkg:
    """The database below `folder`."""

    name = "dpkg"

    def __init__(self, folder: Path = Path("/var/lib/dpkg")) -> None:
        self._folder = folder

    @staticmethod
    def final_name(path: bytes) -> bytes:
        """Return the path without the suffix that dpkg gives a file while it unpacks."""
        for suffix in _TEMPORARY:
            path = path.removesuffix(suffix)
        return path

    def owned(self, paths: Iterable[bytes], since_ns: int) -> dict[bytes, Owned]:
        """Return those of `paths` that belong to packages unpacked since then, or are configuration files."""
        wanted = {name: path for path in paths for name in _names(path)}
        versions, found = self._status(wanted)
        for package, content in self._sums(since_ns - _MARGIN_NS):
            version = versions.get(package) or versions.get(package.partition(b":")[0])
            if version is None:
                continue
            for line in content.splitlines():
                path = wanted.get(line[34:])
                if path is not None and _DIGEST.fullmatch(line[:32]) and line[32:34] == b"  ":
                    found[path] = _owned(package, version, line[:32])
        return found

    def _sums(self, since_ns: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield package and MD5 sums of the packages unpacked since then."""
        with suppress(OSError), os.scandir(os.fsencode(self._folder / "info")) as entries:
            for entry in entries:
                package = entry.name.removesuffix(b".md5sums")
                if package == entry.name or not _PACKAGE.fullmatch(package):
                    continue
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_ctime_ns >= since_ns:
                        yield package, _read(entry.path)

    def _status(self, wanted: dict[bytes, bytes]) -> tuple[dict[bytes, Version], dict[bytes, Owned]]:
        """Return versions by package, of those that are whole, and the wanted configuration files."""
        versions: dict[bytes, Version] = {}
        found: dict[bytes, Owned] = {}
        for stanza in self._stanzas():
            package, version, state, architecture = _fields(stanza)
            names = (package, package + b":" + architecture)
            for name in names:
                versions.pop(name, None)
            if state not in _WHOLE or not (_PACKAGE.fullmatch(package) and _VERSION.fullmatch(version)):
                continue
            versions.update(dict.fromkeys(names, version))
            for line in stanza.partition(b"\nConffiles:\n")[2].splitlines():
                if not line.startswith(b" "):
                    break
                name, _, digest = line[1:].removesuffix(b" obsolete").rpartition(b" ")
                path = wanted.get(name[1:])
                if path is not None and _DIGEST.fullmatch(digest):
                    found[path] = _owned(package, version, digest)
        return versions, found

    def _stanzas(self) -> Iterator[bytes]:
        """Yield the packages of `status`, then the newer ones of `updates`, which dpkg joins at its end."""
        updates = self._folder / "updates"
        files = [os.fsencode(self._folder / "status")]
        with suppress(OSError):
            files += sorted(os.fsencode(path) for path in updates.iterdir() if path.name.isdigit())
        for file in files:
            with suppress(OSError):
                yield from _read(file).split(b"\n\n")


def _owned(package: bytes, version: bytes, digest: bytes) -> Owned:
    return Owned(f"{package.decode()} {version.decode()}", "md5", digest.decode())


def _names(path: bytes) -> Iterator[bytes]:
    """Yield the names under which packages may list a path: some still have `bin/x` for `/usr/bin/x`."""
    yield path[1:]
    if path.startswith(b"/usr/"):
        yield path[5:]


def _fields(stanza: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return package, version, state and architecture."""
    found = {b"Package": b"", b"Version": b"", b"Status": b"", b"Architecture": b""}
    for line in stanza.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name in found:
            found[name] = value.strip()
    state = found[b"Status"].rpartition(b" ")[2]
    return found[b"Package"], found[b"Version"], state, found[b"Architecture"]


def _read(path: bytes) -> bytes:
    """Read a file of root that no other user can write. Raises OSError for any other."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if reason := distrust(os.fstat(fd)):
            raise PermissionError(f"{os.fsdecode(path)}: {reason}")
        return file.read(MAX_FILE_BYTES)
