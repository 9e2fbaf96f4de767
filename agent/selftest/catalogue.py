"""Every self-test by name, with one sentence of what it proves: data that a plan reads before anything boots.

The bodies live in `scenarios/`, one file a family, and are imported only where they run.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple


class Scenario(NamedTuple):
    """One promise of the agent.

    `needs` are facts about a kernel that are observed before the body runs, such as `event:open`: a hook for
    that event fires. What is missing makes a SKIP. `cost` is the seconds expected on one emulated CPU; `long`
    scenarios can be left out where seconds matter. `ring_bytes` asks for an agent of its own with that ring.
    """

    name: str
    proves: str
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    long: bool = False
    ring_bytes: int = 0

    @property
    def family(self) -> str:
        """The part of the name before the dot: also the name of the file that holds the body."""
        return self.name.partition(".")[0]


_TRUTH = (
    Scenario(
        "truth.open",
        "An open that a rule wants arrives exactly once, with path, identity, flags and return value right.",
        needs=("event:open",),
    ),
    Scenario(
        "truth.unlink",
        "An unlink that a rule wants arrives exactly once, also when the kernel refuses it.",
        needs=("event:unlink",),
    ),
    Scenario(
        "truth.rename",
        "A rename arrives exactly once with both of its paths, whichever of the two the rule names.",
        needs=("event:rename",),
    ),
)

_APPROVERS = (
    Scenario(
        "approvers.path",
        "Opens of paths that no rule names stay in the kernel, by the thousand, while the named path passes.",
        needs=("event:open",),
    ),
    Scenario(
        "approvers.flags",
        "Opens whose flags no rule asks for stay in the kernel, while the flags that a rule names pass.",
        needs=("event:open",),
    ),
)

_DISCARDERS = (
    Scenario(
        "discarders.parent",
        "A directory that no rule can match is dropped in the kernel after its first event, and no other is.",
        needs=("event:open",),
    ),
)

_LOSS = (
    Scenario(
        "loss.steady",
        "Of 5,000 events a second for 5 seconds none is lost: kernel, agent and generator count the same.",
        needs=("event:open",),
        cost=7.0,
        long=True,
    ),
    Scenario(
        "loss.small_ring",
        "With a ring that is too small events are lost, and every one of them is counted.",
        needs=("event:open",),
        cost=3.0,
        ring_bytes=4096,
    ),
)

CATALOGUE: tuple[Scenario, ...] = (*_TRUTH, *_APPROVERS, *_DISCARDERS, *_LOSS)


def by_name(name: str) -> Scenario | None:
    """The scenario of exactly that name, or None."""
    return next((scenario for scenario in CATALOGUE if scenario.name == name), None)


def select(patterns: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios that `patterns` choose, in catalogue order.

    A pattern is a glob over names; `!GLOB` leaves out. With no positive pattern all are chosen from.
    """
    patterns = tuple(patterns)
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return tuple(s for s in CATALOGUE if _fits(s, wanted) and not _fits(s, unwanted))


def unknown(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those of `patterns` that fit no scenario: a misspelt test must not pass as an empty run."""
    return tuple(p for p in patterns if not any(_fits(s, [p.removeprefix("!")]) for s in CATALOGUE))


def _fits(scenario: Scenario, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(scenario.name, glob) for glob in globs)
