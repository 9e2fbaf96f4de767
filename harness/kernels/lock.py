"""Reads and writes matrix.lock: the exact packages of a matrix's kernels, so that later runs use the same.

    {"schema": 1, "known": ["5.10", ...],
     "kernels": [{"series", "flavour", "arch", "release", "suite", "packages": [{"name", "version", ...}]}],
     "archives": [{"kernel", "arch", "packages": [{"name", "version", ...}]}]}

A kernel is identified by series, flavour and architecture, not by its name in the matrix. `archives`, which
may be absent, has the packages of the sources `apt`, `rpm` and `fragment`, by `Kernel.requested`. `known`
lists the series that the repositories had when the file was written, so that a new series is noticed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from debian.debian_support import Version

from harness.errors import ConfigError
from harness.host import files
from harness.kernels.model import KernelRequest, Package, ResolvedKernel

_MAX_BYTES = 16 << 20
SCHEMA = 1
NAME = "matrix.lock"

Key = tuple[str, str, str]
ArchiveKey = tuple[str, str]  # `Kernel.requested` and architecture

# A lock may come from a hostile pull request, and these values become paths and command line arguments.
_SERIES = re.compile(r"\d+\.\d+", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~:_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"pool/(?!.*\.\.)[A-Za-z0-9.+~%:_/-]+\.deb")
_ARCHIVE_FILE = re.compile(r"(?![/.-])(?!.*\.\.)[A-Za-z0-9.+~%:_^/-]{1,512}\.(?:deb|rpm)")
_REQUESTED = re.compile(r"(?:apt|rpm|configuration of) [!-~][ -~]{0,1023}")


@dataclass(frozen=True)
class Move:
    """A kernel whose release or packages changed; `old` is "" for a new kernel, `new` for a removed one."""

    series: str
    flavour: str
    arch: str
    old: str
    new: str

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.series, self.flavour, self.arch)))
        if self.old == self.new:
            return f"{what}: {self.new} (rebuilt: same release, other packages)"
        return f"{what}: {self.old or 'not locked'} -> {self.new or 'no longer in the matrix'}"


@dataclass(frozen=True)
class Lock:
    """The locked kernels by series, flavour and architecture, the known series, and packages of archives."""

    kernels: Mapping[Key, ResolvedKernel]
    known: tuple[str, ...] = ()
    archives: Mapping[ArchiveKey, tuple[Package, ...]] = field(default_factory=dict)

    def find(self, request: KernelRequest) -> ResolvedKernel | None:
        """The locked kernel for a request, with the request's name; None if it is not locked."""
        kernel = self.kernels.get(key_of(request))
        return replace(kernel, name=request.name) if kernel else None

    def moved(self, newer: Lock) -> list[Move]:
        """The kernels that differ in `newer`, in the order of the file."""
        moves = []
        for key in _ordered({*self.kernels, *newer.kernels}):
            old, new = self.kernels.get(key), newer.kernels.get(key)
            if (old and old.packages) != (new and new.packages):
                moves.append(Move(*key, old.release if old else "", new.release if new else ""))
        for requested, arch in sorted({*self.archives, *newer.archives}):
            before, after = (one.archives.get((requested, arch), ()) for one in (self, newer))
            if before != after:
                moves.append(Move(requested, "", arch, _version(before), _version(after)))
        return moves

    def to_json(self) -> str:
        """The text of the file; equal locks have equal text."""
        rows = [_row(key, self.kernels[key]) for key in _ordered(self.kernels)]
        known = sorted(self.known, key=Version)
        plain = {"schema": SCHEMA, "known": known, "kernels": rows}
        if self.archives:  # a lock of Debian's kernels alone stays as earlier versions write it
            plain["archives"] = [
                {"kernel": requested, "arch": arch, "packages": [asdict(one) for one in packages]}
                for (requested, arch), packages in sorted(self.archives.items())
            ]
        return json.dumps(plain, indent=1) + "\n"


def key_of(request: KernelRequest) -> Key:
    """The key of a kernel in a lock."""
    return request.series, request.flavour, request.arch


def load(path: Path) -> Lock | None:
    """The lock in a file; None if the file does not exist.

    Raises ConfigError for an invalid lock, and for one that another user could have written.
    """
    hint = "remove it; `harness kernels lock` writes a new one"
    try:
        plain = json.loads(files.read_input(path, _MAX_BYTES))
        if plain["schema"] != SCHEMA:
            raise ValueError(f"unknown schema {plain['schema']!r}")
        kernels = dict(_kernel(row) for row in plain["kernels"])
        known = tuple(_checked(_SERIES, series) for series in plain["known"])
        return Lock(kernels, known, dict(_archive(row) for row in plain.get("archives", ())))
    except FileNotFoundError as error:
        if path.is_symlink():
            problem = f"{path}: is a link to {path.readlink()}, which does not exist"
            raise ConfigError(problem, hint=hint) from error
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: invalid lock file: {error}", hint=hint) from error


def store(path: Path, lock: Lock) -> None:
    """Write the file atomically. Raises ConfigError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("x", encoding="ascii") as file:  # not through a link that another user made
            file.write(lock.to_json())
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write the lock file: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _ordered(keys: Iterable[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (Version(key[0]), key[1], key[2]))


def _row(key: Key, kernel: ResolvedKernel) -> dict[str, Any]:
    series, flavour, arch = key
    packages = [asdict(package) for package in kernel.packages]
    head = {"series": series, "flavour": flavour, "arch": arch}
    return {**head, "release": kernel.release, "suite": kernel.suite, "packages": packages}


def _kernel(row: Mapping[str, Any]) -> tuple[Key, ResolvedKernel]:
    flavour = row["flavour"]
    plain = {name: value for name, value in row.items() if name != "flavour"}
    kernel = ResolvedKernel.from_plain({"name": row["series"], **plain})
    _checked(_SERIES, kernel.series)
    for word in (flavour, kernel.arch, kernel.release, kernel.suite):
        _checked(_WORD, word)
    for package in kernel.packages:
        _check(package, _FILENAME)
    return (kernel.series, flavour, kernel.arch), kernel


def _archive(row: Mapping[str, Any]) -> tuple[ArchiveKey, tuple[Package, ...]]:
    packages = tuple(Package(**package) for package in row["packages"])
    for package in packages:
        _check(package, _ARCHIVE_FILE)
    return (_checked(_REQUESTED, row["kernel"]), _checked(_WORD, row["arch"])), packages


def _version(packages: tuple[Package, ...]) -> str:
    return packages[0].version if packages else ""


def _check(package: Package, filename: re.Pattern[str]) -> None:
    """Raise ValueError for a package whose values could do harm as paths or arguments."""
    _checked(_WORD, package.name)
    _checked(_VERSION, package.version)
    _checked(_SHA256, package.sha256)
    _checked(filename, package.filename)
    if not isinstance(package.size, int) or package.size < 0:
        raise ValueError(f"invalid size {package.size!r}")


def _checked(pattern: re.Pattern[str], word: str) -> str:
    if not pattern.fullmatch(word):
        raise ValueError(f"invalid value {word!r}")
    return word
