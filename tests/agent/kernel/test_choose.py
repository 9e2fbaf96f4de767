"""The choice of programs, on kernels made of tables."""

from __future__ import annotations

import pytest

from agent.errors import MinimumNotMetError
from agent.events.model import EventType
from agent.hooks import points
from agent.kernel.choose import Attempt, Chooser
from agent.kernel.loader import check_minimum
from agent.kernel.sight import coverage, coverage_of, limits

ALL = dict.fromkeys(("lsm", "fentry", "fexit", "kprobe", "kretprobe", "raw_tp"), "fires")


class Kernel:
    """Has every function of the tables, less `lacks`.

    `wide` ones have more than six arguments, `moved` ones these parameters.
    """

    def __init__(
        self,
        lacks: set[str] | None = None,
        wide: set[str] | None = None,
        moved: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._lacks = lacks or set()
        self._wide = wide or set()
        self._moved = moved or {}

    def present(self, kind: str, target: str) -> bool:
        return target not in self._lacks

    def doubtful(self, kind: str, target: str) -> bool:
        return kind in ("fentry", "fexit") and target in self._wide

    def drift(self, hook: str, kind: str, target: str) -> str:
        return points.drift(hook, self._moved.get(target, ()))


def kinds(plan_of: Chooser, event: EventType) -> set[str]:
    chosen = plan_of.plan(points.EVENTS).chosen
    return {chosen[name].kind for name in points.names(points.EVENTS[event].minimum) if name in chosen}


def test_auto_prefers_lsm() -> None:
    assert kinds(Chooser("auto", ALL, Kernel()), EventType.UNLINK) == {"lsm", "fentry", "fexit"}


def test_auto_steps_over_an_lsm_that_is_silent() -> None:
    assert kinds(Chooser("auto", ALL | {"lsm": "silent"}, Kernel()), EventType.OPEN) == {"fentry", "fexit"}


def test_auto_avoids_trampolines_where_they_skip() -> None:
    skipping = ALL | {"skips": "fires"}
    assert kinds(Chooser("auto", skipping, Kernel()), EventType.OPEN) == {"kprobe", "kretprobe"}
    assert kinds(Chooser("fentry", skipping, Kernel()), EventType.OPEN) == {"fentry", "fexit"}


def test_each_event_climbs_down_by_itself() -> None:
    chooser = Chooser("auto", ALL, Kernel())
    for target in points.POINTS["unlink"]:
        chooser.refuse(Attempt("unlink.exit", "fexit", "load-fail", "the verifier said no", target))
    assert kinds(chooser, EventType.UNLINK) == {"kprobe", "kretprobe"}
    assert kinds(chooser, EventType.RENAME) == {"lsm", "fentry", "fexit"}


def test_the_newest_name_that_is_there() -> None:
    old = Chooser("auto", ALL, Kernel(lacks={"filename_unlinkat"})).plan(points.EVENTS)
    new = Chooser("auto", ALL, Kernel()).plan(points.EVENTS)
    assert old.chosen["unlink.exit"].target == "do_unlinkat"
    assert new.chosen["unlink.exit"].target == "filename_unlinkat"


def test_a_forced_set_takes_only_its_rung() -> None:
    plan = Chooser("fentry", ALL | {"fexit": "load-fail"}, Kernel()).plan(points.EVENTS)
    assert "unlink.exit" not in plan.chosen
    reasons = {one.reason for one in plan.attempts if one.hook == "unlink.exit"}
    assert reasons == {"fexit programs: load-fail"}


def test_wide_functions_are_left_to_kprobes_only_where_there_is_a_choice() -> None:
    wide = {"__filename_parentat"}
    chosen = Chooser("auto", ALL, Kernel(wide=wide)).plan(points.EVENTS).chosen
    assert chosen["parent.given"].kind == "kprobe"
    chosen = Chooser("fentry", ALL, Kernel(wide=wide)).plan(points.EVENTS).chosen
    assert chosen["parent.given"].kind == "fentry"


def test_a_drifted_hook_is_named() -> None:
    """A function that no candidate names is reported, and the event it serves is not covered."""
    names = set(points.POINTS["rename"])
    plan = Chooser("kprobe", ALL, Kernel(lacks=names)).plan(points.EVENTS)
    assert coverage_of(points.EVENTS[EventType.RENAME], frozenset(plan.chosen)) == "none"
    with pytest.raises(MinimumNotMetError, match=r"rename\.enter, rename\.exit$") as caught:
        check_minimum(plan, "kprobe")
    assert "this kernel has no usable filename_renameat2 or do_renameat2" in caught.value.detail


def test_an_argument_that_moved_is_named() -> None:
    """A program would read something else there: it is not chosen, and the hook and the argument are told."""
    kernel = Kernel(
        moved={"security_path_rename": ("flags", "old_dir", "old_dentry", "new_dir", "new_dentry")}
    )
    plan = Chooser("kprobe", ALL, kernel).plan(points.EVENTS)
    with pytest.raises(MinimumNotMetError, match=r"rename\.resolve") as caught:
        check_minimum(plan, "kprobe")
    assert caught.value.exit_code == 4
    words = "drifted: its argument old_dir is number 2 here, not 1"
    assert f"rename.resolve by kprobe at security_path_rename: {words}" in caught.value.detail


@pytest.mark.parametrize(
    ("hook", "parameters", "drifted"),
    [
        ("setxattr.enter", ("dentry", "name", "value", "size", "flags"), False),
        ("setxattr.enter", ("idmap", "dentry", "name", "value", "size", "flags"), False),
        ("setxattr.enter", ("idmap", "sb", "dentry", "name", "value", "size", "flags"), True),
        ("open.enter", ("dfd", "filename", "op"), False),
        ("open.enter", ("dfd", "op", "pathname"), True),
        ("open.exit", ("whatever",), False),
    ],
)
def test_what_counts_as_drift(hook: str, parameters: tuple[str, ...], drifted: bool) -> None:
    """Another name does not, nor what programs look for themselves."""
    assert bool(points.drift(hook, parameters)) is drifted


def test_what_no_function_serves_is_left_to_its_system_calls() -> None:
    """And said to be degraded, with what was tried; no other event is told by system calls."""
    names = set(points.POINTS["rename"])
    plan = Chooser("auto", ALL | {"tracepoint": "fires"}, Kernel(lacks=names)).plan(points.EVENTS)
    present = frozenset(plan.chosen)
    check_minimum(plan, "auto")
    assert coverage_of(points.EVENTS[EventType.RENAME], present) == "degraded"
    assert [event for event in points.EVENTS if points.by_syscalls(event, present)] == [EventType.RENAME]
    assert {one.hook for one in plan.attempts if "filename_renameat2" in one.reason} >= {"rename.enter"}


def test_an_entry_is_not_chosen_without_its_return() -> None:
    """Of what is wanted beside the minimum too: alone it would leave things behind."""
    chooser = Chooser("kprobe", ALL, Kernel())
    for target in points.POINTS["open_root"]:
        chooser.refuse(Attempt("open_root.exit", "kretprobe", "attach-fail", "no", target))
    assert "open_root.enter" not in chooser.plan(points.EVENTS).chosen


def test_the_set_of_system_calls_sees_all_but_whole_names() -> None:
    """Two programs serve every event on files, and none of them in full."""
    states = dict.fromkeys(("tracepoint", "raw_tp"), "fires")
    plan = Chooser("tracepoint", states, Kernel()).plan(points.EVENTS)
    assert {one.program for one in plan.chosen.values() if one.kind == "tracepoint"} == {
        "tracepoint__syscall__enter",
        "tracepoint__syscall__exit",
    }
    present = frozenset(plan.chosen)
    degraded = {event for event, needs in points.EVENTS.items() if coverage_of(needs, present) == "degraded"}
    assert degraded == set(points.EVENTS) - {EventType.EXEC, EventType.FORK, EventType.EXIT}


def test_without_what_is_wanted_an_event_is_degraded() -> None:
    lacks = set(points.GIVEN["parent"])
    plan = Chooser("auto", ALL, Kernel(lacks=lacks)).plan(points.EVENTS)
    check_minimum(plan, "auto")
    present = frozenset(plan.chosen)
    assert coverage_of(points.EVENTS[EventType.UNLINK], present) == "degraded"
    assert coverage_of(points.EVENTS[EventType.OPEN], present) == "full"


def test_selectors() -> None:
    present = frozenset({"a", "b"})
    assert points.missing(points.all_of("a", "c", "d"), present) == ("c", "d")
    assert points.missing(points.one_of("c", "b"), present) == ()
    assert points.missing(points.one_of("c", "d"), present) == ("c", "d")
    assert points.missing(points.best_effort("c"), present) == ()
    assert points.missing(points.all_of("a", points.one_of("c", "b")), present) == ()


def test_what_cannot_be_seen_is_said_in_words() -> None:
    """Of what is told by system calls, and of what lacks a hook that is wanted; of all else nothing."""
    calls = Chooser("tracepoint", dict.fromkeys(("tracepoint", "raw_tp"), "fires"), Kernel()).plan(
        points.EVENTS
    )
    told = points.limits(frozenset(calls.chosen))
    assert told[EventType.UNLINK] == points.SPELLED
    assert told[EventType.OPEN].startswith(points.SPELLED)
    assert EventType.EXEC not in told
    lacking = Chooser("auto", ALL, Kernel(lacks=set(points.GIVEN["parent"]))).plan(points.EVENTS)
    words = points.limits(frozenset(lacking.chosen))
    assert words[EventType.MKDIR] == points.UNREFUSED
    assert EventType.OPEN not in words
    assert points.limits(frozenset(Chooser("auto", ALL, Kernel()).plan(points.EVENTS).chosen)) == {}
    assert points.limits(frozenset()) == {}


def test_what_preempted_programs_hide_is_said() -> None:
    """Where the kernel skips trampolines a set of them is degraded and says why; kprobes see all."""
    skipping = ALL | {"skips": "fires"}
    fentry = Chooser("fentry", skipping, Kernel()).plan(points.EVENTS).chosen
    assert coverage(fentry, skipping)["open"] == "degraded"
    assert limits(fentry, skipping)["open"] == points.HIDDEN
    assert coverage(fentry, ALL)["open"] == "full"
    assert limits(fentry, ALL) == {}
    kprobe = Chooser("kprobe", skipping, Kernel()).plan(points.EVENTS).chosen
    assert coverage(kprobe, skipping)["open"] == "full"
    assert limits(kprobe, skipping) == {}
