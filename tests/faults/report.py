"""A results file that was cut in the middle is no result."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TEXT = '{"schema": 1, "run": {"id": "x", "exit_code": 0, "complete": true}, "cells": [{"verdict": "PASS"'


def cut_results() -> bool:
    """Whether `harness report` refuses it; prints how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "results.json").write_text(TEXT)
        argv = [sys.executable, "-m", "harness.cli", "report", folder]
        done = subprocess.run(argv, capture_output=True, check=False)
    right = done.returncode not in (0, 1)
    sys.stdout.write(
        f"{'results file cut in the middle':<36} exit {done.returncode}  {'ok' if right else 'WRONG'}\n"
    )
    return right
