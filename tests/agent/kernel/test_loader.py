"""The programs and maps that a load chooses, with the real object and a table as kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import KernelError, MinimumNotMetError
from agent.hooks import needs, points, sets
from agent.kernel import loader, map_writer, tracefs
from agent.kernel.attach import RefusedError
from agent.kernel.bcc import backend
from agent.kernel.choose import Attempt, Chooser, Plan
from agent.kernel.libbpf import Map, Object, Program
from agent.kernel.loader import Loader, Variant
from tests.agent.kernel.conftest import BUILT
from tests.agent.kernel.test_choose import ALL, Kernel

STATES = ALL | dict.fromkeys(("kprobe_multi", "tracepoint"), "fires")
OURS = set(sets.SETS) - {sets.BCC}  # that one's programs are in another object


class Offered:
    """Records which programs and maps of an object the loader chooses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: dict[str, bool] = {}
        self.skipped: set[str] = set()
        monkeypatch.setattr(
            Program, "choose", lambda one, wanted: self.programs.__setitem__(one.name, wanted)
        )
        monkeypatch.setattr(Program, "target", lambda _one, _function: None)
        monkeypatch.setattr(Map, "skip", lambda one: self.skipped.add(one.name))

    @property
    def wanted(self) -> set[str]:
        return {name for name, wanted in self.programs.items() if wanted}


class Functions(Kernel):
    """A kernel without known parameters."""

    def parameters(self, _name: str) -> tuple[str, ...]:
        return ()

    def number(self, _kind: str, _target: str) -> int:
        return 1

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Offered:
    return Offered(monkeypatch)


def prepare(hookset: str) -> Plan:
    """Choose and prepare as a load does, up to the verifier."""
    plan = Chooser(hookset, STATES, Kernel()).plan(needs.EVENTS)
    opened = Object(str(BUILT))
    Loader(STATES, Variant(hookset), BUILT)._prepare(opened, plan, Functions())  # type: ignore[arg-type]
    opened.close()
    return plan


@pytest.mark.parametrize("hookset", sorted(OURS | {sets.AUTO}))
def test_only_the_programs_of_the_set_are_chosen(hookset: str, offered: Offered) -> None:
    """The loader chooses or leaves out every program, so that another set's cannot fail the load."""
    plan = prepare(hookset)
    handed = {name for name in offered.wanted if name.startswith("tail")}
    assert handed == {
        "kprobe": {"tail__kretprobe", "tail__kprobe"},
        "kprobe-multi": {"tail_multi__kretprobe", "tail_multi__kprobe"},
    }.get(hookset, set())
    offered.programs.update(dict.fromkeys(handed, False))
    assert offered.wanted == {one.program for one in plan.chosen.values()}
    hooksets = sets.LADDER if hookset == sets.AUTO else (hookset,)
    kinds = {kind for name in hooksets for kind in sets.SETS[name].values()}
    assert {name.partition("__")[0] for name in offered.wanted} <= kinds
    assert len(offered.programs) > 2 * len(offered.wanted)


def test_maps_of_programs_that_are_not_chosen_are_not_created(offered: Offered) -> None:
    """They would take memory without use."""
    prepare("kprobe")
    assert {"syscalls", "calls", "perf", "probes"} <= offered.skipped
    assert "tails" not in offered.skipped
    assert "multi_tails" in offered.skipped
    offered.skipped.clear()
    prepare("tracepoint")
    assert not {"syscalls", "calls"} & offered.skipped


class Refusing(Loader):
    """A loader whose verifier refuses the programs of some kinds, each with its own message."""

    refused: tuple[str, ...] = ()

    def _load(self, plan: Plan, *_: object) -> None:  # type: ignore[override]
        for one in plan.chosen.values():
            if one.kind in self.refused:
                attempt = Attempt(one.hook, one.kind, "load-fail", f"{one.kind} is not for here", one.target)
                raise RefusedError(attempt)


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of a table instead of those of this host's kernel, and tracefs."""
    monkeypatch.setattr(tracefs, "writable", lambda: Path("tracing"))
    monkeypatch.setattr(loader, "Functions", lambda typed: Functions())


@pytest.mark.parametrize(("works", "state"), [(True, "fires"), (False, "load-fail")])
def test_without_type_information_the_writing_of_tables_is_observed(
    monkeypatch: pytest.MonkeyPatch, works: bool, state: str
) -> None:
    """Else the agent writes them by system calls, beside which a kernel with preemption skips kprobes."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(backend, "object_path", lambda: BUILT)
    monkeypatch.setattr(map_writer, "works", lambda path: works and path == BUILT)
    monkeypatch.setattr(Loader, "load", lambda one: given.append(one._states))
    loader._compiled(Variant(sets.AUTO, "none"))
    assert given[0]["syscall"] == state


@pytest.mark.usefixtures("untyped")
class TestBelowTheMinimum:
    """An agent without its minimum does not start."""

    def test_without_tracefs_kprobes_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel would lose their returns while a few calls sleep."""
        monkeypatch.setattr(tracefs, "writable", lambda: None)
        with pytest.raises(MinimumNotMetError) as caught:
            Loader(STATES, Variant("kprobe"), Path("none")).load()
        assert "open.exit by kretprobe: lossy" in caught.value.detail

    def test_a_refused_attachment_leaves_no_less(self) -> None:
        """Without tracefs nothing can be attached to system calls: the agent does not start blind."""
        refused = Attempt(
            "syscall.enter", "tracepoint", "attach-fail", "no such event", points.SYSCALLS["enter"]
        )
        chooser = Chooser("tracepoint", STATES, Kernel())
        with pytest.raises(MinimumNotMetError, match="does not serve"):
            Loader(STATES, Variant("tracepoint"), Path("none"))._replan(chooser, refused)

    def test_every_attempt_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For each hook: each set of the ladder, with the verifier's message."""
        kinds = ("lsm", "fentry", "fexit", "kprobe", "kretprobe", "tracepoint")
        monkeypatch.setattr(Refusing, "refused", kinds)
        with pytest.raises(MinimumNotMetError) as caught:
            Refusing(STATES, Variant("auto"), Path("none")).load()
        assert caught.value.exit_code not in (0, 1, 2, KernelError.exit_code)
        lines = caught.value.detail.splitlines()
        tried = [line for line in lines if line.startswith("open.enter by ")]
        wanted = {
            f"open.enter by {kind} at {target}: load-fail: {kind} is not for here"
            for kind in ("fentry", "kprobe")
            for target in points.POINTS["open"]
        }
        assert set(tried) == wanted
        assert len(tried) == len(wanted)
        assert "open.enter" in caught.value.message
        calls = "syscall.enter by tracepoint at raw_syscalls/sys_enter"
        assert f"{calls}: load-fail: tracepoint is not for here" in lines

    def test_a_refused_kind_excludes_only_its_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The refused programs are left out, and the others are loaded."""
        monkeypatch.setattr(Refusing, "refused", ("lsm",))
        Refusing(STATES, Variant("auto"), Path("none")).load()
        with pytest.raises(MinimumNotMetError, match="hook set lsm"):
            Refusing(STATES, Variant("lsm"), Path("none")).load()


def test_a_refused_tail_is_reported_for_the_programs_that_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses it serves no kretprobe, and the next set is tried."""
    plan = Chooser("kprobe", STATES, Kernel()).plan(needs.EVENTS)
    opened = Object(str(BUILT))

    def refuse(_object: Object) -> None:
        raise KernelError("load the object", detail="libbpf: prog 'tail__kretprobe': BPF program load failed")

    monkeypatch.setattr(Object, "load", refuse)
    with pytest.raises(RefusedError) as refused:
        loader._verify(opened, plan)
    assert refused.value.attempt.kind == "kretprobe"
    opened.close()
