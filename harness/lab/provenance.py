"""Stores the bundle of the agent that a run tests by its digest, and records its commit.

Saving a file or `make build` during a run does not change what it tests: every machine gets the bundle
that was stored before the first boot.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InfrastructureError
from harness.host import deadlines
from harness.host.manifest import digest
from harness.results.model import Agent

if TYPE_CHECKING:
    from harness.host.cache import Cache

_KIND, _FILE = "agent", "agent.tar"
_OBJECTS = (".o", "bin/fim-gen")


def keep(bundle: bytes, tree: Path, store: Cache) -> Agent:
    """Store `bundle`, built from the source tree `tree`, in the cache; return its record for the results."""
    files = contents(bundle)
    found = digest_of(files)
    store.get(_KIND, found, lambda folder: _write(folder, bundle), needs=len(bundle))
    commit, clean = commit_of(tree)
    objects = {name: value for name, value in files.items() if name.endswith(_OBJECTS)}
    common = digest_of({name: value for name, value in files.items() if name not in objects})
    return Agent(bundle=found, objects=objects, common=common, commit=commit, clean=clean)


def adopt(agent: Agent, bundle: bytes, store: Cache) -> None:
    """Store a bundle that another host kept. Raises InfrastructureError if it is not that of `agent`."""
    if digest_of(contents(bundle)) != agent.bundle:
        raise InfrastructureError(f"the agent's bundle is not the one of this run ({agent.bundle[:12]})")
    store.get(_KIND, agent.bundle, lambda folder: _write(folder, bundle), needs=len(bundle))


def kept(agent: Agent, store: Cache) -> bytes:
    """Return the stored bundle; raises InfrastructureError if it is missing or has changed."""

    def missing(_folder: Path) -> None:
        raise InfrastructureError(
            f"the agent of this run (bundle {agent.bundle[:12]}) is no longer in the cache", hint="run again"
        )

    bundle = (store.get(_KIND, agent.bundle, missing) / _FILE).read_bytes()
    if digest_of(contents(bundle)) != agent.bundle:
        raise InfrastructureError(f"the cached agent is not the one of this run ({agent.bundle[:12]})")
    return bundle


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a bundle with these `contents`."""
    return digest(*(word for row in sorted(files.items()) for word in row))


def contents(bundle: bytes) -> dict[str, str]:
    """Return the SHA-256 of each file in a bundle, by name.

    Bytecode is left out: Python may compile one source to different bytes.
    """
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar if not member.name.endswith(".pyc")]
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in files if file}


def member(bundle: bytes, name: str) -> bytes:
    """Return one file of a bundle; raises KeyError."""
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        file = tar.extractfile(name)
        assert file, name
        return file.read()


def commit_of(tree: Path) -> tuple[str, bool | None]:
    """Return the commit of a checkout and whether it has no changes; ("", None) for a tree without git."""
    if _git(tree, "rev-parse", "--show-toplevel") != str(tree.resolve()):
        return "", None
    commit, changes = _git(tree, "rev-parse", "HEAD"), _git(tree, "status", "--porcelain")
    return commit or "", None if changes is None else not changes


def _git(tree: Path, *words: str) -> str | None:
    try:
        argv = ["git", "-C", str(tree), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=deadlines.GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _write(folder: Path, bundle: bytes) -> None:
    (folder / _FILE).write_bytes(bundle)
