"""Manages the programs that others tail call, so that the verifier checks their shared code once.

`TAILS` mirrors `enum fim_tail` of bpf/maps.h. Programs that bcc compiles make no tail calls.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from agent.kernel.choose import Chosen, Plan

if TYPE_CHECKING:
    from agent.kernel.libbpf import Object

MAPS = ("tails", "multi_tails")
_WORD = struct.Struct("=I")


class Tail(NamedTuple):
    """A program that all programs of a kind call in some phases; `number` is its key in `table`."""

    table: str
    number: int
    program: str
    kind: str
    phases: tuple[str, ...]


TAILS = (
    Tail("tails", 0, "tail__kretprobe", "kretprobe", ("exit",)),
    Tail("tails", 1, "tail__kprobe", "kprobe", ("enter", "given", "resolve")),
    Tail("multi_tails", 0, "tail_multi__kretprobe", "kretprobe_multi", ("exit",)),
    Tail("multi_tails", 1, "tail_multi__kprobe", "kprobe_multi", ("enter", "given", "resolve")),
)


def serves(tail: Tail, chosen: Chosen) -> bool:
    """Return whether a chosen program may call this one."""
    return chosen.kind == tail.kind and chosen.hook.partition(".")[2] in tail.phases


def needed(opened: Object, plan: Plan) -> list[Tail]:
    """Return the tails of this object that programs of the plan call."""
    return [
        tail
        for tail in TAILS
        if tail.program in opened.programs and any(serves(tail, chosen) for chosen in plan.chosen.values())
    ]


def choose(opened: Object, plan: Plan, log_bytes: int) -> frozenset[str]:
    """Choose the needed tails for the load, with a log of this size; return the maps that they need.

    Call it after all other programs were chosen or left out.
    """
    tails = needed(opened, plan)
    for tail in tails:
        opened.programs[tail.program].choose(True)
        opened.programs[tail.program].keep_log(log_bytes)
    return frozenset(tail.table for tail in tails)


def users(program: str, plan: Plan) -> list[Chosen]:
    """Return the chosen programs that need this program: itself, or those that call it."""
    tails = [tail for tail in TAILS if tail.program == program]
    return [
        chosen
        for chosen in plan.chosen.values()
        if chosen.program == program or any(serves(tail, chosen) for tail in tails)
    ]


def fill(opened: Object, plan: Plan) -> None:
    """Write the loaded tails into the map of tail calls; call it before the first program is attached."""
    for tail in needed(opened, plan):
        opened.maps[tail.table].update(
            _WORD.pack(tail.number), _WORD.pack(opened.programs[tail.program].fd())
        )
