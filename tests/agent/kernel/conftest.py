"""Fixtures: an object of BPF programs, opened and not loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.errors import KernelError
from agent.kernel.libbpf import Object
from tests import ROOT

BUILT = ROOT / "build" / "fim.bpf.o"


@pytest.fixture(scope="session")
def opened() -> Iterator[Object]:
    """The compiled object, opened and not loaded: that takes no privilege."""
    assert BUILT.is_file(), f"{BUILT} is missing: run `make build`"
    opened = Object(str(BUILT))
    yield opened
    opened.close()


def load_programs(opened: Object) -> None:
    """Load programs into this host's kernel; skip the test if the kernel refuses that."""
    try:
        opened.load()
    except KernelError as error:
        pytest.skip(f"this host does not load programs: {error}")
