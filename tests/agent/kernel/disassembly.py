"""Reads the object's disassembly: which constants each program reads, itself or in what it calls."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from tests.agent.kernel.conftest import BUILT

_SECTION = re.compile(r"Disassembly of section (.+):")
_LABEL = re.compile(r"([0-9a-f]+) <(.+)>:")
_CALL = re.compile(r"call (-?0x[0-9a-f]+|-?\d+)")
_TARGET = re.compile(r"R_BPF_64_(?:32|64)\s+(\S+)")


def constants_of_programs() -> dict[str, set[str]]:
    """Return the symbols of `.rodata` that each function of the object refers to, also through calls."""
    argv = ["llvm-objdump", "-t", str(BUILT)]
    symbols = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    constants = {line.split()[-1] for line in symbols if " .rodata" in line}
    targets, static = _references()

    @cache
    def reached(name: str) -> frozenset[str]:
        direct = {static.get(one, "") if isinstance(one, int) else one for one in targets[name]}
        return frozenset(direct).union(*(reached(one) for one in direct if one in targets))

    return {name: set(reached(name) & constants) for name in targets}


def _references() -> tuple[dict[str, set[str | int]], dict[int, str]]:
    """Return what each function refers to, and the functions of the section .text by offset."""
    argv = ["llvm-objdump", "-dr", "--no-show-raw-insn", str(BUILT)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    targets: dict[str, set[str | int]] = {}
    static: dict[int, str] = {}
    section = name = ""
    offset = 0
    for line in lines:
        if found := _SECTION.match(line):
            section = found[1]
        elif found := _LABEL.match(line):
            if not found[2].startswith("LBB"):
                name = found[2]
                targets[name] = set()
                if section == ".text":
                    static[int(found[1], 16)] = name
        elif name:
            if found := _CALL.search(line):
                offset = (int(found[1], 0) + 1) * 8
            if found := _TARGET.search(line):
                targets[name].add(offset if found[1] == ".text" else found[1])
    return targets, static
