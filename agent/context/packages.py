"""Finds the package manager on whose behalf a process works, and what the package databases say of a file.

A package manager is recognised by the path of its program, which the kernel reports, and only in the host's
own mount namespace: in a namespace of their own, users can put any program at any path. Package managers that
are scripts are recognised by their interpreter and the path of the script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.events.actors import Process

# Programs by the path that the kernel reports.
PROGRAMS: Mapping[bytes, bytes] = {
    b"/usr/bin/dpkg": b"dpkg",
    **dict.fromkeys((b"/usr/bin/apt", b"/usr/bin/apt-get", b"/usr/bin/aptitude-curses"), b"apt"),
    **dict.fromkeys((b"/usr/bin/rpm", b"/usr/bin/rpmdb"), b"rpm"),
    **dict.fromkeys((b"/usr/bin/dnf5", b"/usr/bin/dnf5daemon-server", b"/usr/bin/microdnf"), b"dnf"),
    **dict.fromkeys((b"/usr/lib/snapd/snapd", b"/usr/libexec/snapd/snapd"), b"snapd"),
    **dict.fromkeys((b"/usr/bin/flatpak", b"/usr/libexec/flatpak-system-helper"), b"flatpak"),
}
RPM_FOLDERS = (Path("/usr/lib/sysimage/rpm"), Path("/var/lib/rpm"))  # of rpm's database
# Where snapd runs from its own snap: the number is that of its revision.
_SNAPD = re.compile(rb"/snap/(snapd|core)/[0-9]+/usr/lib/snapd/snapd")


class Script(NamedTuple):
    """A package manager that an interpreter runs: the first arguments say which."""

    interpreter: re.Pattern[bytes]
    arguments: re.Pattern[bytes]  # matched with the first two arguments, joined by a zero byte
    manager: bytes


_PYTHON = re.compile(
    rb"/usr/(local/)?bin/(python|platform-python)[0-9.]*|/usr/libexec/platform-python[0-9.]*"
)
_NODE = re.compile(rb"/usr/(local/)?bin/node(js)?")
SCRIPTS = (
    Script(_PYTHON, re.compile(rb"/usr/bin/(dnf|yum)(-[0-9]+)?(\0.*)?", re.DOTALL), b"dnf"),
    Script(_PYTHON, re.compile(rb"/usr/(local/)?bin/pip[0-9.]*(\0.*)?|-m\0pip", re.DOTALL), b"pip"),
    Script(
        _NODE,
        re.compile(
            rb"/usr/(local/)?(bin/npm|(share/nodejs|lib/node_modules)/npm/bin/npm-cli\.js)(\0.*)?", re.DOTALL
        ),
        b"npm",
    ),
)


def manager_of(process: Process, ancestors: Iterable[Process] = ()) -> bytes:
    """Return the package manager that a process is, or that its nearest such ancestor is; b"" for none.

    An ancestor that has exited must not be among `ancestors`: daemons that it started do not work for it.
    """
    return next(filter(None, map(_manager, (process, *ancestors))), b"")


def is_manager(process: Process) -> bool:
    """Whether a process runs the program of a package manager itself."""
    return bool(_manager(process))


def _manager(process: Process) -> bytes:
    known = PROGRAMS.get(process.exe, b"")
    if known or not process.exe.startswith((b"/usr/", b"/snap/")):
        return known
    if _SNAPD.fullmatch(process.exe):
        return b"snapd"
    for script in SCRIPTS:
        if script.interpreter.fullmatch(process.exe):
            words = b"\0".join(process.args[1:3])
            if script.arguments.fullmatch(words):
                return script.manager
    return b""


@dataclass(frozen=True, slots=True)
class Owned:
    """A file of an installed package: the digest that the package's file has, in hexadecimal."""

    package: str  # NAME VERSION
    algorithm: str  # a name that hashlib knows
    digest: str


class Database(Protocol):
    """The files of installed packages with their digests; `name` stands before the package in marks."""

    name: str

    def final_name(self, path: bytes) -> bytes:
        """Return the path that a file will have after the installation, from its name meanwhile."""

    def owned(self, paths: Iterable[bytes], since_ns: int) -> dict[bytes, Owned]:
        """Return those of `paths` that belong to packages.

        `since_ns`, nanoseconds since 1970, is when the first of them changed: packages that were installed
        before need not be looked at. A damaged or missing database has no files.
        """
