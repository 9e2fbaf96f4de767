"""Decides whether two results are of one thing: of the same agent, judged by the same files of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import ConfigError
from harness.host import manifest
from harness.plan import suites
from harness.plan.plan import Plan
from harness.results import expectations
from harness.results.expectations import Expectations
from harness.results.model import Agent, RunInfo


def inputs(plan: Plan, base: Path, known: Expectations) -> dict[str, str]:
    """Return a digest of each input that decides verdicts: the expectations, and the files of each suite.

    `base` is the folder that files of suites are named from. Raises ConfigError for files that do not exist
    or are outside of it.
    """
    planned = {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}
    return {
        expectations.NAME: manifest.digest(known.model_dump_json()),
        **{f"suite {name}": suites.digest(suite, base) for name, suite in planned.items()},
    }


def check_rest(earlier: RunInfo, harness: str, package: str, inputs: Mapping[str, str]) -> None:
    """Raise ConfigError if the earlier run, whose results are joined, was not judged in the same way.

    `harness` and `package` are digests like those of RunInfo; a run without suites has no package.
    """
    check_harness(earlier.harness_digest, harness)
    if earlier.package_digest and package and earlier.package_digest != package:
        raise _changed("the Debian package of the agent")
    check_inputs(earlier.inputs, inputs)


def check_harness(known: str, found: str) -> None:
    """Raise ConfigError if the digest of the harness is not that of the earlier run."""
    if known != found:
        raise _changed("the harness")


def check_inputs(earlier: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ConfigError if an input changed since the earlier run began; it need not have all of them."""
    for name, digest in found.items():
        if earlier.get(name, digest) != digest:
            raise _changed(name)


def check_agent(known: Agent | None, agent: Agent | None) -> None:
    """Raise ConfigError if `agent` is not the one that the earlier run tested, whose results are joined."""
    if known and agent and not same_agent(known, agent):
        raise _changed("the agent")


def _changed(what: str) -> ConfigError:
    return ConfigError(f"{what} changed since the run began", hint="start a new run")


def same_agent(one: Agent, other: Agent) -> bool:
    """Whether the bundles are equal but for the compiled files of architectures that only one of them has."""
    both = one.objects.keys() & other.objects.keys()
    same = bool(one.common) and one.common == other.common
    return one.bundle == other.bundle or (
        same and all(one.objects[name] == other.objects[name] for name in both)
    )
