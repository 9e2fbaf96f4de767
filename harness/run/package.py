"""Notices a Debian package of the agent that was made before the agent changed.

Suites install the package from `build/deb`, and the bundle of the run says nothing of it. `make deb` writes
beside the package which file it made, and a digest of everything that decides what the installed agent does.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError
from harness.host.manifest import file_digest
from harness.host.paths import real
from harness.host.version import digest_of
from harness.plan import suites
from harness.plan.plan import Plan

ROOT = Path(__file__).parents[2]
RECORD = ".made-from"  # added to the name of a package
_SOURCES = (
    *("agent/**/*", "bpf/*.[ch]", "build/fim.bpf.o", "build/fim-casts.bpf.o", "build/rules_tables.py"),
    *("packaging/deb.py", "packaging/deb/*", "packaging/fim-agent.service"),
)


def sources() -> str:
    """Return a SHA-256 of all from which the package is made, but for its pages."""
    return digest_of(ROOT, *_SOURCES)


def record(package: Path) -> None:
    """Write beside a package that was just made what it was made from. Raises OSError."""
    path = package.with_name(f"{package.name}{RECORD}")
    path.write_text(f"{file_digest(package)} {sources()}\n", encoding="ascii")


def check(plan: Plan, base: Path) -> str:
    """Return the `sources` of the package that suites of the plan install, "" if none does.

    `base` is the folder of the suites' files. Raises ConfigError for a package that was made from others.
    """
    planned = {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}.values()
    files = {real(path) for suite in planned for path in suites.members(suite, base).values()}
    made_here = real(ROOT) / "build"
    packages = [path for path in sorted(files) if path.suffix == ".deb" and path.is_relative_to(made_here)]
    found = sources() if packages else ""
    for path in packages:
        known = path.with_name(f"{path.name}{RECORD}")
        if not known.is_file() or known.read_text().split() != [file_digest(path), found]:
            shown = path.relative_to(real(ROOT))
            raise ConfigError(f"{shown}: not made from the agent as it is now", hint="run `make deb`")
    return found
