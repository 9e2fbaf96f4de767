"""The stack of each program with all that it calls, as the verifier of old kernels adds it up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from tests.agent.kernel.disassembly import functions

# kernel/bpf/verifier.c, check_max_stack_depth(): each frame is rounded up, and the sum over a chain of
# calls is limited. Newer kernels round less.
ROUNDING = 32
LIMIT = 512
FRAMES = 8

_STORE = re.compile(r"\(r10 - (0x[0-9a-f]+|\d+)\)|r\d+ \+= -(0x[0-9a-f]+|\d+)$")


def test_no_chain_of_calls_needs_more_stack_than_old_kernels_allow() -> None:
    """At most 512 bytes and 8 frames for each program of the object."""
    known = functions()

    @cache
    def deepest(name: str) -> tuple[int, int]:
        """Bytes, and frames, of the deepest chain of calls from a function."""
        below = [deepest(callee) for callee in known[name].refers if callee in known]
        own = -(-max(_frame(known[name].lines), 1) // ROUNDING) * ROUNDING
        return (
            own + max((size for size, _ in below), default=0),
            1 + max((count for _, count in below), default=0),
        )

    depths = {name: deepest(name) for name in known}
    assert depths["tracepoint__syscall__enter"] > (256, 4)  # this test follows calls
    assert {name: depth for name, depth in depths.items() if depth[0] > LIMIT or depth[1] > FRAMES} == {}


def _frame(lines: Iterable[str]) -> int:
    """Return the bytes of stack that a function itself uses."""
    stores = (int(found[1] or found[2], 0) for line in lines if (found := _STORE.search(line)))
    return max((size for size in stores if size <= LIMIT), default=0)
