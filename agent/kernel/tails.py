"""Programs that other programs hand over to by a tail call, so that the verifier sees shared work once.

`TAILS` mirrors `enum fim_tail` of bpf/maps.h. Programs that are compiled on the spot hand over to none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from agent.kernel.choose import Chosen, Plan

if TYPE_CHECKING:
    from agent.kernel.libbpf import Object

MAP = "tails"
_WORD = struct.Struct("=I")


class Tail(NamedTuple):
    """A program that serves all programs of a kind in some phases; `number` is its key in the map."""

    number: int
    program: str
    kind: str
    phases: tuple[str, ...]


TAILS = (
    Tail(0, "tail__kretprobe", "kretprobe", ("exit",)),
    Tail(1, "tail__kprobe", "kprobe", ("enter", "resolve")),
)


def serves(tail: Tail, chosen: Chosen) -> bool:
    """Whether a chosen program may hand over to this one."""
    return chosen.kind == tail.kind and chosen.hook.partition(".")[2] in tail.phases


def needed(opened: Object, plan: Plan) -> list[Tail]:
    """The tails of this object that programs of the plan hand over to."""
    return [
        tail
        for tail in TAILS
        if tail.program in opened.programs and any(serves(tail, one) for one in plan.chosen.values())
    ]


def choose(opened: Object, plan: Plan, log_bytes: int) -> bool:
    """Offer the tails to the verifier, with a log of this size; False if there are none.

    To be called once all other programs were chosen or left out.
    """
    tails = needed(opened, plan)
    for tail in tails:
        opened.programs[tail.program].choose(True)
        opened.programs[tail.program].keep_log(log_bytes)
    return bool(tails)


def users(program: str, plan: Plan) -> list[Chosen]:
    """The chosen programs that need this program: itself, or those that hand over to it."""
    tails = [tail for tail in TAILS if tail.program == program]
    return [
        one
        for one in plan.chosen.values()
        if one.program == program or any(serves(tail, one) for tail in tails)
    ]


def fill(opened: Object, plan: Plan) -> None:
    """Make the loaded programs known to those that hand over; to be done before the first is attached."""
    for tail in needed(opened, plan):
        opened.maps[MAP].update(_WORD.pack(tail.number), _WORD.pack(opened.programs[tail.program].fd()))
