"""Coverage of event types: levels, limits, and the lines that the agent prints."""

from __future__ import annotations

from agent.hooks import coverage, needs, sets
from agent.selftest.catalogue import CATALOGUE


def kinds(hookset: str, *absent: str) -> dict[str, str]:
    """All hooks that a set serves, with their program types, except the absent ones."""
    served = {hook: sets.kind_of(hook, hookset) for hook in needs.HOOKS if hook not in absent}
    return {hook: kind for hook, kind in served.items() if kind}


def test_full_coverage_is_one_line() -> None:
    """Event types with full coverage are not listed."""
    lines = coverage.lines({"open": "full", "close": "full"}, {})
    assert list(lines) == ["coverage: full all event types"]


def test_each_limit_is_printed_once() -> None:
    """With all event types that have it."""
    levels = {"open": "degraded", "link": "degraded", "exec": "full", "mount": "none"}
    lines = coverage.lines(levels, {"open": "by handle unseen", "link": "by handle unseen"})
    assert list(lines) == [
        "coverage: full exec; degraded open, link; none mount",
        "open, link: by handle unseen",
    ]


def test_events_without_full_coverage_have_a_limit() -> None:
    """Events seen by system calls alone, and events that lack a wanted hook; no other event has one."""
    by_calls = coverage.limits(kinds("tracepoint"), skips=False)
    assert by_calls["unlink"] == coverage.ARGUMENTS_ONLY
    assert by_calls["open"].startswith(coverage.ARGUMENTS_ONLY)
    assert by_calls["exec"] == "a refused exec is not seen"
    assert "fork" not in by_calls
    lacking = coverage.limits(kinds("kprobe", "parent.given", "syscall.enter"), skips=False)
    assert lacking["mkdir"] == coverage.FAILED_LOOKUP
    assert "open" not in lacking
    assert coverage.limits(kinds("lsm"), skips=False) == {}
    assert coverage.limits({}, skips=False) == {}


def test_preempted_programs_degrade_events() -> None:
    """If the kernel skips programs on trampolines; it does not skip kprobes."""
    assert coverage.levels(kinds("fentry"), skips=True)["open"] == "degraded"
    assert coverage.limits(kinds("fentry"), skips=True)["open"] == coverage.PREEMPTED
    assert coverage.levels(kinds("fentry"), skips=False)["open"] == "full"
    assert coverage.limits(kinds("fentry"), skips=False) == {}
    assert coverage.levels(kinds("kprobe"), skips=True)["open"] == "full"
    assert coverage.limits(kinds("kprobe"), skips=True) == {}


def test_unseen_entry_points_have_scenarios() -> None:
    """A misspelled set or entry point would make no scenario expect anything."""
    names = {scenario.name.partition(".")[2] for scenario in CATALOGUE if scenario.family == "doors"}
    for hookset, unseen in coverage.UNSEEN_ENTRY_POINTS.items():
        assert hookset in sets.SETS
        assert unseen.keys() <= names
