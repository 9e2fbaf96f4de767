"""The faster accelerator is chosen and stored, and corrected if a guest shows that the choice was wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, InfrastructureError
from harness.host import acceleration, canary
from harness.host.acceleration import Accelerator
from harness.host.canary import NATIVE, BuildError, Native, Sample

ARCH = canary.host_arch()
FAST, SLOW, BROKEN = Sample(0.02), Sample(3.3), Sample(failure="aborted QEMU: no")
TCG = Sample(0.3)

pytestmark = [
    pytest.mark.skipif(ARCH not in NATIVE, reason=f"no canary for {ARCH}"),
    pytest.mark.skipif(
        ARCH in NATIVE and not shutil.which(NATIVE[ARCH].emulator), reason="QEMU is not installed"
    ),
]


@pytest.fixture
def kvm(tmp_path: Path) -> Path:
    """Make a device that can be opened, which proves nothing about KVM."""
    path = tmp_path / "kvm"
    path.touch()
    return path


def found(kvm: Path, sample: Sample, tcg: Sample = TCG, wanted: str = "auto", **more: Any) -> Accelerator:
    """Return what is chosen on a host where the canary takes these times."""
    return acceleration.find(
        ARCH, wanted, cache=kvm.parent, kvm=kvm, measure=lambda _native: (sample, tcg), **more
    )


@pytest.mark.parametrize(
    ("sample", "kind"), [(FAST, "kvm"), (SLOW, "tcg"), (TCG, "tcg"), (BROKEN, "tcg")], ids=str
)
def test_the_faster_one(kvm: Path, sample: Sample, kind: str) -> None:
    """KVM is chosen if the canary ends under it, and sooner than under TCG; both times are printed."""
    chosen = found(kvm, sample)
    assert chosen.kind == kind
    assert str(sample) in str(chosen)
    assert str(TCG) in str(chosen)


def test_kvm_alone(kvm: Path) -> None:
    """With a QEMU without TCG, KVM is chosen however long the canary takes."""
    assert found(kvm, SLOW, BROKEN).kind == "kvm"


@pytest.mark.parametrize("wanted", ["auto", "tcg", "kvm"])
def test_the_user_decides(kvm: Path, wanted: str) -> None:
    """A slow KVM that works is used if the user asks for it; TCG always is."""
    assert found(kvm, SLOW, wanted=wanted).kind == ("kvm" if wanted == "kvm" else "tcg")


def test_kvm_that_boots_nothing(kvm: Path) -> None:
    """If the user asks for such a KVM, the error has both times and the remedy."""
    with pytest.raises(InfrastructureError, match=r"0\.30 s.*aborted QEMU: no") as raised:
        found(kvm, BROKEN, wanted="kvm")
    assert "nested virtualisation" in raised.value.hint


def test_kvm_that_does_not_exist(tmp_path: Path) -> None:
    """It is an error if the user asks for KVM, and otherwise the reason for TCG."""
    missing = tmp_path / "kvm"
    assert "does not exist" in found(missing, FAST).why
    with pytest.raises(InfrastructureError, match="does not exist"):
        found(missing, FAST, wanted="kvm")


@pytest.mark.parametrize(("uid", "fix"), [(1000, "sudo usermod -aG "), (0, "docker run --device ")])
def test_kvm_that_this_user_may_not_open(
    monkeypatch: pytest.MonkeyPatch, kvm: Path, uid: int, fix: str
) -> None:
    """The remedy is a right and no other host; root lacks the right only in a container."""

    def refused(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr("os.open", refused)
        patched.setattr("os.geteuid", lambda: uid)
        chosen = acceleration.find(ARCH, kvm=kvm)
    assert (chosen.kind, fix in chosen.fix) == ("tcg", True)
    assert f"no permission to open {kvm}" in chosen.why
    assert "nested" not in chosen.fix


def test_the_choice_is_stored(kvm: Path) -> None:
    """The canary runs once for each boot, QEMU and processor, and again with `fresh` or a damaged file."""
    runs: list[Native] = []

    def measure(native: Native) -> tuple[Sample, Sample]:
        runs.append(native)
        return BROKEN, TCG

    def find(*, fresh: bool = False) -> Accelerator:
        return acceleration.find(ARCH, cache=kvm.parent, kvm=kvm, measure=measure, fresh=fresh)

    assert find() == find()
    assert len(runs) == 1
    find(fresh=True)
    assert len(runs) == 2
    next((kvm.parent / "acceleration").glob("*.json")).write_text("{")
    find()
    assert len(runs) == 3


def test_a_guest_can_reject_kvm(kvm: Path) -> None:
    """A guest's boot counts more than the canary, also more than a later canary; the first reason stays."""
    assert found(kvm, FAST).kind == "kvm"
    assert acceleration.reject(ARCH, "6.1 was silent", cache=kvm.parent).kind == "tcg"
    assert "6.1 was" in acceleration.reject(ARCH, "5.10 was silent", cache=kvm.parent).why
    for fresh in (False, True):
        chosen = found(kvm, FAST, fresh=fresh)
        assert chosen.kind == "tcg"
        assert "6.1 was silent" in chosen.why
    assert found(kvm, FAST, wanted="kvm").kind == "kvm"


def test_a_guest_can_accept_kvm(kvm: Path) -> None:
    """A guest that booted proves KVM; it overrules a rejection if the user asked for KVM."""
    found(kvm, FAST)
    acceleration.reject(ARCH, "6.1 was silent", cache=kvm.parent)
    acceleration.accept(ARCH, cache=kvm.parent)
    assert not acceleration.proven(ARCH, cache=kvm.parent)
    assert found(kvm, FAST).kind == "tcg"
    acceleration.accept(ARCH, asked=True, cache=kvm.parent)
    assert acceleration.proven(ARCH, cache=kvm.parent)
    assert found(kvm, FAST).kind == "kvm"


def test_a_close_result_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that was busy during one run of the canary still gets KVM."""
    samples = iter([Sample(0.3), Sample(0.4), Sample(0.3), Sample(0.03)])
    monkeypatch.setattr(canary, "run", lambda *_: next(samples))
    assert acceleration._measure(NATIVE[ARCH]) == (Sample(0.03), Sample(0.3))


def test_nothing_runs(monkeypatch: pytest.MonkeyPatch, kvm: Path) -> None:
    """If neither accelerator runs the canary, the error blames the host."""
    monkeypatch.setattr(canary, "run", lambda *_: BROKEN)
    with pytest.raises(InfrastructureError, match="under no accelerator"):
        acceleration.find(ARCH, cache=kvm.parent, kvm=kvm)


def test_no_compiler(kvm: Path) -> None:
    """A host without a compiler uses TCG if asked for, and stores no choice."""

    def measure(_native: Native) -> tuple[Sample, Sample]:
        raise BuildError("the canary needs a C compiler")

    chosen = acceleration.find(ARCH, cache=kvm.parent, kvm=kvm, measure=measure)
    assert (chosen.kind, chosen.why) == ("tcg", "the canary needs a C compiler")
    assert found(kvm, FAST).kind == "kvm"


def test_other_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A guest of another architecture is never accelerated, and the reason names the architecture."""
    monkeypatch.setattr(acceleration, "host_arch", lambda: "riscv64")
    assert "riscv64" in acceleration.find(ARCH, cache=tmp_path).why


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has a hint on the set-up."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="qemu-system") as raised:
        acceleration.find(ARCH)
    assert raised.value.hint
