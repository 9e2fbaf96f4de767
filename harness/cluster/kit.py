"""What all parts of one run share: settings, kernels, agent, expectations, and files that are sent by digest.

The kit without its files is kept in the folder of the run, so `harness run --resume` sends the same again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.cluster import part
from harness.cluster.part import Part, Settings
from harness.errors import ConfigError, InfrastructureError
from harness.host import files
from harness.host.cache import Cache, file_digest
from harness.kernels import ResolvedKernel
from harness.lab import taken
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results import expectations, results_file
from harness.results.folder import CLUSTER
from harness.run.machines import Pins
from harness.run.run import Run
from harness.text import one_line

Bundle = Callable[[], bytes]
"""Returns the bundle of the agent of the run."""


class Kit(BaseModel):
    """`matrix` is an absolute path; `suites` and `own` have the digest of such files by machine.

    `harness` is the digest of the harness of the first client.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    matrix: Path
    cluster: str
    keys: Path | None = None
    settings: Settings
    pins: Pins
    expectations: str = ""
    inputs: dict[str, str] = {}  # see `harness.results.tested`
    bundle: str = ""  # SHA-256 of the archive with the agent
    suites: dict[str, str] = {}
    own: dict[str, str] = {}
    harness: str = ""

    def part(self, plan: Plan, machine: str, left_s: float, topic: str) -> Part:
        """Return the part of a machine."""
        blobs = {part.AGENT: self.bundle} if self.bundle and _tests_agent(plan.machines()[machine]) else {}
        if machine in self.suites:
            blobs[part.SUITES] = self.suites[machine]
        if machine in self.own:
            blobs[part.KERNEL] = self.own[machine]
        cells = tuple(plan.machines()[machine])
        return Part(
            machine=machine,
            plan=plan.model_copy(update={"cells": cells, "omitted": (), "must_pass": False}),
            lock=self.pins.lock,
            expectations=self.expectations,
            agent=self.pins.agent,
            kernel=self.pins.own.get(machine, {}),
            settings=self.settings,
            blobs=blobs,
            left_s=left_s,
            topic=topic,
        )


class Blobs:
    """The files of a kit by digest. Raises ConfigError if a file is not the one of the run any more."""

    def __init__(self, kit: Kit, plan: Plan, base: Path, bundle: Bundle) -> None:
        self._found: dict[str, bytes] = {}
        self._own = set(kit.own.values())
        if kit.bundle:
            self._add(bundle(), kit.bundle, "the agent")
        machines = plan.machines()
        for machine, wanted in kit.suites.items():
            if machine in machines and wanted not in self._found:
                self._add(_suites(plan, machine, base), wanted, f"the suite files of {machine}")

    def _add(self, data: bytes, wanted: str, what: str) -> None:
        if part.digest(data) != wanted:
            raise ConfigError(f"{what} changed since the run began", hint="start a new run")
        self._found[wanted] = data

    def __getitem__(self, digest: str) -> bytes:
        return _kept(digest).read_bytes() if digest in self._own else self._found[digest]


def make(run: Run, pins: Pins, settings: Settings, cluster: str, keys: Path | None, bundle: Bundle) -> Kit:
    """Return the kit of a new run. Raises HarnessError."""
    path = run.options.matrix.with_name(expectations.NAME)
    packed = {machine: _suites(run.plan, machine, run.base) for machine in run.plan.machines()}
    return Kit(
        matrix=run.options.matrix,
        cluster=cluster,
        keys=keys.absolute() if keys else None,
        settings=settings,
        pins=pins,
        own={machine: _keep(ResolvedKernel.from_plain(plain)) for machine, plain in pins.own.items()},
        expectations=path.read_text(encoding="utf-8") if path.exists() else "",
        inputs=run.inputs,
        bundle=part.digest(bundle()) if pins.agent else "",
        suites={machine: part.digest(data) for machine, data in packed.items() if data},
        harness=run.harness_digest,
    )


def store(kit: Kit, folder: Path) -> None:
    """Write the kit into the folder of its run. Raises OSError."""
    files.write_atomic(folder / CLUSTER, kit.model_dump_json(indent=1) + "\n")


def load(folder: Path) -> Kit:
    """Read the kit of an earlier run. Raises ConfigError."""
    try:
        return Kit.model_validate_json(files.read_input(folder / CLUSTER, results_file.MAX_BYTES))
    except (OSError, ValueError) as error:
        alone = (folder / "plan.json").is_file() and not (folder / CLUSTER).exists()
        why = "it has no cluster.json" if alone else one_line(str(error))
        known = "name the folder that the run printed, such as out/latest"
        raise ConfigError(
            f"{folder}: not the folder of a run with --cluster: {why}",
            hint="leave out --cluster: the rest runs on this host" if alone else known,
        ) from error


def _keep(kernel: ResolvedKernel) -> str:
    """Pack a kernel into the cache; return the SHA-256 of the archive."""
    store = Cache()
    with tempfile.TemporaryDirectory(dir=store.root) as folder:
        archive = Path(folder) / part.KERNEL
        taken.pack(kernel, store, archive)
        digest = file_digest(archive)
        store.get(part.BLOBS, digest, lambda entry: part.copy(archive, entry))
    return digest


def _kept(digest: str) -> Path:
    def missing(_folder: Path) -> None:
        raise InfrastructureError("a kernel of this run is no longer in the cache", hint="start a new run")

    return Cache().get(part.BLOBS, digest, missing) / part.BLOB


def _tests_agent(cells: list[Cell]) -> bool:
    return any(cell.tests and not cell.suite for cell in cells)


def _suites(plan: Plan, machine: str, base: Path) -> bytes:
    return part.suites_of(plan.model_copy(update={"cells": tuple(plan.machines()[machine])}), base)
