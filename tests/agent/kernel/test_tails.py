"""The programs that others call at their end: both sides number them alike."""

import re
from pathlib import Path

from agent.kernel import tails
from agent.kernel.choose import Chosen, Plan

MAPS = Path(__file__).parents[3] / "bpf" / "maps.h"


def plan(*chosen: tuple[str, str]) -> Plan:
    """A plan of hooks by kinds, whose programs are called as the loader calls them."""
    made = [Chosen(hook, kind, "somewhere") for hook, kind in chosen]
    return Plan({one.hook: one for one in made}, ())


def test_numbers_are_those_of_the_header() -> None:
    """Each program's number is its place in the enumeration."""
    body = re.search(r"enum fim_tail \{(.*?)\}", MAPS.read_text("ascii"), re.DOTALL)
    assert body is not None
    names = re.findall(r"FIM_TAIL_\w+", body[1])
    assert names[-1] == "FIM_TAIL_COUNT"
    for table in tails.MAPS:
        numbers = [tail.number for tail in tails.TAILS if tail.table == table]
        assert numbers == list(range(len(names) - 1))


def test_a_refused_tail_call_is_reported_for_its_callers() -> None:
    """Programs that do not call it are not reported."""
    entry, end, once = ("open.enter", "kprobe"), ("open.exit", "kretprobe"), ("close.once", "kprobe")
    chosen = plan(entry, end, once, ("unlink.resolve", "fentry"))
    assert [one.hook for one in tails.users("tail__kprobe", chosen)] == ["open.enter"]
    assert [one.hook for one in tails.users("tail__kretprobe", chosen)] == ["open.exit"]
    assert [one.hook for one in tails.users("kprobe__close__once", chosen)] == ["close.once"]
