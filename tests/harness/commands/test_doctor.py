"""The doctor's findings: each problem has a fix."""

from __future__ import annotations

import shutil

import pytest

from harness.commands import doctor_checks
from harness.commands.doctor_checks import PROGRAMS, Check, Finding, Level
from harness.errors import InfrastructureError
from harness.host import acceleration, resources
from harness.kernels import catalogue, kbuild
from tests import ROOT


def test_missing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding names the package of the missing program."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    for program in PROGRAMS:
        finding = program("")
        assert finding.level is Level.BROKEN
        assert finding.fix == f"apt-get install {program.package}"


def test_programs_are_packages_of_the_set_up() -> None:
    """Each program that the doctor checks is installed by `make setup` or is part of every Debian."""
    listed = (ROOT / "images" / "host-packages.txt").read_text()
    words = {line.split("#")[0].strip() for line in listed.splitlines()}
    assert {program.package for program in PROGRAMS} <= words | {"apt"}


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_a_build_for_another_architecture_installs_the_programs_that_are_checked(arch: str) -> None:
    """`make build-ARCH` reads this list; the compiler of amd64 has another name on another host."""
    found = catalogue.architecture(arch)
    listed = resources.words(f"{arch}-packages.txt")
    assert found.emulator_package in listed
    assert arch == "amd64" or set(found.compiler_package.split()) < set(listed)


@pytest.mark.parametrize(("required", "level"), [(True, Level.BROKEN), (False, Level.FINE)])
def test_programs_of_another_architecture_are_required_by_a_matrix_only(
    monkeypatch: pytest.MonkeyPatch, required: bool, level: Level
) -> None:
    """Both name the packages; present programs are fine in both cases."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (check,) = doctor_checks.of_other_guests({"arm64"} if required else ())
    assert check.name == "arm64 guests"
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    finding = check.look("")
    assert finding.level is level
    packages = "qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    assert f"apt-get install {packages}" in (finding.fix or finding.detail)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert check.look("") == Finding(Level.FINE, "can be emulated")


def test_programs_that_build_kernels_are_required_by_a_matrix_with_fragments_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both name the packages; the name of the check leaves room for its finding."""
    monkeypatch.setattr(doctor_checks, "CHECKS", ())
    monkeypatch.setattr(kbuild, "missing", lambda: {"flex": "flex", "gelf.h": "libelf-dev"})
    assert doctor_checks.main() == 0
    assert "fragments           flex and gelf.h not found; a matrix with" in capsys.readouterr().out
    assert doctor_checks.main(builds=True) == 3
    assert "fix: apt-get install flex libelf-dev" in capsys.readouterr().out


def test_the_remedy_for_emulation_is_that_of_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without permission for /dev/kvm needs a group and no other host."""
    found = acceleration.Accelerator("tcg", "no permission", "join the group")
    monkeypatch.setattr(acceleration, "find", lambda *_, **__: found)
    assert doctor_checks._acceleration("") == Finding(Level.SLOW, str(found), "join the group")


def test_errors_are_findings() -> None:
    """A check that raises an error of the harness is a finding with the error's hint."""

    def fails(_uri: str) -> Finding:
        raise InfrastructureError("cannot connect", hint="start it")

    assert doctor_checks.look(Check("x", fails), "") == Finding(Level.BROKEN, "cannot connect", "start it")


def test_status_and_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning exits 0, a failed check exits 3."""
    slow = Check("one", lambda _uri: Finding(Level.SLOW, "crawls", "buy another"))
    broken = Check("two", lambda uri: Finding(Level.BROKEN, f"no {uri}", "make it"))
    monkeypatch.setattr(doctor_checks, "CHECKS", (slow,))
    assert doctor_checks.main() == 0
    monkeypatch.setattr(doctor_checks, "CHECKS", (slow, broken))
    assert doctor_checks.main("qemu:///x") == 3
    printed = capsys.readouterr().out
    assert "fix: buy another" in printed
    assert "no qemu:///x" in printed
