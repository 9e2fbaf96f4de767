"""What the scenarios of entry points do where they cannot be played."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from agent.hooks import coverage
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.scenarios import doors


@pytest.mark.parametrize(
    "scenario", [doors.doors_compat, doors.doors_compat_chattr, doors.doors_mount_compat]
)
def test_calls_that_the_generator_cannot_make_are_not_said_to_be_absent(
    scenario: Callable[[Bench], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm64 kernel may have 32-bit calls; the scenario is skipped because nothing makes them."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    with pytest.raises(CannotTellError, match="not tested on aarch64: the generator"):
        scenario(cast("Bench", None))


STEPS = (
    ("ring_openat", "open", "a", ""),
    ("ring_linkat", "link", "b", "c"),
    ("ring_renameat", "rename", "d", "e"),
)


class _Bench:
    """An agent that sees some event types only by the arguments of system calls."""

    pid = 7

    def __init__(self, unseen: set[str]) -> None:
        limits = dict.fromkeys(unseen, coverage.ARGUMENTS_ONLY)
        self.subject = SimpleNamespace(facts=lambda: {"limits": limits})
        self.evidence = SimpleNamespace(record=lambda *_: None)
        self._unseen = unseen
        self.ledger: dict[str, bool] = {}

    def path(self, name: str) -> str:
        return name

    def unwatched(self, script: str) -> SimpleNamespace:
        ring = SimpleNamespace(ret=doors.NATIVE_WORKERS, errors={}, call="ring_features")
        return SimpleNamespace(reports=(ring,) if "ring_features" in script else ())

    def rules(self, **_rules: str) -> None:
        pass

    def play(self, script: str, *, unseen: bool = False) -> SimpleNamespace:
        call = script.split()[0]
        kind, *names = {step[0].split()[0]: step[1:] for step in STEPS}[call]
        self.ledger[call] = not unseen
        first, second = (SimpleNamespace(name=name.encode()) if name else None for name in names)
        event = SimpleNamespace(type=SimpleNamespace(label=kind), file=first, file2=second, pid=self.pid)
        return SimpleNamespace(judged=[] if kind in self._unseen else [SimpleNamespace(event=event)])

    def equal(self, what: str, expected: object, actual: object) -> None:
        assert expected == actual, what


def test_io_uring_where_the_agent_sees_some_events_by_system_calls_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the others must have events by io_uring, and only they are expected in the ledger."""
    bench = _Bench({"link", "rename"})
    monkeypatch.setattr(doors, "_ring_steps", lambda _bench, _name: STEPS)
    doors.doors_io_uring(cast("Bench", bench))
    assert [call for call, expected in bench.ledger.items() if not expected] == [
        "ring_linkat",
        "ring_renameat",
    ]
    bench = _Bench({step[1] for step in STEPS})
    with pytest.raises(CannotTellError, match="io_uring makes no system call"):
        doors.doors_io_uring(cast("Bench", bench))
