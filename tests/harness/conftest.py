"""Fixtures: a matrix, its plan, a cell of it, and an output folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan.cells import Cell
from harness.plan.matrix import Matrix
from harness.plan.plan import Plan, Selectors, make


def matrix_of(*kernels: str | dict[str, str], **rest: object) -> Matrix:
    return Matrix.model_validate({"kernels": list(kernels), **rest})


@pytest.fixture
def plan() -> Plan:
    return make(matrix_of("5.10", "6.1"), Selectors(test=("truth.open", "truth.unlink", "truth.rename")))


@pytest.fixture
def cell(plan: Plan) -> Cell:
    return plan.cells[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cell"
