"""A process of ours is bounded by the kernel, also when nobody watches it any more."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from harness.host.processes import HeldProcess


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
