"""Preparation of kernels and images before a run, with fake sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, InfrastructureError, UnknownKernelError
from harness.host.canary import host_arch
from harness.host.progress import Event, silent
from harness.kernels import KernelRequest, Lock, ResolvedKernel
from harness.kernels import lock as locking
from harness.kernels.web import AbsentError
from harness.lab import supplies
from harness.lab.supplies import BACKOFF_S, Preparation, resolve_all
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from tests import ROOT

OTHER = "amd64" if host_arch() == "arm64" else "arm64"


@pytest.mark.parametrize(("failures", "missing"), [(0, {}), (2, {}), (3, {"m": "404"})])
def test_a_download_that_fails_is_tried_again(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, failures: int, missing: dict[str, str]
) -> None:
    left = [InfrastructureError("404")] * failures
    events: list[Event] = []
    paused: list[float] = []

    def stumble(*_words: Any) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(supplies.Preparation, "_supply", stumble)
    preparation = Preparation("tcg", events.append)
    preparation.pause = paused.append
    preparation._try("m", cell, _kernel("6.1.0-1"))
    assert preparation.missing == missing
    assert paused == list(BACKOFF_S[:failures])
    assert len(events) == failures


def _kernel(release: str) -> ResolvedKernel:
    return ResolvedKernel("old", "5.10", release, "amd64", "suite", ())


@pytest.mark.parametrize(("locked", "release"), [(False, "5.10.0-44"), (True, "")])
def test_a_kernel_whose_file_left_the_archive_is_replaced_by_the_next_older_one(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, locked: bool, release: str
) -> None:
    """The index of 5.10 rt named three kernels without a file in the archive. A lock stays as it is."""
    older = {"5.10.0-46": _kernel("5.10.0-45"), "5.10.0-45": _kernel("5.10.0-44")}
    supplied: list[str] = []

    def supply(_self: Preparation, _name: str, _cell: Cell, resolved: ResolvedKernel) -> None:
        if resolved.release in older:
            raise AbsentError(f"{resolved.release}: 404")
        supplied.append(resolved.release)

    monkeypatch.setattr(Preparation, "_supply", supply)
    monkeypatch.setattr("harness.kernels.resolver.older", lambda kernel, _request: older[kernel.release])
    lock = Lock({locking.key_of(supplies.request(cell)): _kernel("5.10.0-46")} if locked else {})
    preparation = Preparation("tcg", silent, lock)
    preparation.pause = lambda _seconds: None
    used = preparation._try("m", cell, _kernel("5.10.0-46"))
    assert supplied == ([release] if release else [])
    if locked:
        assert preparation.missing == {"m": "5.10.0-46: 404"}
    else:
        assert used
        assert (used.release, preparation.kernels["m"].release) == (release, release)
        assert not preparation.missing


def test_a_missing_compiler_is_an_error_before_anything_is_fetched(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guests' init is compiled on the host: without the compiler a download would be useless."""

    def resolve(*_words: Any) -> None:
        raise AssertionError("a repository was asked")

    monkeypatch.setattr(supplies, "resolve_all", resolve)
    monkeypatch.setattr(shutil, "which", lambda name: name.startswith("qemu") or None)
    cells = [cell.model_copy(update={"arch": "arm64", "tests": ()}) for cell in plan.cells]
    with pytest.raises(ConfigError, match="arm64 guests need aarch64-linux-gnu-gcc: not found") as caught:
        Preparation("tcg", lambda _: None).supplies(plan.model_copy(update={"cells": tuple(cells)}))
    assert caught.value.hint == "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"


def _resolving(monkeypatch: pytest.MonkeyPatch, **errors: Exception) -> None:
    """Archives that have every kernel except those in `errors`, by flavour."""

    def resolve(request: KernelRequest, **_words: Any) -> ResolvedKernel:
        if error := errors.get(request.flavour):
            raise error
        return ResolvedKernel(request.name, request.series, "6.1.0-1", request.arch, "suite", ())

    monkeypatch.setattr("harness.kernels.resolver.resolve", resolve)


def _cells(cell: Cell, *flavours: str) -> dict[str, Cell]:
    kernels = (cell.kernel.model_copy(update={"flavour": one, "name": one}) for one in flavours)
    return {one.flavour: cell.model_copy(update={"id": one.flavour, "kernel": one}) for one in kernels}


def test_a_kernel_that_cannot_be_resolved_costs_its_own_machines(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that left the archive and an index that cannot be fetched do not stop the other kernels."""
    _resolving(monkeypatch, rt=UnknownKernelError("dropped"), generic=InfrastructureError("no index"))
    monkeypatch.setattr(Preparation, "_supply", lambda self, name, *_: self.files.update({name: {}}))
    monkeypatch.setattr(Preparation, "_agent", lambda *_words: None)
    plan = Plan(schema=1, cells=tuple(_cells(cell, "cloud", "rt", "generic").values()))
    found = Preparation("tcg", silent).supplies(plan)
    arch = cell.arch
    assert found.missing == {f"rt-{arch}": "dropped", f"generic-{arch}": "no index"}
    assert set(found.files) == {f"cloud-{arch}"}


def test_the_wanted_machines_come_first_and_builds_last(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is built here keeps no other waiting."""
    supplied: list[str] = []
    _resolving(monkeypatch)
    monkeypatch.setattr(supplies, "AT_ONCE", 1)
    monkeypatch.setattr("harness.kernels.sources.pinned", lambda *_words: Lock({}))
    monkeypatch.setattr("harness.kernels.sources.check_host", lambda _kernels: None)
    monkeypatch.setattr(Preparation, "_agent", lambda *_words: None)
    monkeypatch.setattr(Preparation, "_take", lambda *_words: _kernel("6.1.0-1"))
    monkeypatch.setattr(Preparation, "_supply", lambda _self, name, *_: supplied.append(name))
    cells = _cells(cell, "cloud", "generic", "rt")
    built = cells["cloud"].kernel.model_copy(update={"series": "", "fragment": ("el9",), "linux": "6.12"})
    cells["cloud"] = cells["cloud"].model_copy(update={"kernel": built})
    plan = Plan(schema=1, cells=tuple(cells.values()))
    names = {flavour: one.machine for flavour, one in cells.items()}
    Preparation("tcg", silent).deliver(plan, [names["cloud"], names["rt"]]).whole()
    assert supplied == [names["rt"], names["generic"], names["cloud"]]


@pytest.mark.parametrize(
    ("errors", "flavours", "words"),
    [
        ({"rt": UnknownKernelError("dropped", hint="there is 6.1")}, ["rt"], "dropped"),
        ({}, ["cloud", "clowd"], "unknown flavour 'clowd'"),
    ],
)
def test_a_matrix_of_unknown_kernels_is_an_error(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception], flavours: list[str], words: str
) -> None:
    """If no archive has any of the kernels, or a flavour does not exist, nothing runs."""
    _resolving(monkeypatch, **errors)
    with pytest.raises(ConfigError, match=words) as raised:
        resolve_all(_cells(cell, *flavours), None, silent)
    assert raised.value.hint


def test_an_archive_that_is_down_is_infrastructure(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any kernel every cell ends INFRA; that is no error of the matrix."""
    _resolving(monkeypatch, cloud=InfrastructureError("no index"), rt=UnknownKernelError("dropped"))
    found, missing = resolve_all(_cells(cell, "cloud", "rt"), None, silent)
    assert not found
    assert set(missing) == {"cloud", "rt"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no BTF in it")])
def test_an_image_that_cannot_be_made_costs_its_own_machine(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The image is not tried again."""

    def fail(*_words: Any) -> None:
        raise error

    monkeypatch.setattr(Preparation, "_supply", fail)
    preparation = Preparation("tcg", silent)
    preparation.pause = lambda _seconds: pytest.fail("tried again")
    preparation._try("m", cell, _kernel("6.1.0-1"))
    assert preparation.missing == {"m": str(error)}


BUILT = tuple(f"build/{name}" for name in ("fim.bpf.o", "fim-casts.bpf.o", "fim-gen"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose compiled files are up to date by the rules of the real Makefile."""
    for name in ("bpf/fim.bpf.c", "agent/selftest/generator/main.c", "agent/rules/grammar.lark"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("int main(void) { return 0; }\n")
    for name in ("Makefile", "requirements.lock", "requirements-cluster.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "build").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / f"images/{OTHER}-packages.txt").touch()
    assert _make(tmp_path) == 0
    return tmp_path


def _make(root: Path, *variables: str, targets: tuple[str, ...] = ()) -> int:
    """Run the rules of `make build` with compilers that only write their output; return the exit code."""
    compilers = {
        "CLANG": "f() { touch $@.partial; }; f",
        "STRIP": "true",
        "CC": "f() { touch $@; }; f",
    }
    words = [f"{name}={value}" for name, value in compilers.items()]
    old = ["-o", "build/.packages", "-o", f"build/.packages-{OTHER}"]
    argv = ["make", "-s", *old, *words, *variables, *(targets or BUILT)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(argv, cwd=root, env=environment, capture_output=True, check=False).returncode


def test_files_that_make_built_are_up_to_date(project: Path) -> None:
    """The harness takes the files as they are."""
    supplies.check_built(project, [host_arch()])


def test_another_architecture_has_files_and_a_target_of_its_own(project: Path) -> None:
    """They lie in a folder of build/; the error names the command that makes them."""
    assert host_arch() in ("amd64", "arm64")
    both = ("amd64", "arm64")
    with pytest.raises(ConfigError, match=rf"build/{OTHER}/fim\.bpf\.o: not built") as caught:
        supplies.check_built(project, both)
    assert caught.value.hint == f"run `make build-{OTHER}`"
    assert _make(project, targets=(f"build-{OTHER}",)) == 0
    supplies.check_built(project, both)
    (project / "bpf/new.h").write_text("int other;\n")
    assert _make(project) == 0
    with pytest.raises(ConfigError, match=f"build/{OTHER}/"):
        supplies.check_built(project, both)


def test_another_architecture_is_compiled_by_its_own_compiler_and_headers() -> None:
    """Clang gets the layout of registers and the C headers of the guest."""
    argv = ["make", "-n", "-B", "-o", f"build/.packages-{OTHER}", "-o", "build/.packages", f"build-{OTHER}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    register, triplet = {"arm64": ("arm64", "aarch64"), "amd64": ("x86", "x86_64")}[OTHER]
    assert f"-D__TARGET_ARCH_{register} " in done.stdout
    assert f"-idirafter /usr/{triplet}-linux-gnu/include " in done.stdout
    assert f"{triplet}-linux-gnu-gcc -O2" in done.stdout


@pytest.mark.parametrize("source", ["bpf/fim.bpf.c", "bpf/new.h", "agent/selftest/generator/main.c"])
def test_a_file_built_from_other_sources_is_refused(project: Path, source: str) -> None:
    """Times do not matter: make and the harness compare the sources' digest."""
    (project / source).write_text("int other;\n")
    os.utime(project / source, (0, 0))
    with pytest.raises(ConfigError, match="not built from the sources") as caught:
        supplies.check_built(project, [host_arch()])
    assert caught.value.hint == "run `make build`"
    assert _make(project) == 0
    supplies.check_built(project, [host_arch()])


def test_a_build_that_failed_leaves_nothing_that_is_up_to_date(project: Path) -> None:
    """The mark is newer than the object, which is the one of the sources before."""
    (project / "bpf/fim.bpf.c").write_text("int other;\n")
    assert _make(project, "CLANG=false") == 2
    with pytest.raises(ConfigError, match=r"build/fim\.bpf\.o: not built"):
        supplies.check_built(project, [host_arch()])
