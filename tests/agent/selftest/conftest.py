"""The generator, compiled once for each session from the sources in the package."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import agent.selftest
from agent.selftest.workload import Workload

SOURCES = Path(agent.selftest.__file__).parent / "generator"


@pytest.fixture(scope="session")
def build_generator(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def build(*flags: str) -> Path:
        binary = tmp_path_factory.mktemp("bin") / "fim-gen"
        options = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", *flags, "-o", str(binary)]
        subprocess.run(["cc", *options, *map(str, sorted(SOURCES.glob("*.c")))], check=True)
        return binary

    return build


@pytest.fixture(scope="session")
def generator(build_generator: Callable[..., Path]) -> Path:
    return build_generator()


@pytest.fixture
def workload(generator: Path) -> Iterator[Workload]:
    running = Workload(generator)
    yield running
    running.close()
