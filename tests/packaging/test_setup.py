"""`make setup` installs again if, and only if, its inputs have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests import ROOT


def _set_up(tree: Path) -> int:
    """Run `make setup`; return how many times it called pip so far."""
    subprocess.run(
        ["make", "-s", "-o", "build/.packages", "setup"], cwd=tree, check=True, capture_output=True
    )
    return len((tree / "calls").read_text().splitlines())


def test_a_new_dependency_is_installed_whatever_the_file_times(tmp_path: Path) -> None:
    """A checkout or a restored cache can give requirements.lock any time."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in (("python", ":"), ("pip", 'echo "$*" >>calls')):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    first = _set_up(tmp_path)
    assert first
    assert _set_up(tmp_path) == first
    with (tmp_path / "requirements.lock").open("a") as lock:
        lock.write("another==1.0\n")
    os.utime(tmp_path / "requirements.lock", (0, 0))
    assert _set_up(tmp_path) == 2 * first
    assert _set_up(tmp_path) == 2 * first
