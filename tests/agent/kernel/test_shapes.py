"""The shapes in which the verifier checks every program, and the object's constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import product

import pytest

from agent.errors import KernelError
from agent.hooks import points, sets
from agent.kernel import shapes
from agent.kernel.libbpf import Object, Program
from tests.agent.kernel.conftest import BUILT, REFUSED
from tests.agent.kernel.disassembly import constants_of_programs
from tests.agent.kernel.test_loader import Functions


def test_the_shapes_cover_every_combination_of_the_constants_that_a_program_reads() -> None:
    read = constants_of_programs()
    assert "fim_use_perf" in read["fexit__open__exit"]  # the test follows calls
    for name, constants in read.items():
        varied = sorted(constants - set(shapes.OTHERS))
        if shapes.kind_of(name) and varied:
            covered = {tuple(shape.get(constant, 0) for constant in varied) for shape in shapes.SHAPES}
            assert covered == set(product((0, 1), repeat=len(varied))), (name, varied)


def test_each_program_of_a_hook_has_a_type(opened: Object) -> None:
    """Left out are only those that attach nowhere, or that observe capabilities."""
    without = {name for name in opened.programs if not shapes.kind_of(name)}
    assert {name.partition("__")[0] for name in without} == {"probe", "check", "write"}
    kinds = {kind for by_phase in sets.SETS.values() for kind in by_phase.values()}
    assert {shapes.kind_of(name) for name in opened.programs} - {""} == kinds


class Refusing:
    """A verifier that refuses some programs in all shapes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
        self.refused = refused
        self.chosen: dict[str, bool] = {}
        self.steps = False
        self.loads = 0
        self.most: Counter[str] = Counter()  # how often each program was loaded
        monkeypatch.setattr(Program, "choose", lambda one, wanted: self.chosen.update({one.name: wanted}))
        monkeypatch.setattr(Program, "target", lambda _one, _number: None)
        monkeypatch.setattr(Program, "keep_log", self.keep_log)
        monkeypatch.setattr(Program, "log", lambda one: f"step of {one.name}\n" + REFUSED.read_text("ascii"))
        monkeypatch.setattr(Program, "info", lambda _one: Info())
        monkeypatch.setattr(Object, "load", lambda one: self.load(one.programs))
        monkeypatch.setattr(shapes, "Functions", lambda typed: Functions())

    def keep_log(self, _size: int, level: int = 4) -> None:
        self.steps |= bool(level & 1)

    def load(self, programs: Iterable[str]) -> None:
        self.loads += 1
        chosen = [name for name in programs if self.chosen[name]]  # in the object's order, as libbpf does
        self.most.update(chosen)
        for name in chosen:
            if name in self.refused:
                detail = f"libbpf: prog '{name}': BPF program load failed: Permission denied\n"
                raise KernelError("load the object", detail=detail)


class Info:
    """The counters of a loaded program."""

    insns = 1009


def test_every_rejected_program_is_named_with_its_shape_and_the_last_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One refusal does not hide another."""
    verifier = Refusing(monkeypatch, "fexit__open__exit", "fentry__close__once")
    checked = shapes.check(BUILT, {"fentry", "fexit"})
    assert {one.program for one in checked.rejections} == set(verifier.refused)
    assert {one.shape for one in checked.rejections} == {shapes.words(shape) for shape in shapes.SHAPES}
    for one in checked.rejections:
        assert one.lines[-1] == "invalid read from stack R10 off=-520 size=8"
        assert one.lines[-3] == "60: (b7) r0 = 0                       ; R0=0"
    assert verifier.steps
    assert checked.largest == 1009
    assert {"fentry__open__enter", *verifier.refused} <= set(checked.programs)


def test_a_cause_that_all_programs_share_does_not_take_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rejected program is loaded once more, for its log; programs before it are not loaded again."""
    verifier = Refusing(monkeypatch, *(f"fexit__{point}__exit" for point in points.POINTS))
    checked = shapes.check(BUILT, {"fentry", "fexit"})
    assert len(checked.rejections) == shapes.MOST_REJECTIONS
    assert verifier.loads == 2 * shapes.MOST_REJECTIONS
    assert verifier.most["fentry__close__once"] == 1


def test_a_failure_without_a_program_is_no_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    Refusing(monkeypatch)

    def fail(_one: Object) -> None:
        raise KernelError("load the object", detail="libbpf: map 'slots': failed to create: Out of memory\n")

    monkeypatch.setattr(Object, "load", fail)
    with pytest.raises(KernelError, match="load the object"):
        shapes.check(BUILT, {"lsm"})


def test_programs_that_read_by_casts_are_shapes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that are attached through perf, which such a kernel refuses."""
    rewritten: set[str] = set()
    monkeypatch.setattr(Program, "rewrite", lambda one, _: rewritten.add(one.name))
    verifier = Refusing(monkeypatch)
    shapes.check(BUILT, {"lsm", "kprobe"}, (0, 1))
    assert verifier.loads == 2 * len(shapes.SHAPES)
    assert verifier.most["lsm__open__resolve"] == 2 * len(shapes.SHAPES)
    assert verifier.most["kprobe__open__enter"] == len(shapes.SHAPES)
    assert "lsm__open__resolve" in rewritten
