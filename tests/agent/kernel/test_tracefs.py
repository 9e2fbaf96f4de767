"""Kprobes by tracefs, in a folder that replaces it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.kernel import tracefs
from agent.kernel.tracefs import MAX_ACTIVE_AT, Kprobes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kprobe_events").touch()
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path / "nowhere", tmp_path))
    return tmp_path


def commands(root: Path) -> list[str]:
    return (root / "kprobe_events").read_text().splitlines()


def test_return_probes_have_many_instances(root: Path) -> None:
    kprobes = Kprobes.available()
    assert kprobes
    kprobes.define("kprobe__open__enter", "do_filp_open", at_return=False)
    kprobes.define("kretprobe__open__exit", "do_filp_open", at_return=True)
    kprobes.close()
    group = kprobes.group
    assert commands(root) == [
        f"p:{group}/kprobe__open__enter do_filp_open",
        f"r{MAX_ACTIVE_AT['do_filp_open']}:{group}/kretprobe__open__exit do_filp_open",
        f"-:{group}/kprobe__open__enter",
        f"-:{group}/kretprobe__open__exit",
    ]


def test_probes_of_dead_agents_are_removed(root: Path) -> None:
    """Those of running agents, and of other programs, stay."""
    gone, alive = 2**22 + 1, os.getpid()
    lines = (f"p:fim_{gone}_0/a f", f"r512:fim_{alive}_7/b f", "p:mine/c f", "")
    (root / "kprobe_events").write_text("\n".join(lines))
    Kprobes.available()
    assert commands(root)[3:] == [f"-:fim_{gone}_0/a"]


def test_misses(root: Path) -> None:
    kprobes = Kprobes(root)
    kprobes.define("a", "f", at_return=True)
    (root / "kprobe_profile").write_text("  a      12    3\n  other   4    9\n")
    assert kprobes.misses() == {"a": 3}
    (root / "kprobe_profile").unlink()
    assert kprobes.misses() == {"a": 3}, "lockdown was raised, and the file cannot be read"


def test_without_tracefs_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path,))
    assert Kprobes.available() is None
