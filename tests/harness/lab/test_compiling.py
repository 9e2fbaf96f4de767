"""Machines whose guests compile programs: which cells get them, and what they contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.selftest.protocol import Loaded
from harness.errors import RefusedError
from harness.host.deadlines import COMPILE_S, LOAD_S, Pace
from harness.images.rootfs import RootImage
from harness.kernels import Headers, preflight, sources
from harness.kernels.model import Package
from harness.kernels.preflight import Root
from harness.lab import supplies
from harness.lab.supplies import Preparation
from harness.plan.cells import Cell
from harness.plan.matrix import Kernel, Matrix, Suite
from harness.plan.plan import Selectors, make
from harness.results.model import KernelFacts
from harness.results.verdict import Verdict
from harness.run.cell import CellRun
from harness.run.fake import FakeBench, FakeMachine
from harness.run.slot import Slot

KERNEL = Kernel(name="6.1", series="6.1")


def cell(**variant: Any) -> Cell:
    """A cell of kernel 6.1."""
    return Cell(id="c", kernel=KERNEL, **variant)


def test_cells_that_compile_have_machines_of_their_own() -> None:
    """Cells that compile share a machine with each other, and with no other cell."""
    compiling = [cell(hookset="bcc"), cell(btf="none"), cell(hookset="bcc", transport="perf")]
    others = [cell(), cell(hookset="kprobe"), cell(btf="external")]
    assert {one.machine for one in compiling} == {"6.1-amd64-bcc"}
    assert {one.machine for one in others} == {"6.1-amd64"}


def test_a_suite_gets_no_compiler() -> None:
    """Not even a suite with the name of the hook set."""
    assert not cell(hookset="bcc", suite=Suite(name="bcc", command=("true",))).compiles


def test_a_hook_set_that_needs_btf_is_not_planned_without() -> None:
    """The plan has the reason, and the agent's other cells stay."""
    axes = {"hooksets": ["auto", "lsm", "bcc"], "btf": ["none"], "transport": ["ringbuf"]}
    matrix = Matrix.model_validate({"kernels": ["6.1"], **axes})
    made = make(matrix, Selectors())
    assert [one.id for one in made.cells] == ["6.1-auto-btf_none", "6.1-bcc-btf_none"]
    assert [(one.id, one.reason) for one in made.omitted] == [
        ("6.1-lsm-btf_none", "hook set lsm needs BTF; without BTF only bcc works")
    ]


def test_a_failed_compilation_has_the_compilers_message(
    tmp_path: Path,
) -> None:
    """The first load may take the time to compile. Where kprobes fire, it is the agent that fails."""
    asked: list[tuple[str, str, float]] = []
    known = {"bcc": "load-fail", "kprobe": "fires"}

    class Refusing(FakeMachine):
        def load(self, cell: Cell, deadline_s: float) -> Loaded:
            asked.append((cell.hookset, cell.btf, deadline_s))
            if cell.hookset == "bcc":
                raise RefusedError("fs.h:7:1: error: no such thing")
            return Loaded(id=1, seconds=1.0, capabilities=known, hooks=(), coverage={})

    wanted = cell(hookset="bcc", btf="none", tests=("truth.open",))
    pace = Pace(load=lambda: 1.0)
    run = CellRun(wanted, Slot(lambda one: Refusing(FakeBench(), one), pace), tmp_path)
    run.open()
    result = run.test("truth.open")
    assert result.verdict is Verdict.FAIL
    assert result.reason == "fs.h:7:1: error: no such thing"
    deadline_s = LOAD_S + COMPILE_S
    assert asked == [("bcc", "none", deadline_s), ("auto", "kernel", deadline_s)]


class Fetched:
    """A kernel that was fetched."""

    vmlinuz, config, btf = Path("vmlinuz"), None, None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return with which of two options the fake images were made."""
    found: dict[str, Any] = {}
    made = Headers(Path("headers"), (Package("linux-headers", "6", "a1", 1, "x"),), "d")

    def root(*_: Any, extra: str, in_memory: bool) -> RootImage:
        assert not in_memory
        found["compiler"] = extra == "compiler"
        lines = ("libbpfcc_0.26.0%2bds-1_amd64.deb SHA256:b2", "python3_3.11_amd64.deb SHA256:c3")
        return RootImage(Path("root"), "d", lines)

    def modules(*_: Any, headers: Headers | None) -> Path:
        found["headers"] = headers
        return Path("modules")

    monkeypatch.setattr(sources, "fetch", lambda *_: Fetched())
    monkeypatch.setattr(sources, "fetch_headers", lambda *_: made)
    monkeypatch.setattr(preflight, "check", lambda _kernel: Root.DISK)
    monkeypatch.setattr(supplies, "initramfs", lambda *_: Path("initramfs"))
    monkeypatch.setattr(supplies, "modules_image", modules)
    monkeypatch.setattr(supplies, "root_image", root)
    return found


@pytest.mark.parametrize(("variant", "compiles"), [({"hookset": "bcc"}, True), ({}, False)])
def test_only_cells_that_compile_get_a_compiler_and_headers(
    asked: dict[str, Any], variant: dict[str, str], compiles: bool
) -> None:
    """The results name both packages beside the kernel's own."""
    preparation = Preparation("tcg", lambda _: None)
    preparation.kernels["m"] = KernelFacts(name="6.1", requested="6.1", release="6.1.0")
    preparation._supply("m", cell(**variant), None)  # type: ignore[arg-type]
    assert asked["compiler"] == compiles
    assert bool(asked["headers"]) == compiles
    recorded = [(one.name, one.version, one.sha256) for one in preparation.kernels["m"].packages]
    wanted = [("linux-headers", "6", "a1"), ("libbpfcc", "0.26.0+ds-1", "b2")]
    assert recorded == (wanted if compiles else [])
