"""While libvirt probes QEMU its processes are reaped at once, and the user sees a message."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from harness.host.progress import Event, silent
from harness.vm import probing
from harness.vm.embed import EmbedRoot

PATIENCE_S = 60


@pytest.fixture
def root(tmp_path: Path) -> EmbedRoot:
    """The root of an embedded libvirt, not prepared yet."""
    return EmbedRoot(tmp_path / "root", tmp_path / "cache" / "libvirt")


def note(root: EmbedRoot, name: str, text: str) -> Path:
    """Write a process id as libvirt has QEMU write it."""
    path = root.path / "lib" / "qemu" / f"qmp-{name}" / "qmp.pid"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_process_that_has_ended_is_reaped(root: EmbedRoot) -> None:
    """Its id is free again while libvirt still waits; a file without an id is ignored."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert process.stdin
    note(root, "a", "")
    note(root, "b", f"{process.pid}\n")
    with probing.reaped(root):
        process.stdin.close()
        while Path(f"/proc/{process.pid}").exists():
            os.sched_yield()
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, 0)
    process.returncode = 0


def test_capabilities_are_kept(root: EmbedRoot, tmp_path: Path) -> None:
    """Also if libvirt was only opened and no machine started; the next process uses them."""
    with probing.probing(root, silent):
        (root.path / "cache" / "qemu" / "capabilities" / "a.xml").write_text("<qemuCaps/>")
    other = EmbedRoot(tmp_path / "other", root.capabilities)
    with probing.probing(other, silent):
        assert (other.path / "cache" / "qemu" / "capabilities" / "a.xml").read_text() == "<qemuCaps/>"


def test_a_long_probe_is_announced(root: EmbedRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line; a short one is not."""
    events: list[Event] = []
    with probing.probing(root, events.append):
        pass
    assert events == []
    monkeypatch.setattr(probing, "_SILENT_S", 0.0)
    announced = threading.Event()

    def say(event: Event) -> None:
        events.append(event)
        announced.set()

    with probing.probing(root, say):
        assert announced.wait(PATIENCE_S)
    assert len(events) == 1
