"""Decides whether a kernel explains that the agent skipped a scenario.

The agent skips a scenario that needs more than its hooks see. If a hook set should see it on that kernel,
one of its programs failed there, and the skip would hide what the agent lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.hooks import coverage, sets
from agent.selftest import catalogue
from harness.kernels import configuration
from harness.kernels.inspect import ATTACHED, DRIFTED, Prediction

# The programs are adapted to the kernels that they run on. Where a parameter moved they, or the table of
# parameters, must be changed, so a moved one explains nothing.
_PROMISING = (ATTACHED, DRIFTED)

_LAST_RESORT = "tracepoint"  # for `auto`, where no function of the kernel shows an event


def promise(
    scenario: str,
    levels: Mapping[str, str],
    limits: Mapping[str, str],
    hookset: str,
    *,
    skips: bool,
    predicted: Iterable[Prediction],
    config: str,
) -> str:
    """The event and hook set that should make a skipped scenario possible, as text; "" if there is none.

    `levels` and `limits` are the coverage that the agent reported. `skips` is whether it observed that
    a preempted program makes the kernel skip others; on a kernel that cannot preempt itself it does not.
    """
    known = catalogue.by_name(scenario)
    unseen = known.unseen(levels, limits) if known else None
    if known is None or unseen is None:
        return ""
    rest = (need for need in known.needs if not need.startswith("event:"))
    needed = known._replace(needs=(f"event:{unseen.event}", *rest))
    hidden = skips and configuration.preempts(config)
    working = [row for row in predicted if row.state in _PROMISING]
    for name in _used(unseen.event, hookset, working, skips=skips):
        kinds = _kinds(name, working)
        if not needed.unseen(coverage.levels(kinds, hidden), coverage.limits(kinds, hidden)):
            return f"{unseen.event} by {name}"
    return ""


def _used(event: str, hookset: str, working: Iterable[Prediction], *, skips: bool) -> Iterator[str]:
    """Yield the hook sets from which the agent takes the hooks of an event."""
    if hookset != sets.AUTO:
        yield hookset
        return
    ladder = sets.LADDER_SKIPPING if skips else sets.LADDER
    seeing = [name for name in ladder if coverage.levels(_kinds(name, working), skips)[event] != "none"]
    yield from (name for name in seeing if name != _LAST_RESORT or seeing == [_LAST_RESORT])


def _kinds(hookset: str, working: Iterable[Prediction]) -> dict[str, str]:
    return {row.hook: row.kind for row in working if row.kind == sets.kind_of(row.hook, hookset)}
