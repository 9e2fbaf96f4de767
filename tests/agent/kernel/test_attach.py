"""Attaching programs, with fake programs that refuse on request."""

from __future__ import annotations

import pytest

from agent.errors import KernelError
from agent.hooks import needs, sets
from agent.kernel import steps
from agent.kernel.attach import Attached, RefusedError
from agent.kernel.choose import Chooser
from tests.agent.kernel.test_choose import ALL, Kernel


class Link:
    def __init__(self, log: list[str], name: str) -> None:
        self._log = log
        self._name = name

    def close(self) -> None:
        self._log.append(f"-{self._name}")


class Program:
    def __init__(self, log: list[str], name: str, refuse: bool) -> None:
        self._log = log
        self._name = name
        self._refuse = refuse

    def attach(self) -> Link:
        if self._refuse:
            raise KernelError("attach: no", detail="libbpf: says why")
        self._log.append(self._name)
        return Link(self._log, self._name)


class Opened:
    def __init__(self, *refuse: str) -> None:
        self.log: list[str] = []
        names = {sets.program(hook, sets.kind_of(hook, "lsm")) for hook in needs.HOOKS}
        self.programs = {name: Program(self.log, name, name in refuse) for name in names}


def attach(opened: Opened, hookset: str = "lsm") -> Attached:
    chooser = Chooser(hookset, ALL, Kernel(lacks={"filename_parentat"}))
    attached = Attached(opened, chooser.plan(needs.EVENTS))  # type: ignore[arg-type]
    attached.attach(needs.HOOKS, lambda refused: chooser.replan(refused, needs.EVENTS))
    return attached


def test_no_entry_before_its_return() -> None:
    opened = Opened()
    attach(opened)
    phases = [name.rsplit("__", 1)[1] for name in opened.log]
    last = max(index for index, phase in enumerate(phases) if phase != "enter")
    assert phases.index("enter") > last


def test_a_program_that_nothing_else_needs_is_left_out() -> None:
    opened = Opened("fentry__parent__given")
    plan = attach(opened).plan
    assert "parent.given" not in plan.chosen
    assert "unlink.enter" in plan.chosen
    assert plan.attempts[-1].reason == "attach: no\nlibbpf: says why"


def test_an_event_without_its_minimum_is_left_out_completely() -> None:
    """Its programs that were already attached are detached."""
    opened = Opened("fentry__chmod__enter")
    plan = attach(opened).plan
    assert "chmod.exit" not in plan.chosen
    assert "-fexit__chmod__exit" in opened.log


def test_a_refusal_that_another_set_could_serve_is_raised() -> None:
    opened = Opened("fentry__chmod__enter")
    with pytest.raises(RefusedError, match=r"refused chmod\.enter"):
        attach(opened, "auto")


def test_closing_detaches_everything() -> None:
    """Each program is a step: some kernels take seconds for one."""
    opened, taken = Opened(), list[None]()
    attached = attach(opened)
    attached_names = [name for name in opened.log if not name.startswith("-")]
    with steps.observed(lambda: taken.append(None)):
        attached.close()
    assert len(taken) == len(attached_names)
    assert sorted(opened.log[len(attached_names) :]) == sorted(f"-{name}" for name in attached_names)


def test_entries_are_detached_before_their_returns() -> None:
    """An operation that begins meanwhile would have no return program; other programs stay."""
    opened = Opened()
    attached = attach(opened)
    opened.log.clear()
    hooks = ["chmod.exit", "chmod.enter"]
    assert [attached.detach_one(hooks) for _ in range(3)] == [True, True, False]
    assert opened.log == ["-fentry__chmod__enter", "-fexit__chmod__exit"]
    assert not {"chmod.enter", "chmod.exit"} & attached.hooks
    assert {"open.enter", "open.exit"} <= attached.hooks


def test_an_attached_program_is_not_attached_again() -> None:
    opened = Opened()
    chooser = Chooser("lsm", ALL, Kernel())
    attached = Attached(opened, chooser.plan(needs.EVENTS))  # type: ignore[arg-type]
    for hooks in (["open.exit"], ["open.exit", "open.enter"]):
        attached.attach(hooks, lambda refused: chooser.replan(refused, needs.EVENTS))
    assert opened.log == ["fexit__open__exit", "fentry__open__enter"]


def test_a_program_that_cannot_be_attached_again_stays() -> None:
    """Before 5.13 a program on a trampoline can be attached only once."""
    opened = Opened()
    chooser = Chooser("lsm", ALL, Kernel())
    attached = Attached(opened, chooser.plan(needs.EVENTS), reattaches=False)  # type: ignore[arg-type]
    attached.attach(["chmod.enter", "exec.once"], lambda refused: chooser.replan(refused, needs.EVENTS))
    assert [attached.detach_one(["chmod.enter", "exec.once"]) for _ in range(2)] == [True, False]
    assert attached.hooks == {"chmod.enter"}
