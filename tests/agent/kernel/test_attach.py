"""Attaching, with programs that are told what to refuse."""

from __future__ import annotations

import pytest

from agent.errors import KernelError
from agent.hooks import needs, sets
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
        made = {sets.program(hook, sets.kind_of(hook, "lsm")) for hook in needs.HOOKS}
        self.programs = {name: Program(self.log, name, name in refuse) for name in made}


def attach(opened: Opened, hookset: str = "lsm") -> Attached:
    chooser = Chooser(hookset, ALL, Kernel(lacks={"filename_parentat"}))
    attached = Attached(opened, chooser.plan(needs.EVENTS))  # type: ignore[arg-type]
    attached.attach(lambda refused: chooser.replan(refused, needs.EVENTS))
    return attached


def test_no_entry_before_its_return() -> None:
    opened = Opened()
    attach(opened)
    phases = [name.rsplit("__", 1)[1] for name in opened.log]
    last = max(index for index, phase in enumerate(phases) if phase != "enter")
    assert phases.index("enter") > last


def test_what_nothing_else_needs_is_given_up() -> None:
    opened = Opened("fentry__parent__given")
    left = attach(opened).plan
    assert "parent.given" not in left.chosen
    assert "unlink.enter" in left.chosen
    assert left.attempts[-1].reason == "attach: no\nlibbpf: says why"


def test_an_event_without_its_minimum_is_given_up_whole() -> None:
    """What was attached of it already is detached."""
    opened = Opened("fentry__chmod__enter")
    left = attach(opened).plan
    assert "chmod.exit" not in left.chosen
    assert "-fexit__chmod__exit" in opened.log


def test_where_another_set_could_serve_it_is_chosen_again() -> None:
    opened = Opened("fentry__chmod__enter")
    with pytest.raises(RefusedError, match="attach: no"):
        attach(opened, "auto")


def test_closing_detaches_everything() -> None:
    opened = Opened()
    attached = attach(opened)
    there = [name for name in opened.log if not name.startswith("-")]
    attached.close()
    assert sorted(opened.log[len(there) :]) == sorted(f"-{name}" for name in there)
