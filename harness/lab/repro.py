"""Runs one cell of an earlier run again, on the same kernel if its packages still exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import Progress
from harness.kernels import Lock, Package, Repositories, ResolvedKernel, catalogue
from harness.kernels.lock import key_of
from harness.lab.supplies import request
from harness.plan.cells import Cell, fits
from harness.plan.matrix import nearest
from harness.plan.plan import Plan
from harness.results import results_file, shard_folders
from harness.results.model import KernelFacts, Results


def plan_of(path: Path, cell_id: str, tests: Sequence[str] = ()) -> tuple[Plan, Results]:
    """Return the plan of one cell of a run, and the run's results; `tests` are globs that select tests.

    `path` is results.json with plan.json beside it. Raises ConfigError.
    """
    found = results_file.load(path)
    plan = shard_folders.read_plan(path.with_name("plan.json"))
    try:
        cell = plan.cell(cell_id)
    except KeyError as error:
        names = [cell.id for cell in plan.cells]
        raise ConfigError(f"{path} has no cell {cell_id!r}{nearest(cell_id, names)}") from error
    kept = tuple(name for name in cell.tests if fits(name, tuple(tests) or ("*",)))
    if not kept:
        raise ConfigError(f"--test {' '.join(tests)}: {cell_id} ran no such test")
    return plan.model_copy(update={"cells": (cell.model_copy(update={"tests": kept}),), "omitted": ()}), found


def lock_of(
    cell: Cell, found: Results, say: Progress, *, cache: Cache, repositories: Repositories | None = None
) -> Lock | None:
    """Return a lock of the kernel that the cell ran on; None, and a line with the reason, if it is gone."""
    facts = next(one.kernel for one in found.cells if one.id == cell.id)
    if cell.kernel.source != "series":
        say(f"{cell.id}: using {cell.kernel.requested} as it is now")
        return None
    if not facts.packages:
        say(f"{cell.id}: the results do not name the kernel's packages, taking the newest kernel")
        return None
    kernel = _kernel(cell, facts)
    if cache.has("kernels", kernel.digest):
        say(f"{facts.release}: the same packages, from the cache")
        return Lock({key_of(request(cell)): kernel})
    listed = _listed(kernel, repositories or Repositories(), say)
    if listed is None:
        names = ", ".join(f"{package.name} {package.version}" for package in facts.packages)
        say(f"{facts.release}: gone, neither in the cache nor in a repository: {names}; taking the newest")
        return None
    say(f"{facts.release}: the same packages, from {listed.suite}")
    return Lock({key_of(request(cell)): listed})


def _kernel(cell: Cell, facts: KernelFacts) -> ResolvedKernel:
    """Return the kernel with the data that results contain, which are enough for the cache's key."""
    packages = tuple(Package(one.name, one.version, one.sha256, 0, "") for one in facts.packages)
    return ResolvedKernel(facts.name, facts.requested, facts.release, cell.arch, "", packages)


def _listed(kernel: ResolvedKernel, repositories: Repositories, say: Progress) -> ResolvedKernel | None:
    """Return the kernel with the data of the index, from the first suite that has every package."""
    wanted = [package.sha256 for package in kernel.packages]
    for suite in catalogue.search_order(kernel.series):
        apt = repositories.apt(kernel.arch, suite)
        apt.refresh(say)
        stanzas = apt.show([package.name for package in kernel.packages])
        have = {stanza["sha256"]: stanza for stanza in stanzas}
        if all(sha256 in have for sha256 in wanted):
            packages = tuple(
                replace(package, size=int(row["size"]), filename=row["filename"])
                for package, row in ((package, have[package.sha256]) for package in kernel.packages)
            )
            return replace(kernel, suite=suite, packages=packages)
    return None
