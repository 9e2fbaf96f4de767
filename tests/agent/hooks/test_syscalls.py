"""The table of system calls, against the numbers of this host's own headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.events.model import EventType
from agent.hooks import points, syscalls
from agent.selftest.catalogue import CATALOGUE

HEADERS = Path("/usr/include")
NATIVE = HEADERS / "x86_64-linux-gnu" / "asm"
YOUNGER = {"fchmodat2", "setxattrat", "removexattrat"}  # than the headers of some hosts
_NUMBER = re.compile(r"^#define __NR(?:3264)?_(\w+) (\d+)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("numbers", "header"),
    [
        (syscalls.X86_64, NATIVE / "unistd_64.h"),
        (syscalls.I386, NATIVE / "unistd_32.h"),
        (syscalls.ARM64, HEADERS / "asm-generic" / "unistd.h"),
    ],
)
def test_numbers(numbers: dict[str, int], header: Path) -> None:
    """A call has the number that this machine's headers give it."""
    if not header.is_file():
        pytest.skip(f"no {header} here")
    known = {name: int(number) for name, number in _NUMBER.findall(header.read_text())}
    assert {name: known.get(name, number) for name, number in numbers.items()} == numbers
    assert numbers.keys() - known.keys() <= YOUNGER


def test_every_call_is_in_some_table() -> None:
    """And no table names a call that nobody describes."""
    tables = [table for pair in syscalls.MACHINES.values() for table in pair]
    assert set().union(*tables) == syscalls.CALLS.keys()


def test_every_event_that_is_told_by_system_calls_has_calls() -> None:
    """On each machine."""
    told = {event for event in points.EVENTS if points.by_syscalls(event, frozenset(points.SYSCALL_HOOKS))}
    for machine, (native, _) in syscalls.MACHINES.items():
        found = {syscalls.CALLS[name].event for name in native} | {EventType.RMDIR}
        assert found == told, machine


def test_rows_of_two_tables_do_not_meet() -> None:
    """32-bit calls have places of their own."""
    places = [place for place, _ in syscalls.rows("x86_64", frozenset(EventType))]
    assert len(places) == len(set(places)) == len(syscalls.X86_64) + len(syscalls.I386)
    assert max(places) < 2 * syscalls.NATIVE


def test_an_unlinkat_is_followed_for_the_sake_of_rmdir() -> None:
    """It is the only way to remove a directory on machines without rmdir."""
    places = dict(syscalls.rows("aarch64", frozenset({EventType.RMDIR})))
    assert set(places) == {syscalls.ARM64["unlinkat"]}


def test_doors_that_are_not_seen_are_doors_of_sets() -> None:
    """A misspelt one would be said of nothing, and asserted by nobody."""
    doors = {scenario.name.partition(".")[2] for scenario in CATALOGUE if scenario.family == "doors"}
    for hookset, unseen in points.UNSEEN_DOORS.items():
        assert hookset in points.SETS
        assert unseen.keys() <= doors
