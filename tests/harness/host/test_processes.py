"""The kernel limits and ends child processes, also when the harness no longer watches them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from harness.host.processes import HeldProcess, kill_children


def test_a_process_that_writes_beyond_its_limit_is_ended(tmp_path: Path) -> None:
    """The file keeps the bytes within the limit."""
    script = 'read _; exec yes >"$1"'
    argv = ["sh", "-c", script, "sh", str(tmp_path / "file")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        held = HeldProcess(process.pid)
        held.limit_files(1 << 16)
        process.communicate(b"\n", timeout=60)
        held.release()
    assert process.returncode == -signal.SIGXFSZ
    assert (tmp_path / "file").stat().st_size == 1 << 16


def test_killed_children_have_ended() -> None:
    """When the call returns each child is dead, also one that ignores other signals."""
    argv = ["sh", "-c", "trap '' INT TERM; echo; read end"]
    children = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for child in children:
        assert child.stdout
        child.stdout.readline()
    children[0].kill()
    children[0].wait()
    kill_children([child.pid for child in children], 30)
    assert [child.poll() for child in children] == [-signal.SIGKILL] * 3
    for child in children:
        child.communicate()
