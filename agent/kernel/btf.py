"""What type information says: the parameters of a kernel's functions, the layout of our own structures.

The numbers of kinds are the kernel's, include/uapi/linux/btf.h.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.kernel.libbpf import Btf

KERNEL = "/sys/kernel/btf/vmlinux"

_ARRAY, _STRUCT, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _DATASEC = 3, 4, 8, 9, 10, 11, 15
FUNC = 12
_MODIFIERS = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT}


class Member(NamedTuple):
    """A field of a structure: offset and size in bytes."""

    name: str
    offset: int
    size: int


class Function(NamedTuple):
    """A function's number among the types, and the names of its parameters in order."""

    number: int
    parameters: tuple[str, ...]


def function(btf: Btf, name: str) -> Function | None:
    """A function by its name, or None. libbpf compares all types for it: do not ask twice."""
    number = btf.find(name, FUNC)
    if number is None:
        return None
    prototype = btf.words(number, 3)[2]
    count = btf.words(prototype, 2)[1] & 0xFFFF
    words = btf.words(prototype, 3 + 2 * count)
    return Function(number, tuple(btf.name(words[3 + 2 * i]) for i in range(count)))


def variables(btf: Btf, section: str) -> dict[str, Member]:
    """The variables of a data section, such as `.rodata`, by name."""
    number = btf.find(section, _DATASEC)
    if number is None:
        return {}
    count = btf.words(number, 2)[1] & 0xFFFF
    words = btf.words(number, 3 + 3 * count)
    found = {}
    for i in range(3, 3 + 3 * count, 3):
        name = btf.name(btf.words(words[i], 1)[0])
        found[name] = Member(name, words[i + 1], words[i + 2])
    return found


def members(btf: Btf, structure: str) -> tuple[int, tuple[Member, ...]]:
    """A structure's size and its fields. Raises KeyError if there is none of that name."""
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
    """Bytes of a type; pointers do not occur in what is asked."""
    _, info, value = btf.words(number, 3)
    kind = info >> 24 & 0x1F
    if kind in _MODIFIERS:
        return _size(btf, value)
    if kind == _ARRAY:
        element, _, count = btf.words(number, 6)[3:]
        return _size(btf, element) * count
    return value
