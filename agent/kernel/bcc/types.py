"""Builds the BTF of an object that bcc compiled, with only the types that libbpf and the kernel read.

The format is that of the kernel's Documentation/bpf/btf.rst: a header, the types, which refer to each other
by number from 1, and the names. The verifier needs it to check functions separately; libbpf 1.x needs it to
find maps and constants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

_MAGIC, _VERSION = 0xEB9F, 1
_HEADER = struct.Struct("=HBBIIIII")  # magic, version, flags, length, then offset and length of two parts
_EXT_HEADER = struct.Struct("=HBBIIIII")

_INT, _PTR, _ARRAY, _STRUCT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 1, 2, 3, 4, 12, 13, 14, 15
_GLOBAL = 1
_SIGNED = 1 << 24

# C types of arguments, results and constants: size in bytes, and whether the type is signed.
_INTS = {
    "int": (4, True),
    "long": (8, True),
    "__s32": (4, True),
    "__s64": (8, True),
    "__u8": (1, False),
    "__u16": (2, False),
    "__u32": (4, False),
    "__u64": (8, False),
}


class Types:
    """A growing list of types; each method that adds a type returns its number."""

    def __init__(self) -> None:
        self._types = bytearray()
        self._names = bytearray(1)
        self._known: dict[tuple[str, int], int] = {}
        self._count = 0

    def name(self, text: str) -> int:
        """Add a name and return its offset; an empty name has offset 0."""
        if not text:
            return 0
        offset = len(self._names)
        self._names += text.encode("ascii") + b"\0"
        return offset

    def integer(self, name: str) -> int:
        """Add an integer type of `_INTS`. Raises KeyError for any other."""
        if ("int", known := _INTS[name][0] + 16 * _INTS[name][1]) not in self._known:
            size, signed = _INTS[name]
            bits = size * 8 | (_SIGNED if signed else 0)
            self._known["int", known] = self._add(name, _INT, 0, size, (bits,))
        return self._known["int", known]

    def width(self, name: str) -> int:
        """Return the size in bytes of a type of `_INTS`."""
        return _INTS[name][0]

    def array(self, element: int, count: int) -> int:
        """Add an array of so many elements."""
        return self._add("", _ARRAY, 0, 0, (element, self.integer("__u32"), count))

    def function(self, name: str, result: int, arguments: Iterable[int]) -> int:
        """Add a function that the verifier checks separately. Argument type 0 is a void pointer."""
        words = [word for one in arguments for word in (self.name("argument"), one or self._anything())]
        prototype = self._add("", _FUNC_PROTO, len(words) // 2, result, words)
        return self._add(name, _FUNC, _GLOBAL, prototype)

    def map(self, name: str, fields: Mapping[str, int]) -> int:
        """Add the definition of a map. Each number is the length of an array that a field points to."""
        words: list[int] = []
        for index, (field, value) in enumerate(fields.items()):
            pointer = self._add("", _PTR, 0, self.array(self.integer("int"), value))
            words += (self.name(field), pointer, index * 64)
        return self.variable(name, self._add("", _STRUCT, len(fields), 8 * len(fields), words))

    def variable(self, name: str, kind: int) -> int:
        """Add a global variable."""
        return self._add(name, _VAR, 0, kind, (_GLOBAL,))

    def section(self, name: str, variables: Iterable[tuple[int, int, int]]) -> int:
        """Add a data section, from each variable's number, offset and size."""
        words = [word for variable in variables for word in variable]
        size = words[-2] + words[-1] if words else 0
        return self._add(name, _DATASEC, len(words) // 3, size, words)

    def encode(self) -> bytes:
        """Return the contents of section `.BTF`."""
        types, names = bytes(self._types), bytes(self._names)
        header = (_MAGIC, _VERSION, 0, _HEADER.size, 0, len(types), len(types), len(names))
        return _HEADER.pack(*header) + types + names

    def _anything(self) -> int:
        if ("ptr", 0) not in self._known:
            self._known["ptr", 0] = self._add("", _PTR, 0, 0)
        return self._known["ptr", 0]

    def _add(self, name: str, kind: int, count: int, value: int, words: Iterable[int] = ()) -> int:
        record = (self.name(name), kind << 24 | count, value, *words)
        self._types += struct.pack(f"={len(record)}I", *record)
        self._count += 1
        return self._count


def extension(types: Types, sections: Mapping[str, Iterable[tuple[int, int]]]) -> bytes:
    """Return the contents of `.BTF.ext`, from the offset and type number of each function of each section.

    Call it before `types` is encoded, because it adds names.
    """
    infos = bytearray(struct.pack("=I", 8))
    for name, functions in sections.items():
        records = tuple(functions)
        infos += struct.pack("=2I", types.name(name), len(records))
        for offset, number in records:
            infos += struct.pack("=2I", offset, number)
    return _EXT_HEADER.pack(_MAGIC, _VERSION, 0, _EXT_HEADER.size, 0, len(infos), len(infos), 0) + bytes(
        infos
    )
