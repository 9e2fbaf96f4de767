"""Structures of the wire and the maps are equal in C and Python, by the object's BTF."""

from __future__ import annotations

import re
import struct

import pytest

from agent.events import decode
from agent.events.model import EventType, FileFlags
from agent.hooks import needs, points, sets, syscalls
from agent.kernel import btf, maps
from agent.kernel.libbpf import Object
from tests import ROOT

BPF = ROOT / "bpf"
LETTERS = {"B": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8}


def offsets(form: str) -> list[tuple[int, int]]:
    """Offset and size of each value of a standard struct format."""
    found, at = [], 0
    for count, letter in re.findall(r"(\d*)([BHhIiQs])", form):
        number = int(count or 1)
        sizes = [number] if letter == "s" else [LETTERS[letter]] * number
        for size in sizes:
            found.append((at, size))
            at += size
    return found


def flat(opened: Object, structure: str) -> list[tuple[int, int]]:
    """Offset and size of each scalar of a C structure, with arrays and embedded texts split."""
    types = opened.btf()
    split = {"identities": 8, "epochs": 4, "path": 2, "given": 2, "name": 2, "source": 2, "root": 2}
    found = []
    for member in btf.members(types, structure)[1]:
        if member.name == "file":
            break
        step = split.get(member.name, member.size)
        found += [(member.offset + at, step) for at in range(0, member.size, step)]
    return found


@pytest.mark.parametrize(
    ("structure", "form"),
    [("fim_event", decode.HEAD.format), ("fim_file", decode.FILE.format)],
)
def test_wire_format(opened: Object, structure: str, form: str) -> None:
    """Each field has the same offset and size."""
    assert flat(opened, structure) == offsets(form)


def test_header_size(opened: Object) -> None:
    assert btf.members(opened.btf(), "fim_event")[0] == decode.SIZE


@pytest.mark.parametrize(
    ("structure", "form"),
    [
        ("fim_config", maps.CONFIG),
        ("fim_policy", maps.POLICY),
        ("fim_approver", maps.APPROVER),
        ("fim_discarder", maps.DISCARDER),
        ("fim_discard", maps.DISCARD),
        ("fim_counts", maps.COUNTS),
    ],
)
def test_map_layouts(opened: Object, structure: str, form: struct.Struct) -> None:
    """Each field of keys and values has the same offset and size."""
    size, members = btf.members(opened.btf(), structure)
    assert size == form.size
    assert [(member.offset, member.size) for member in members] == offsets(form.format)


def test_rows_of_system_calls(opened: Object) -> None:
    """Bytes, some of them in pairs, and one word."""
    size, members = btf.members(opened.btf(), "fim_syscall")
    *places, always = [member.offset + at for member in members for at in range(0, member.size, 4)]
    pairs = [member.offset + 1 for member in members if member.name in ("path", "dfd")]
    assert size == syscalls.ROW.size
    assert [(place, 1) for place in sorted(places + pairs)] + [(always, 4)] == offsets(syscalls.ROW.format)


def test_counts_have_the_same_names(opened: Object) -> None:
    names = tuple(member.name for member in btf.members(opened.btf(), "fim_counts")[1])
    assert names == maps.KernelCounts._fields


def enum_of(header: str, name: str) -> list[str]:
    body = re.search(rf"enum {name} \{{(.*?)\}};", (BPF / header).read_text(), re.DOTALL)
    assert body
    return re.findall(r"^\s*FIM_(\w+)", body[1], re.MULTILINE)


def test_event_types() -> None:
    assert enum_of("event.h", "fim_type")[:-1] == [kind.name for kind in EventType]


def test_file_flags() -> None:
    assert enum_of("event.h", "fim_file_flags") == [flag.name for flag in FileFlags]


def test_families() -> None:
    assert enum_of("event.h", "fim_family") == [name.upper().replace("-", "_") for name in sets.FAMILIES[1:]]


def test_points_are_numbered_alike() -> None:
    numbered = enum_of("inflight.h", "fim_point")[:-1]
    assert numbered == [f"AT_{name.upper()}" for name in points.POINTS]


def test_every_hook_has_its_programs(opened: Object) -> None:
    """The object has a program for each hook and each set, and no other."""
    served = {(hook, sets.kind_of(hook, hookset)) for hookset in sets.SETS for hook in needs.HOOKS}
    wanted = {sets.program(hook, kind) for hook, kind in served if kind}
    others = ("probe__", "check__", "write__", "tail__", "tail_multi__")
    programs = {name for name in opened.programs if not name.startswith(others)}
    assert wanted == programs


def test_constants_that_user_space_repeats() -> None:
    text = "".join((BPF / name).read_text() for name in ("event.h", "maps.h", "slot.h", "keep.h"))
    constants = dict(re.findall(r"#define FIM_(\w+)\s+(\d+)", text))
    assert len(maps.SHARED_SLOTS) == int(constants["SHARED_SLOTS"])
    assert maps.SHARED_SLOTS.start == int(constants["OWN_SLOTS"]) * maps.CPUS
    assert int(constants["ACCOUNTS"]) == maps.ACCOUNTS
    assert int(constants["WRITING"]) == maps.WRITING
    assert int(constants["CPUS"]) == maps.CPUS
    assert int(constants["WIRE_VERSION"]) == decode.VERSION
    assert int(constants["PATH_MAX"]) == decode.PATH_MAX
