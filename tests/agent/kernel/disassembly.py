"""Reads the object's disassembly: the lines of each function, and what it refers to and calls."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.agent.kernel.conftest import BUILT

_SECTION = re.compile(r"Disassembly of section (.+):")
_LABEL = re.compile(r"([0-9a-f]+) <(.+)>:")
_CALL = re.compile(r"call (-?0x[0-9a-f]+|-?\d+)")
_OWN_CALL = re.compile(r"\s*(\d+):\s+85 10 .*\tcall (-?0x[0-9a-f]+|-?\d+)")  # of a function, not of a helper
_TARGET = re.compile(r"R_BPF_64_(?:32|64)\s+(\S+)")


class Function(NamedTuple):
    """A function's lines, and the symbols that it refers to: other functions, maps and constants."""

    lines: list[str]
    refers: set[str]


def functions(path: Path = BUILT) -> dict[str, Function]:
    """Return the functions of a built object by name."""
    blocks = _blocks(path)
    static = {offset: name for section, offset, name, _ in blocks if section == ".text"}
    return {
        name: Function(lines, set(_references(lines, static)) | set(_calls_within(lines, static, section)))
        for section, _, name, lines in blocks
    }


def _blocks(path: Path) -> list[tuple[str, int, str, list[str]]]:
    """Return each function's section, its offset there in bytes, its name and its lines."""
    blocks: list[tuple[str, int, str, list[str]]] = []
    section = ""
    for line in _output(path, "-dr"):
        label = _LABEL.match(line)
        if header := _SECTION.match(line):
            section = header[1]
        elif label and not label[2].startswith("LBB"):
            blocks.append((section, int(label[1], 16), label[2], []))
        elif blocks:
            blocks[-1][3].append(line)
    return blocks


def _references(lines: Iterable[str], static: Mapping[int, str]) -> Iterator[str]:
    """Yield the symbols that lines refer to; a function of the section .text is named by its offset."""
    offset = 0
    for line in lines:
        if call := _CALL.search(line):
            offset = (int(call[1], 0) + 1) * 8
        if target := _TARGET.search(line):
            yield static[offset] if target[1] == ".text" else target[1]


def _calls_within(lines: Iterable[str], static: Mapping[int, str], section: str) -> Iterator[str]:
    """Yield the functions of the section .text that others there call by their distance."""
    if section != ".text":
        return
    for line, after in pairwise((*lines, "")):
        if (call := _OWN_CALL.match(line)) and not _TARGET.search(after):
            yield static[(int(call[1]) + 1 + int(call[2], 0)) * 8]


def constants_of_programs() -> dict[str, set[str]]:
    """Return the symbols of `.rodata` that each function of the object refers to, also through calls."""
    constants = {line.split()[-1] for line in _output(BUILT, "-t") if " .rodata" in line}
    known = functions()

    @cache
    def reached(name: str) -> frozenset[str]:
        refers = known[name].refers
        return frozenset(refers).union(*(reached(one) for one in refers if one in known))

    return {name: set(reached(name) & constants) for name in known}


def _output(path: Path, *options: str) -> list[str]:
    argv = ["llvm-objdump", *options, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
