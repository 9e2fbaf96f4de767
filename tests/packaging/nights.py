"""Nights for the tests of packaging/nightly.py, and the program as a module."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from tests import ROOT

PROGRAM = ROOT / "packaging/nightly.py"
JOBS = ("plan", "shard (1/2)", "shard (2/2)", "report", "suite (mutants)", "suite (faults)")
FINE = dict.fromkeys(JOBS, "success")


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nightly", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["nightly"] = module
    spec.loader.exec_module(module)
    return module


nightly = _loaded()


def cell(name: str, verdict: str, **tests: str) -> dict[str, Any]:
    rows = [{"name": f"truth.{test}", "verdict": word, "reason": "because"} for test, word in tests.items()]
    return {"id": name, "verdict": verdict, "reason": "of the cell", "tests": rows}


def results(*cells: dict[str, Any], code: int = 0) -> dict[str, Any]:
    return {"run": {"exit_code": code, "notes": []}, "cells": list(cells)}


GOOD = results(cell("6.1-auto", "PASS", open="PASS"))
