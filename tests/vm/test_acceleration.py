"""Acceleration is what the canary showed, remembered, and always said with its reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.host import acceleration
from harness.host.acceleration import NATIVE, Native

ARCH = acceleration.host_arch()

pytestmark = [
    pytest.mark.skipif(ARCH not in NATIVE, reason=f"no canary for {ARCH}"),
    pytest.mark.skipif(
        ARCH in NATIVE and not shutil.which(NATIVE[ARCH].emulator), reason="QEMU is not installed"
    ),
]


@pytest.fixture
def kvm(tmp_path: Path) -> Path:
    """A device that can be opened, which says nothing."""
    path = tmp_path / "kvm"
    path.touch()
    return path


def test_canary_lives_without_kvm() -> None:
    """The program itself is right: an emulator runs it."""
    assert acceleration.run_canary(NATIVE[ARCH], 60, accelerator="tcg", cpu="max") == ""


def test_canary_that_never_speaks() -> None:
    """A processor that stands still costs the deadline and no more."""
    assert "silent" in acceleration.run_canary(NATIVE[ARCH], 0.0, accelerator="tcg", cpu="max")


def test_qemu_that_aborts() -> None:
    """What QEMU said first is the reason."""
    assert "QEMU ended" in acceleration.run_canary(NATIVE[ARCH], 60, accelerator="tcg", cpu="no-such-cpu")


def test_behaviour_decides(tmp_path: Path, kvm: Path) -> None:
    """A device that opens is no acceleration; a canary that lives is."""
    dead = acceleration.find(ARCH, tmp_path / "a", kvm=kvm, canary=lambda _native, _s: "spins")
    assert (dead.kind, "spins" in str(dead), "TCG" in str(dead)) == ("tcg", True, True)
    assert acceleration.find(ARCH, tmp_path / "b", kvm=kvm, canary=lambda _native, _s: "").kind == "kvm"


def test_remembered(tmp_path: Path, kvm: Path) -> None:
    """The canary runs once for a boot, a QEMU and a processor; `fresh` and a damaged memory ask again."""
    runs: list[float] = []

    def canary(_native: Native, deadline_s: float) -> str:
        runs.append(deadline_s)
        return "spins"

    def find(*, fresh: bool = False) -> acceleration.Accelerator:
        return acceleration.find(ARCH, tmp_path, kvm=kvm, canary=canary, fresh=fresh)

    assert find() == find()
    assert len(runs) == 1
    find(fresh=True)
    assert len(runs) == 2
    next((tmp_path / "acceleration").iterdir()).write_text("{")
    find()
    assert len(runs) == 3


def test_no_device(tmp_path: Path) -> None:
    """Is said, and costs nothing."""
    found = acceleration.find(ARCH, tmp_path, kvm=tmp_path / "none")
    assert "there is no" in found.why


def test_other_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Is never accelerated, and says so."""
    monkeypatch.setattr(acceleration, "host_arch", lambda: "riscv64")
    assert "riscv64" in acceleration.find(ARCH, tmp_path).why


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is an error of the set-up with a hint."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="qemu-system") as raised:
        acceleration.find(ARCH)
    assert raised.value.hint
