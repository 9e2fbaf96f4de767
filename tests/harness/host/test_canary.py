"""The canary ends if an accelerator works; the reason why it did not end is one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import canary
from harness.host.canary import NATIVE, BuildError

ARCH = canary.host_arch()

pytestmark = [
    pytest.mark.skipif(ARCH not in NATIVE, reason=f"no canary for {ARCH}"),
    pytest.mark.skipif(
        ARCH in NATIVE and not shutil.which(NATIVE[ARCH].emulator), reason="QEMU is not installed"
    ),
]


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    with canary.built(NATIVE[ARCH]) as path:
        yield path


def test_ends_without_kvm(program: Path) -> None:
    """The emulator runs the program to its end, and its work takes time."""
    found = canary.run(NATIVE[ARCH], program, "tcg", 60)
    assert found.failure == ""
    assert found.seconds


def test_deadline(program: Path) -> None:
    """A processor that executes nothing costs the deadline, which is then a lower bound of its time."""
    assert canary.run(NATIVE[ARCH], program, "tcg", 0.0).failure == "more than 0.0 s"


def test_qemu_that_aborts(program: Path) -> None:
    """QEMU's first message is the reason."""
    found = canary.run(NATIVE[ARCH], program, "tcg", 60, cpu="no-such-cpu")
    assert found.seconds is None
    assert "no-such-cpu" in found.failure


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has a remedy."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(BuildError) as raised, canary.built(NATIVE[ARCH]):
        pass
    assert raised.value.hint
