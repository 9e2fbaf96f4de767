"""The choice of programs, for kernels that are tables."""

from __future__ import annotations

import pytest

from agent.errors import MinimumNotMetError
from agent.events.model import EventType
from agent.hooks import needs, points
from agent.hooks.coverage import level
from agent.kernel.choose import Attempt, Chooser
from agent.kernel.loader import check_minimum

ALL = dict.fromkeys(("lsm", "fentry", "fexit", "kprobe", "kretprobe", "raw_tp"), "fires")


class Kernel:
    """Has every function of the tables except `lacks`.

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
    chosen = plan_of.plan(needs.EVENTS).chosen
    return {chosen[name].kind for name in needs.names(needs.EVENTS[event].minimum) if name in chosen}


def test_auto_prefers_lsm() -> None:
    assert kinds(Chooser("auto", ALL, Kernel()), EventType.UNLINK) == {"lsm", "fentry", "fexit"}


def test_auto_skips_an_lsm_that_is_silent() -> None:
    assert kinds(Chooser("auto", ALL | {"lsm": "silent"}, Kernel()), EventType.OPEN) == {"fentry", "fexit"}


def test_auto_avoids_trampolines_where_they_skip() -> None:
    """It takes kprobe.multi if that has room for the returns of all calls that sleep, and kprobes if not."""
    skipping = ALL | {"skips": "fires", "kprobe_multi": "lossy"}
    whole = skipping | {"kprobe_multi": "fires"}
    multi = {"kprobe_multi", "kretprobe_multi"}
    assert kinds(Chooser("auto", whole, Kernel()), EventType.OPEN) == multi
    with pytest.raises(MinimumNotMetError, match="kprobe-multi"):
        check_minimum(Chooser("kprobe-multi", skipping, Kernel()).plan(needs.EVENTS), "kprobe-multi")
    assert kinds(Chooser("auto", skipping, Kernel()), EventType.OPEN) == {"kprobe", "kretprobe"}
    assert kinds(Chooser("fentry", skipping, Kernel()), EventType.OPEN) == {"fentry", "fexit"}


@pytest.mark.parametrize("multi", ["lossy", "attach-fail"])
def test_hooks_that_are_no_condition_come_from_the_next_set_too(multi: str) -> None:
    """On 6.13 to 6.17 nothing of the first set works, and these hooks were left out."""
    skipping = ALL | {"skips": "fires", "kprobe_multi": multi}
    chosen = Chooser("auto", skipping, Kernel()).plan(needs.EVENTS).chosen
    optional = {name for of in needs.EVENTS.values() for name in needs.names(of.extra)}
    assert {"signal.given", "mount_setattr.enter", "move_mount32.exit"} <= optional
    assert {chosen[name].kind for name in optional if name in chosen} == {"kprobe", "kretprobe"}
    assert optional <= set(chosen)


@pytest.mark.parametrize(
    ("hookset", "flaws", "taken"),
    [
        ("auto", {}, False),
        ("auto", {"skips": "fires"}, True),
        ("fentry", {}, False),
        ("kprobe", {}, True),
        ("bcc", {}, True),
    ],
)
def test_lost_returns_are_made_up_for_where_kretprobes_see_them(
    hookset: str, flaws: dict[str, str], taken: bool
) -> None:
    """Elsewhere another program at each open would be wasted."""
    chosen = Chooser(hookset, ALL | flaws, Kernel()).plan(needs.EVENTS).chosen
    assert ("installed.given" in chosen) is taken


def test_each_event_gets_its_own_set() -> None:
    chooser = Chooser("auto", ALL, Kernel())
    for target in points.POINTS["unlink"]:
        chooser.refuse(Attempt("unlink.exit", "fexit", "load-fail", "the verifier refused it", target))
    assert kinds(chooser, EventType.UNLINK) == {"kprobe", "kretprobe"}
    assert kinds(chooser, EventType.RENAME) == {"lsm", "fentry", "fexit"}


def test_the_newest_present_name_is_chosen() -> None:
    old = Chooser("auto", ALL, Kernel(lacks={"filename_unlinkat"})).plan(needs.EVENTS)
    new = Chooser("auto", ALL, Kernel()).plan(needs.EVENTS)
    assert old.chosen["unlink.exit"].target == "do_unlinkat"
    assert new.chosen["unlink.exit"].target == "filename_unlinkat"


def test_a_forced_set_uses_only_its_kinds() -> None:
    plan = Chooser("fentry", ALL | {"fexit": "load-fail"}, Kernel()).plan(needs.EVENTS)
    assert "unlink.exit" not in plan.chosen
    reasons = {one.reason for one in plan.attempts if one.hook == "unlink.exit"}
    assert reasons == {"fexit programs: load-fail"}


def test_auto_attaches_kprobes_to_functions_with_many_arguments() -> None:
    wide = {"__filename_parentat"}
    chosen = Chooser("auto", ALL, Kernel(wide=wide)).plan(needs.EVENTS).chosen
    assert chosen["parent.given"].kind == "kprobe"
    chosen = Chooser("fentry", ALL, Kernel(wide=wide)).plan(needs.EVENTS).chosen
    assert chosen["parent.given"].kind == "fentry"


def test_a_drifted_hook_is_named() -> None:
    """A function that no candidate names is reported, and the event it serves is not covered."""
    names = set(points.POINTS["rename"])
    plan = Chooser("kprobe", ALL, Kernel(lacks=names)).plan(needs.EVENTS)
    assert level(needs.EVENTS[EventType.RENAME], frozenset(plan.chosen)) == "none"
    with pytest.raises(MinimumNotMetError, match=r"rename\.enter, rename\.exit$") as caught:
        check_minimum(plan, "kprobe")
    assert "this kernel has no usable filename_renameat2 or do_renameat2" in caught.value.detail


def test_an_argument_that_moved_is_named() -> None:
    """Its program is not chosen, because it would read another argument; the error names both."""
    kernel = Kernel(
        moved={"security_path_rename": ("flags", "old_dir", "old_dentry", "new_dir", "new_dentry")}
    )
    plan = Chooser("kprobe", ALL, kernel).plan(needs.EVENTS)
    with pytest.raises(MinimumNotMetError, match=r"rename\.resolve") as caught:
        check_minimum(plan, "kprobe")
    assert caught.value.exit_code == 4
    words = "drifted: its argument old_dir is number 2 here, not 1"
    assert f"rename.resolve by kprobe at security_path_rename: {words}" in caught.value.detail


def test_an_event_without_functions_is_seen_by_system_calls() -> None:
    """The event is degraded, and the failed attempts are reported; other events keep their hooks."""
    names = set(points.POINTS["rename"])
    plan = Chooser("auto", ALL | {"tracepoint": "fires"}, Kernel(lacks=names)).plan(needs.EVENTS)
    present = frozenset(plan.chosen)
    check_minimum(plan, "auto")
    assert level(needs.EVENTS[EventType.RENAME], present) == "degraded"
    assert [event for event in needs.EVENTS if needs.by_syscalls(event, present)] == [EventType.RENAME]
    assert {one.hook for one in plan.attempts if "filename_renameat2" in one.reason} >= {"rename.enter"}


def test_an_entry_is_not_chosen_without_its_return() -> None:
    """Also for hooks beside the minimum: an entry alone would leave records behind."""
    chooser = Chooser("kprobe", ALL, Kernel())
    for target in points.POINTS["open_root"]:
        chooser.refuse(Attempt("open_root.exit", "kretprobe", "attach-fail", "no", target))
    assert "open_root.enter" not in chooser.plan(needs.EVENTS).chosen


def test_the_tracepoint_set_sees_all_events_incompletely() -> None:
    """Two programs serve all events on files, and none completely."""
    states = dict.fromkeys(("tracepoint", "raw_tp"), "fires")
    plan = Chooser("tracepoint", states, Kernel()).plan(needs.EVENTS)
    assert {one.program for one in plan.chosen.values() if one.kind == "tracepoint"} == {
        "tracepoint__syscall__enter",
        "tracepoint__syscall__exit",
    }
    present = frozenset(plan.chosen)
    degraded = {event for event, hooks in needs.EVENTS.items() if level(hooks, present) == "degraded"}
    assert degraded == set(needs.EVENTS) - {EventType.FORK, EventType.EXIT}


def test_an_event_without_a_wanted_hook_is_degraded() -> None:
    lacks = set(points.GIVEN["parent"])
    plan = Chooser("auto", ALL, Kernel(lacks=lacks)).plan(needs.EVENTS)
    check_minimum(plan, "auto")
    present = frozenset(plan.chosen)
    assert level(needs.EVENTS[EventType.UNLINK], present) == "degraded"
    assert level(needs.EVENTS[EventType.OPEN], present) == "full"
