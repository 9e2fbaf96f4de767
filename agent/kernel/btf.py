"""Reads BTF type information: parameters of kernel functions, layouts of the agent's own structures.

Kinds are numbered as in the kernel's include/uapi/linux/btf.h.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.kernel.libbpf import Btf

KERNEL = "/sys/kernel/btf/vmlinux"

_ARRAY, _STRUCT, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _DATASEC = 3, 4, 8, 9, 10, 11, 15
FUNC = 12
_MODIFIERS = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT}


class Member(NamedTuple):
    """A field of a structure, with offset and size in bytes."""

    name: str
    offset: int
    size: int


class Function(NamedTuple):
    """A function's type number, and the names of its parameters in order."""

    number: int
    parameters: tuple[str, ...]


def function(btf: Btf, name: str) -> Function | None:
    """Return the function of this name, or None.

    libbpf compares the name with every type of the kernel: cache the result.
    """
    number = btf.find(name, FUNC)
    if number is None:
        return None
    prototype = btf.words(number, 3)[2]
    count = btf.words(prototype, 2)[1] & 0xFFFF
    words = btf.words(prototype, 3 + 2 * count)
    return Function(number, tuple(btf.name(words[3 + 2 * i]) for i in range(count)))


def variables(btf: Btf, section: str) -> dict[str, Member]:
    """Return the variables of a data section, such as `.rodata`, by name."""
    number = btf.find(section, _DATASEC)
    if number is None:
        return {}
    count = btf.words(number, 2)[1] & 0xFFFF
    words = btf.words(number, 3 + 3 * count)
    members_of = {}
    for i in range(3, 3 + 3 * count, 3):
        name = btf.name(btf.words(words[i], 1)[0])
        members_of[name] = Member(name, words[i + 1], words[i + 2])
    return members_of


def members(btf: Btf, structure: str) -> tuple[int, tuple[Member, ...]]:
    """Return a structure's size and its fields. Raises KeyError if no structure has this name."""
    number = btf.find(structure, _STRUCT)
    if number is None:
        raise KeyError(structure)
    _, info, size = btf.words(number, 3)
    count = info & 0xFFFF
    words = btf.words(number, 3 + 3 * count)
    starts = range(3, 3 + 3 * count, 3)
    return size, tuple(
        Member(btf.name(words[i]), (words[i + 2] & 0xFFFFFF) // 8, _size(btf, words[i + 1])) for i in starts
    )


def _size(btf: Btf, number: int) -> int:
    """Return the size of a type in bytes. The agent's structures have no pointers."""
    _, info, value = btf.words(number, 3)
    kind = info >> 24 & 0x1F
    if kind in _MODIFIERS:
        return _size(btf, value)
    if kind == _ARRAY:
        element, _, count = btf.words(number, 6)[3:]
        return _size(btf, element) * count
    return value
