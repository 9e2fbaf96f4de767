"""The generator, built once a session from the sources that ship."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent.selftest
from agent.selftest.workload import Workload

SOURCES = Path(agent.selftest.__file__).parent / "generator"


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("bin") / "fim-gen"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static"]
    subprocess.run(["cc", *flags, "-o", binary, *sorted(SOURCES.glob("*.c"))], check=True)
    return binary


@pytest.fixture
def workload(generator: Path) -> Iterator[Workload]:
    running = Workload(generator)
    yield running
    running.close()
