"""`make setup` installs again if, and only if, its inputs have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT


def _set_up(tree: Path) -> list[str]:
    """Run `make setup`; return the arguments of each call of pip so far."""
    subprocess.run(
        ["make", "-s", "-o", "build/.packages", "setup"], cwd=tree, check=True, capture_output=True
    )
    return (tree / "calls").read_text().splitlines()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose programs `python` and `pip` do nothing; pip records its arguments."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in (("python", ":"), ("pip", 'echo "$*" >>calls')):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    return tmp_path


def test_a_new_dependency_is_installed_whatever_the_file_times(tree: Path) -> None:
    """A checkout or a restored cache can give requirements.lock any time."""
    first = _set_up(tree)
    assert first
    assert _set_up(tree) == first
    with (tree / "requirements.lock").open("a") as lock:
        lock.write("another==1.0\n")
    os.utime(tree / "requirements.lock", (0, 0))
    assert _set_up(tree) == 2 * first
    assert _set_up(tree) == 2 * first


def test_only_locked_packages_are_installed(tree: Path) -> None:
    """By their hashes; the project itself is installed without its dependencies."""
    installs = [words for words in _set_up(tree) if words.startswith("install ")]
    assert any("--require-hashes -r requirements.lock" in words for words in installs)
    assert [words for words in installs if "--require-hashes" not in words and "--no-deps" not in words] == []
