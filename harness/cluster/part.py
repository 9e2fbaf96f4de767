"""One machine of a run as plain data: what a worker receives, and the folder that its child process reads."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.errors import ConfigError, InfrastructureError
from harness.host import files
from harness.kernels import lock as locking
from harness.plan import suites
from harness.plan.plan import Plan
from harness.results import expectations
from harness.results.model import Agent
from harness.run.run import Options

FILE = "part.json"
PLAN = "plan.json"
AGENT = "agent.tar"
SUITES = "suites.tar"
KERNEL = "kernel.tar"
BLOBS, BLOB = "blobs", "blob"  # in the cache: the kind of entry, and its only file
BASE = "files"  # the folder of the files of suites
_MAX_BYTES = 1 << 30


class Settings(BaseModel):
    """The options that every part of a run shares; `limit_s` is the deadline of the run, 0 without one."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    accelerator: str = "auto"
    cold: bool = False
    mirror: str = ""
    limit_s: float = 0.0


class Part(BaseModel):
    """What one machine needs.

    `blobs` has the SHA-256 of each file that is sent separately, by its name in the folder of the part.
    `left_s` is the time until the deadline of the run; `topic` is where the worker publishes what happens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    machine: str
    plan: Plan
    lock: str
    expectations: str
    agent: Agent | None = None
    kernel: dict[str, Any] = {}  # what a kernel of the user resolved to
    settings: Settings = Settings()
    blobs: dict[str, str] = {}
    left_s: float = 0.0
    topic: str = ""
    host: str = ""  # the worker's name of its host, which the worker adds

    def to_bytes(self) -> bytes:
        """Return the part for the wire: bytes, because Dask takes a text for the name of another task."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Part:
        """Return the part that `to_bytes` was called on. Raises ValueError."""
        return cls.model_validate_json(data)


def digest(data: bytes) -> str:
    """Return the SHA-256 by which a blob is named."""
    return hashlib.sha256(data).hexdigest()


def copy(source: Path, entry: Path) -> None:
    """Copy a file into an entry of the cache for a blob. Raises OSError."""
    shutil.copyfile(source, entry / BLOB)


def suites_of(plan: Plan, base: Path) -> bytes:
    """Return the files of all suites of `plan` as a tar archive; equal files give equal bytes.

    Raises ConfigError if a file is missing or outside of `base`.
    """
    wanted = {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}
    paths = {path for suite in wanted.values() for path in suites.members(suite, base).values()}
    if not paths:
        return b""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(paths):
            entry = tarfile.TarInfo(path.relative_to(base).as_posix())
            data = path.read_bytes()
            entry.size, entry.mode = len(data), path.stat().st_mode & 0o777
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def write(part: Part, folder: Path, blobs: Mapping[str, Path]) -> None:
    """Write a part into an empty folder; `blobs` has the file of each blob by digest. Raises OSError."""
    for name, wanted in part.blobs.items():
        (folder / name).symlink_to(blobs[wanted])
    (folder / PLAN).write_text(part.plan.to_json(), encoding="utf-8")
    (folder / locking.NAME).write_text(part.lock, encoding="utf-8")
    if part.expectations:
        (folder / expectations.NAME).write_text(part.expectations, encoding="utf-8")
    (folder / BASE).mkdir()
    if SUITES in part.blobs:
        with tarfile.open(folder / SUITES) as tar:
            tar.extractall(folder / BASE, filter="data")
    rest = part.model_dump_json(exclude={"plan", "lock", "expectations"}, by_alias=True)
    (folder / FILE).write_text(rest, encoding="utf-8")


def read(folder: Path) -> Part:
    """Read the folder of a part. Raises ConfigError."""
    try:
        rest = json.loads(files.read_regular(folder / FILE, _MAX_BYTES))
        plan = Plan.model_validate_json(files.read_regular(folder / PLAN, _MAX_BYTES))
        return Part.model_validate({**rest, "plan": plan, "lock": "", "expectations": ""})
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: not the part of a run: {error}", hint="only the worker of a cluster uses --part"
        ) from error


def bundle(folder: Path) -> bytes:
    """Return the agent's bundle in the folder of a part. Raises InfrastructureError."""
    try:
        return (folder / AGENT).read_bytes()
    except OSError as error:
        raise InfrastructureError(f"the agent of this part cannot be read: {error}") from error


def options(part: Part, folder: Path, output: Path) -> Options:
    """Return the options of the run of a part in `folder`."""
    return Options(
        matrix=folder.absolute() / PLAN,
        plan=part.plan,
        base=folder.absolute() / BASE,
        folder=output,
        cold=part.settings.cold,
        accelerator=part.settings.accelerator,
        deadline_s=part.left_s,
        part=True,
        host=part.host,
    )
