"""The stack of each program with all that it calls, as the verifier of old kernels adds it up."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from tests import ROOT

# kernel/bpf/verifier.c, check_max_stack_depth(): each frame is rounded up, and the sum over a chain of
# calls is limited. Newer kernels round less.
ROUNDING = 32
LIMIT = 512
FRAMES = 8

_SECTION = re.compile(r"Disassembly of section (.+):")
_LABEL = re.compile(r"([0-9a-f]+) <(.+)>:")
_STORE = re.compile(r"\(r10 - (0x[0-9a-f]+|\d+)\)|r\d+ \+= -(0x[0-9a-f]+|\d+)$")
_CALL = re.compile(r"call (-?0x[0-9a-f]+|-?\d+)")
_TARGET = re.compile(r"R_BPF_64_32\s+(\S+)")


def test_no_chain_of_calls_needs_more_stack_than_old_kernels_allow() -> None:
    """At most 512 bytes and 8 frames for each program of the object."""
    frames, calls = _functions()

    @cache
    def deepest(name: str) -> tuple[int, int]:
        """Bytes, and frames, of the deepest chain of calls from a function."""
        below = [deepest(callee) for callee in calls[name] if callee in frames]
        own = -(-max(frames[name], 1) // ROUNDING) * ROUNDING
        return (
            own + max((size for size, _ in below), default=0),
            1 + max((count for _, count in below), default=0),
        )

    depths = {name: deepest(name) for name in frames}
    assert depths["tracepoint__syscall__enter"] > (256, 4)  # this test follows calls
    assert {name: depth for name, depth in depths.items() if depth[0] > LIMIT or depth[1] > FRAMES} == {}


def _functions() -> tuple[dict[str, int], dict[str, set[str]]]:
    """Bytes of stack of each function of the built object, and the functions that it calls."""
    argv = ["llvm-objdump", "-dr", "--no-show-raw-insn", str(ROOT / "build/fim.bpf.o")]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    frames: dict[str, int] = {}
    targets: dict[str, set[str | int]] = {}
    static: dict[int, str] = {}  # functions of the section .text, by offset
    section = name = ""
    offset = 0
    for line in lines:
        if found := _SECTION.match(line):
            section = found[1]
        elif found := _LABEL.match(line):
            if not found[2].startswith("LBB"):
                name = found[2]
                frames[name], targets[name] = 0, set()
                if section == ".text":
                    static[int(found[1], 16)] = name
        elif name:
            if found := _STORE.search(line):
                size = int(found[1] or found[2], 0)
                frames[name] = max(frames[name], size if size <= LIMIT else 0)
            if found := _CALL.search(line):
                offset = (int(found[1], 0) + 1) * 8
            if found := _TARGET.search(line):
                targets[name].add(offset if found[1] == ".text" else found[1])
    calls = {
        caller: {static.get(one, "") if isinstance(one, int) else one for one in callees}
        for caller, callees in targets.items()
    }
    return frames, calls
