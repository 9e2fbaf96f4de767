"""A kernel that renamed the function and the LSM hook of an open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from agent.events.model import EventType
from agent.hooks import needs, points
from agent.kernel import capabilities
from agent.kernel.capabilities import Probed
from agent.kernel.choose import Chooser
from agent.kernel.libbpf import Program
from tests.agent.kernel.test_choose import ALL, Kernel

OLD = points.RESOLVES["open"]
NEW = points.Resolve(("file_open2", *OLD.lsm), ("security_file_open2", *OLD.functions))


@pytest.fixture(autouse=True)
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the new name to the agent's names, and change nothing else."""
    monkeypatch.setitem(points.RESOLVES, "open", NEW)


def typed(monkeypatch: pytest.MonkeyPatch, functions: dict[str, int]) -> None:
    """Replace the kernel's BTF by one with these functions."""
    btf = SimpleNamespace(find=lambda name, _kind: functions.get(name), close=lambda: None)
    monkeypatch.setattr(capabilities, "Btf", SimpleNamespace(parse=lambda _path: btf))
    monkeypatch.setattr(capabilities, "_typed", lambda: True)


def test_the_probe_finds_the_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capabilities are observed at the new names, where BTF has only these."""
    typed(monkeypatch, {"security_file_open2": 7, "bpf_lsm_file_open2": 8})
    assert capabilities.probed() == Probed("security_file_open2", 7, 8)


def test_the_probe_finds_the_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest name that exists is used, not the newest of all."""
    typed(monkeypatch, {"security_file_open": 5, "bpf_lsm_file_open": 6})
    assert capabilities.probed() == Probed("security_file_open", 5, 6)


def test_kprobes_of_the_probe_are_attached_by_name() -> None:
    """The section of the program has the name that most kernels have."""
    calls: list[tuple[str, bool]] = []
    program = SimpleNamespace(attach_kprobe=lambda name, at_return: calls.append((name, at_return)))
    for kind in ("kprobe", "kretprobe"):
        capabilities.attach(cast(Program, program), kind, "security_file_open2")
    assert calls == [("security_file_open2", False), ("security_file_open2", True)]


@pytest.mark.parametrize(
    ("hookset", "target"),
    [("lsm", "file_open2"), ("fentry", "security_file_open2"), ("kprobe", "security_file_open2")],
)
def test_every_hook_set_uses_the_new_name(hookset: str, target: str) -> None:
    """With no step besides the name in `points.RESOLVES`."""
    kernel = Kernel(lacks={*OLD.lsm, *OLD.functions})
    chosen = Chooser(hookset, ALL, kernel).plan({EventType.OPEN: needs.EVENTS[EventType.OPEN]}).chosen
    assert chosen["open.resolve"].target == target
