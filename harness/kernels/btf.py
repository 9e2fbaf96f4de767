"""BPF type information as bytes: functions' parameters by name. The format is Documentation/bpf/btf.rst."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_FUNC, _FUNC_PROTO = 12, 13

# Bytes that follow the three words of a record, by its kind: some once, some for each of its members.
_ONCE = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_KINDS = 20


class BtfError(ValueError):
    """Bytes that are no type information."""


def functions(data: bytes, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The parameters of those of these functions that there are, by name, in order; raises BtfError."""
    if len(data) < _HEADER.size:
        raise BtfError("too short for a header")
    magic, _, _, head, types_at, types_size, texts_at, texts_size = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise BtfError(f"the magic is {magic:#x}")
    types = data[head + types_at : head + types_at + types_size]
    texts = data[head + texts_at : head + texts_at + texts_size]
    wanted = {offset: name for name in names for offset in _offsets(texts, name)}
    found, places = _walk(types, wanted)
    return {name: _parameters(types, texts, places[proto]) for name, proto in found.items()}


def _offsets(texts: bytes, name: str) -> list[int]:
    """Where a name stands whole; a longer one may end with it, and share its bytes."""
    needle = b"\0" + name.encode() + b"\0"
    at = texts.find(needle)
    return [at + 1] if at >= 0 else []


def _walk(types: bytes, wanted: dict[int, str]) -> tuple[dict[str, int], list[int]]:
    """The prototypes of the wanted functions, and where each type's record lies, by number."""
    unpack = struct.Struct("<3I").unpack_from
    places = [0]
    found: dict[str, int] = {}
    at, end = 0, len(types)
    while at < end:
        places.append(at)
        name, info, value = unpack(types, at)
        kind = info >> 24 & 0x1F
        if kind >= _KINDS:
            raise BtfError(f"kind {kind} is not known")
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
