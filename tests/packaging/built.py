"""Builds the Debian package once for all tests that look at it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

spec = importlib.util.spec_from_file_location("deb", ROOT / "packaging/deb.py")
assert spec is not None
assert spec.loader is not None
deb = importlib.util.module_from_spec(spec)
spec.loader.exec_module(deb)

MAINTAINER = {"DEBFULLNAME": "Builder", "DEBEMAIL": "builder@fim-harness.invalid"}
TOOLS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def run(*argv: str | Path) -> str:
    return subprocess.run(
        argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def build(folder: Path) -> Path:
    """Build the package as a developer with these settings does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**MAINTAINER, "PATH": TOOLS}.items():
            patch.setenv(name, value)
        made: Path = deb.build(folder)
        return made
