"""Lets the verifier check every program of the object, in every shape that a load can give it.

A *shape* is one combination of the constants that the loader sets before a load: the verifier removes what
they make unreachable, so each shape is another program. Nothing is attached.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.hooks import points, sets, syscalls
from agent.kernel import btf as types
from agent.kernel import capabilities, reads, tails
from agent.kernel.functions import Functions
from agent.kernel.libbpf import Object, Program, failed_program

# The rows cover every combination of the constants that one program reads, and no more: a program reads few
# of them. A test compares the rows with the object. What is missing in a row is 0.
SHAPES: tuple[Mapping[str, int], ...] = (
    {},
    {
        "fim_use_perf": 1,
        "fim_exchange_twice": 1,
        "fim_link_by_filename": 1,
        "fim_ftruncate_by_fd": 1,
        "fim_ftruncate_of_file": 1,
    },
)
# The seed is random, and a return's position follows from the function that the program is attached to.
# The system calls and the format of strings are always the same.
OTHERS = ("fim_account_seed", "fim_arguments", "fim_changes", "fim_string_format")

# No constant, but another object: how programs read the kernel's memory (agent/kernel/reads.py).
BY_CAST = "reads_by_cast"

_RING_BYTES = 4096
_SHORT_LOG, _LONG_LOG = 1 << 16, 1 << 24
_STEPS = 1 | 4  # the level of a log with each step of the verifier
_LAST_LINES = 12
MOST_REJECTIONS = 5
_TAILS = {tail.program: tail.kind for tail in tails.TAILS}


class Rejection(NamedTuple):
    """A program that the verifier rejects, its shape, and the last lines of the verifier's log."""

    program: str
    shape: str
    lines: tuple[str, ...]


class Checked(NamedTuple):
    """The checked programs, those without a target in this kernel, and the rejections in all shapes.

    `largest` is the number of instructions that the verifier processed for the largest program.
    """

    programs: tuple[str, ...]
    absent: tuple[str, ...]
    rejections: tuple[Rejection, ...]
    largest: int


def kind_of(program: str) -> str:
    """Return the type of a hook's program, or of a tail, by its name; empty for all other programs."""
    kind, _, hook = program.partition("__")
    return _TAILS.get(program) or (kind if hook and kind not in ("probe", "check", "write") else "")


def words(shape: Mapping[str, int]) -> str:
    """Return a shape as text."""
    return ", ".join(f"{name}={value}" for name, value in sorted(shape.items()) if value) or "all 0"


def check(path: Path, kinds: Collection[str], casts: Collection[int] = (0,)) -> Checked:
    """Check all programs of these types. Raises KernelError if the cause of a failure is no program.

    `casts` are the values of BY_CAST; programs that are attached through perf are never loaded with 1.
    After MOST_REJECTIONS the rest is not checked: a cause that all programs share would take minutes.
    """
    functions = Functions(typed=True)
    try:
        rejections: list[Rejection] = []
        loaded: dict[str, int] = {}
        absent: set[str] = set()
        for shape in ({**constants, BY_CAST: cast} for cast in casts for constants in SHAPES):
            here = set(kinds) - set(sets.PERF) if shape[BY_CAST] else kinds
            of_shape = reads.with_casts(path) if shape[BY_CAST] else path
            left = _aimed(of_shape, here, functions, absent)
            while left and len(rejections) < MOST_REJECTIONS:
                refused = _load(of_shape, shape, left, functions, loaded)
                if refused:
                    lines = _log(of_shape, shape, refused, functions)
                    rejections.append(Rejection(refused, words(shape), lines))
                left = left[left.index(refused) + 1 :] if refused else []  # libbpf loads in this order
        names = tuple(sorted({*loaded, *(one.program for one in rejections)}))
        return Checked(names, tuple(sorted(absent)), tuple(rejections), max(loaded.values(), default=0))
    finally:
        functions.close()


def _aimed(path: Path, kinds: Collection[str], functions: Functions, absent: set[str]) -> list[str]:
    """Return the programs of these types that have a target here, in the object's order; note the others."""
    with closing(Object(str(path))) as opened:
        wanted = [program for name, program in opened.programs.items() if kind_of(name) in kinds]
        aimed = [program.name for program in wanted if _aim(program, functions)]
        absent |= {program.name for program in wanted} - set(aimed)
        return aimed


def _load(
    path: Path, shape: Mapping[str, int], chosen: list[str], functions: Functions, loaded: dict[str, int]
) -> str:
    """Load these programs in one shape, and note their instructions; return the one that was refused."""
    with closing(Object(str(path))) as opened:
        for name, program in opened.programs.items():
            program.choose(name in chosen)
            if name in chosen:
                _aim(program, functions)
                program.keep_log(_SHORT_LOG)
        _prepare(opened, shape, functions)
        refused = ""
        try:
            opened.load()
        except KernelError as error:
            if (refused := failed_program(error)) not in chosen:
                raise
        for name in chosen[: chosen.index(refused)] if refused else chosen:
            program = opened.programs[name]
            insns = program.processed() if refused else program.info().insns or program.processed()
            loaded[name] = max(loaded.get(name, 0), insns)
        return refused


def _log(path: Path, shape: Mapping[str, int], refused: str, functions: Functions) -> tuple[str, ...]:
    """Load one program again; return the last lines of a log with each step of the verifier."""
    with closing(Object(str(path))) as opened:
        for name, program in opened.programs.items():
            program.choose(name == refused)
        _aim(opened.programs[refused], functions)
        opened.programs[refused].keep_log(_LONG_LOG, _STEPS)
        _prepare(opened, shape, functions)
        try:
            opened.load()
        except KernelError as error:
            text = opened.programs[refused].rejection() or error.detail or error.message
            return tuple(text.strip().splitlines()[-_LAST_LINES:])
        return ("the verifier accepts the program if it is loaded alone",)


def _aim(program: Program, functions: Functions) -> bool:
    """Set the target of a program on a trampoline; return whether this kernel has one."""
    kind, hook = kind_of(program.name), program.name.partition("__")[2].replace("__", ".")
    if kind not in sets.TRAMPOLINES:
        return True
    for target in sets.candidates(hook, kind):
        if functions.present(kind, target):
            program.target(functions.number(kind, target))
            return True
    return False


def _prepare(opened: Object, shape: Mapping[str, int], functions: Functions) -> None:
    """Set the constants, and leave out the maps that the loader leaves out."""
    perf = shape.get("fim_use_perf", 0)
    for name in ("ring" if perf else "perf", *capabilities.MAPS):
        opened.maps[name].skip()
    if not perf:
        opened.maps["ring"].resize(_RING_BYTES)
    variables = types.variables(opened.btf(), ".rodata")
    rodata = next(one for name, one in opened.maps.items() if name.endswith(".rodata"))
    for name in shape.keys() - {BY_CAST}:
        rodata.preset(variables[name].offset, bytes([shape[name]]))
    if shape.get(BY_CAST):
        rewrite = reads.by_cast(functions.number("fentry", reads.CAST))
        for program in opened.programs.values():
            program.rewrite(rewrite)
    rodata.preset(variables["fim_arguments"].offset, bytes(_arguments(functions)))
    rodata.preset(variables["fim_changes"].offset, syscalls.changes(os.uname().machine))


def _arguments(functions: Functions) -> Iterator[int]:
    for point in points.POINTS:
        names = (functions.parameters(name) for name in points.POINTS[point])
        yield len(next((parameters for parameters in names if parameters is not None), ()))
