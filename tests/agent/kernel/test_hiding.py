"""A file that is hidden from one process is visible to all others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HIDE = """
import sys
from agent.errors import KernelError
from agent.kernel.hiding import hide
hide(sys.argv[1] + ".none")
try:
    hide(sys.argv[1])
except KernelError as error:
    sys.exit(f"refused: {error}")
print(repr(open(sys.argv[1]).read()))
"""


def test_hidden_here_and_nowhere_else(tmp_path: Path) -> None:
    """A file that does not exist is no error."""
    secret = tmp_path / "vmlinux"
    secret.write_text("types")
    done = subprocess.run(
        [sys.executable, "-c", HIDE, str(secret)], capture_output=True, text=True, check=False
    )
    if "refused: cannot create a mount namespace" in done.stderr:
        pytest.skip(f"this host gives no process a mount namespace: {done.stderr.strip()}")
    assert done.stdout.strip() == "''"
    assert secret.read_text() == "types"
