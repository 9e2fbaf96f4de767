"""Reads the parameter names of kernel functions from BTF (Documentation/bpf/btf.rst of the kernel)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_FUNC, _FUNC_PROTO = 12, 13

# Bytes that follow the three words of a record, by its kind: once for a record, and once for each member.
_ONCE = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_KINDS = 20


class BtfError(ValueError):
    """The bytes are not valid BTF."""


def functions(data: bytes, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The parameter names of each named function that exists, in order. Raises BtfError."""
    if len(data) < _HEADER.size:
        raise BtfError("too short for a header")
    magic, _, _, head, types_at, types_size, texts_at, texts_size = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise BtfError(f"the magic number is {magic:#x}, not {_MAGIC:#x}")
    types = data[head + types_at : head + types_at + types_size]
    texts = data[head + texts_at : head + texts_at + texts_size]
    wanted = {offset: name for name in names for offset in _offsets(texts, name)}
    found, places = _walk(types, wanted)
    return {name: _parameters(types, texts, places[proto]) for name, proto in found.items()}


def _offsets(texts: bytes, name: str) -> list[int]:
    """The offset of a name, if it exists. Both NUL bytes must match: a longer name may end with this one."""
    needle = b"\0" + name.encode() + b"\0"
    at = texts.find(needle)
    return [at + 1] if at >= 0 else []


def _walk(types: bytes, wanted: dict[int, str]) -> tuple[dict[str, int], list[int]]:
    """The type numbers of the wanted functions' prototypes, and the offset of each type by its number."""
    unpack = struct.Struct("<3I").unpack_from
    places = [0]
    found: dict[str, int] = {}
    at, end = 0, len(types)
    while at < end:
        places.append(at)
        name, info, value = unpack(types, at)
        kind = info >> 24 & 0x1F
        if kind >= _KINDS:
            raise BtfError(f"unknown kind {kind}")
        if kind == _FUNC and name in wanted:
            found[wanted[name]] = value
        at += 12 + _ONCE.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)
    return found, places


def _parameters(types: bytes, texts: bytes, at: int) -> tuple[str, ...]:
    _, info, _ = struct.unpack_from("<3I", types, at)
    if info >> 24 & 0x1F != _FUNC_PROTO:
        raise BtfError("a function without a prototype")
    offsets = (struct.unpack_from("<I", types, at + 12 + 8 * i)[0] for i in range(info & 0xFFFF))
    return tuple(texts[offset : texts.index(b"\0", offset)].decode("ascii", "replace") for offset in offsets)
