"""The table of system calls, compared with the numbers of this host's headers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from agent.events.model import EventType
from agent.hooks import needs, syscalls

HEADERS = Path("/usr/include")
NATIVE = HEADERS / "x86_64-linux-gnu" / "asm"
NEWER = {
    "fchmodat2",
    "setxattrat",
    "removexattrat",
    "open_tree_attr",
    "file_setattr",
}  # than the headers of some hosts
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
    """Each call has its number in the headers."""
    if not header.is_file():
        pytest.skip(f"no {header} here")
    known = {name: int(number) for name, number in _NUMBER.findall(header.read_text())}
    assert {name: known.get(name, number) for name, number in numbers.items()} == numbers
    assert numbers.keys() - known.keys() <= NEWER


def test_every_call_is_in_some_table() -> None:
    """Every call of a table is also described."""
    tables = [table for pair in syscalls.MACHINES.values() for table in pair]
    assert set().union(*tables) == syscalls.CALLS.keys()


def test_every_event_that_system_calls_show_has_calls() -> None:
    """On each machine."""
    shown = {event for event in needs.EVENTS if needs.by_syscalls(event, frozenset(needs.SYSCALL_HOOKS))}
    for machine, (native, _) in syscalls.MACHINES.items():
        described = {syscalls.CALLS[name].event for name in native} | {EventType.RMDIR}
        assert described == shown, machine


def test_rows_of_two_tables_do_not_overlap() -> None:
    """32-bit calls have indexes of their own."""
    indexes = [index for index, _ in syscalls.rows("x86_64", frozenset(EventType))]
    assert len(indexes) == len(set(indexes)) == len(syscalls.X86_64) + len(syscalls.I386)
    assert max(indexes) < 2 * syscalls.NATIVE


def test_changes_by_descriptor_are_told_apart() -> None:
    """Each by its index in the table of calls, with its event type above that; the rest is empty."""
    words = struct.unpack("=16H", syscalls.changes("x86_64"))
    told = {word & 1023: EventType((word >> 10) - 1) for word in words if word}
    chown, setxattr, removexattr = EventType.CHOWN, EventType.SETXATTR, EventType.REMOVEXATTR
    native = {93: chown, 190: setxattr, 199: removexattr, 16: EventType.CHATTR}
    compat = {95: chown, 207: chown, 228: setxattr, 237: removexattr, 54: EventType.CHATTR}
    assert told == native | {512 + number: kind for number, kind in compat.items()}


def test_changes_fill_their_constant() -> None:
    """The loader writes as many words as bpf/read_only.h has, and as many bits of each are an index."""
    text = (Path(__file__).parents[3] / "bpf" / "read_only.h").read_text("ascii")
    numbers = dict(re.findall(r"^#define\s+(FIM_CHANGES|FIM_CHANGE_BITS)\s+(\d+)", text, re.MULTILINE))
    assert int(numbers["FIM_CHANGES"]) * 2 == len(syscalls.changes("x86_64"))
    assert 1 << int(numbers["FIM_CHANGE_BITS"]) == 2 * syscalls.NATIVE


def test_changes_of_arm64_have_no_32_bit_calls() -> None:
    """None is in its table; a machine whose calls are not known has no changes."""
    words = struct.unpack("=16H", syscalls.changes("aarch64"))
    assert {word & 1023 for word in words if word} == {55, 7, 16, 29}
    assert not any(syscalls.changes("riscv64"))


def test_unlinkat_is_followed_for_rmdir() -> None:
    """On machines without rmdir(2), unlinkat(2) removes directories."""
    rows = dict(syscalls.rows("aarch64", frozenset({EventType.RMDIR})))
    assert set(rows) == {syscalls.ARM64["unlinkat"]}
