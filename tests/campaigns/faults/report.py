"""Checks that a truncated results file is refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns.faults.table import Row

NAME = "results file cut in the middle"
TEXT = '{"schema": 1, "run": {"id": "x", "exit_code": 0, "complete": true}, "cells": [{"verdict": "PASS"'


def cut_results() -> tuple[Row, bool]:
    """Run `harness report` on a truncated file; return its error, and whether it refuses the file."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "results.json").write_text(TEXT)
        argv = [sys.executable, "-m", "harness.cli", "report", folder]
        done = subprocess.run(argv, capture_output=True, check=False)
    refused = done.returncode not in (0, 1)
    row = Row(NAME, "report", "refused" if refused else "read", done.returncode, time.monotonic() - began)
    return row, refused
