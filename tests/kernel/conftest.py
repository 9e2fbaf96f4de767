from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.kernel.libbpf import Object

BUILT = Path(__file__).resolve().parent.parent.parent / "build" / "fim.bpf.o"


@pytest.fixture(scope="session")
def opened() -> Iterator[Object]:
    """The compiled object, opened and not loaded: that takes no privilege."""
    assert BUILT.is_file(), f"{BUILT} is missing: run `make build`"
    opened = Object(str(BUILT))
    yield opened
    opened.close()
