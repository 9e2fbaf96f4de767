"""Builds an ELF object for libbpf, like one of clang's, from the instructions that bcc compiled.

The placeholder numbers of `source` become what they stand for: calls of functions and uses of maps and
constants, each with a relocation entry for libbpf. The format is that of elf(5), machine 247.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.kernel import map_writer
from agent.kernel.bcc import source as bcc_source
from agent.kernel.bcc.source import CALL, DATA, LIMIT, MAP_FIELDS, Source
from agent.kernel.bcc.types import Types, extension

_INSN = struct.Struct("=BBhi")  # opcode, registers, offset, immediate
_SYMBOL = struct.Struct("=IBBHQQ")
_RELOCATION = struct.Struct("=QQ")
_ELF = struct.Struct("=16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("=IIQQQQIIQQ")

_CALL, _LOAD, _MOVE, _WIDE = 0x85, 0x18, 0xB7, 16
_PSEUDO_CALL, _PSEUDO_MAP = 1, 1
_R_64, _R_CALL = 1, 10  # R_BPF_64_64, R_BPF_64_32
_PROGBITS, _SYMTAB, _STRTAB, _REL = 1, 2, 3, 9
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_GLOBAL_OBJECT, _GLOBAL_FUNCTION = 0x11, 0x12
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_RELOCATABLE, _BPF = 1, 247
_MAP_BYTES = 8 * len(MAP_FIELDS)
LICENSE = b"Dual BSD/GPL\0"


class Section(NamedTuple):
    """One section: its contents, and its symbols by name, each with offset and size."""

    name: str
    flags: int
    data: bytes
    symbols: Mapping[str, tuple[int, int]] = {}

    @property
    def symbol_type(self) -> int:
        """The type of all symbols of the section."""
        return _GLOBAL_FUNCTION if self.flags & _EXEC else _GLOBAL_OBJECT


def build(source: Source, code: Mapping[str, bytes], programs: Mapping[str, str]) -> bytes:
    """Return the object. `code` has the functions' instructions by symbol, `programs` has symbols by name.

    A program's section is the part of its name before `__`, or `syscall` for the programs of
    `agent.kernel.map_writer`. Raises KeyError for a symbol that was not compiled.
    """
    types = Types()
    kinds = sorted({_kind(name) for name in programs})
    own = {one.name: code[bcc_source.own(one.name)] for one in source.functions}
    texts = [_text(".text", own)] if own else []
    for kind in kinds:
        of_kind = {name: code[symbol] for name, symbol in programs.items() if _kind(name) == kind}
        texts.append(_text(kind, of_kind))
    data = [_maps(source, code, types)] + ([_constants(source, code, types)] if source.constants else [])
    numbers = _functions(source, programs, types)
    infos = {
        text.name: [(offset, numbers[name]) for name, (offset, _) in text.symbols.items()] for text in texts
    }
    ext = extension(types, infos)
    notes = [Section("license", _ALLOC | _WRITE, LICENSE), Section(".BTF", 0, types.encode())]
    return _file([*texts, *data, *notes, Section(".BTF.ext", 0, ext)], source)


def _kind(program: str) -> str:
    return map_writer.SECTION if program.startswith(map_writer.PREFIX) else program.partition("__")[0]


def constant(instructions: bytes) -> int:
    """Return the constant result of a function of two instructions. Raises ValueError for any other."""
    opcode, register, _, value = _INSN.unpack_from(instructions)
    if len(instructions) != 2 * _INSN.size or (opcode, register) != (_MOVE, 0):
        raise ValueError("the function does not return a constant")
    return int(value)


def relocations(instructions: bytes, source: Source) -> Iterator[tuple[int, str, int]]:
    """Yield the references in the code: offset, name and kind."""
    offset = 0
    while offset < len(instructions):
        opcode, registers, _, value = _INSN.unpack_from(instructions, offset)
        if opcode == _CALL and CALL <= value < CALL + LIMIT:
            yield offset, source.functions[value - CALL].name, _R_CALL
        elif opcode == _LOAD and registers >> 4 == _PSEUDO_MAP and DATA <= value < DATA + LIMIT:
            yield offset, source.data[value - DATA], _R_64
        offset += _WIDE if opcode == _LOAD else _INSN.size


def _text(name: str, functions: Mapping[str, bytes]) -> Section:
    symbols, data = {}, bytearray()
    for one, instructions in functions.items():
        symbols[one] = (len(data), len(instructions))
        data += instructions
    return Section(name, _ALLOC | _EXEC, bytes(data), symbols)


def _maps(source: Source, code: Mapping[str, bytes], types: Types) -> Section:
    symbols, variables = {}, []
    for place, name in enumerate(source.maps):
        values = {field: constant(code[bcc_source.size(name, field)]) for field in MAP_FIELDS}
        number = types.map(name, {field: value for field, value in values.items() if value})
        symbols[name] = (place * _MAP_BYTES, _MAP_BYTES)
        variables.append((number, *symbols[name]))
    types.section(".maps", variables)
    return Section(".maps", _ALLOC | _WRITE, bytes(_MAP_BYTES * len(symbols)), symbols)


def _constants(source: Source, code: Mapping[str, bytes], types: Types) -> Section:
    symbols, variables, end = {}, [], 0
    for one in source.constants:
        size = constant(code[bcc_source.size(one.name, "constant")])
        kind = types.integer(one.kind)
        number = types.variable(
            one.name, types.array(kind, size // types.width(one.kind)) if one.many else kind
        )
        symbols[one.name] = (end, size)
        variables.append((number, *symbols[one.name]))
        end += size + 7 & ~7
    types.section(".rodata", variables)
    return Section(".rodata", _ALLOC, bytes(end), symbols)


def _functions(source: Source, programs: Mapping[str, str], types: Types) -> dict[str, int]:
    numbers = {
        one.name: types.function(one.name, types.integer(one.result), map(types.integer, one.arguments))
        for one in source.functions
    }
    result = types.integer("int")
    return numbers | {name: types.function(name, result, (0,)) for name in programs}


def _file(sections: list[Section], source: Source) -> bytes:
    """Return the file: all sections, symbols, relocations, and the section table."""
    names, symbols, numbers = bytearray(1), bytearray(_SYMBOL.size), {}
    for index, section in enumerate(sections, start=1):
        for name, (offset, size) in section.symbols.items():
            numbers[name] = len(symbols) // _SYMBOL.size
            symbols += _SYMBOL.pack(len(names), section.symbol_type, 0, index, offset, size)
            names += name.encode("ascii") + b"\0"
    symtab = len(sections) + 1
    written = [(one.name, _PROGBITS, one.flags, _linked(one, source), 0, 0, 8, 0) for one in sections]
    written.append((".symtab", _SYMTAB, 0, bytes(symbols), symtab + 1, 1, 8, _SYMBOL.size))
    written.append((".strtab", _STRTAB, 0, bytes(names), 0, 0, 1, 0))
    for index, section in enumerate(sections, start=1):
        if entries := _entries(section, source, numbers):
            written.append((f".rel{section.name}", _REL, 0, entries, symtab, index, 8, _RELOCATION.size))
    return _table(written)


def _linked(section: Section, source: Source) -> bytes:
    """Return the section's code with placeholder numbers replaced, as clang leaves it for a linker."""
    if not section.flags & _EXEC:
        return section.data
    data = bytearray(section.data)
    for offset, _, kind in relocations(section.data, source):
        opcode, registers, place, _ = _INSN.unpack_from(data, offset)
        if kind == _R_CALL:
            _INSN.pack_into(data, offset, opcode, _PSEUDO_CALL << 4, place, -1)
        else:
            _INSN.pack_into(data, offset, opcode, registers & 0xF, place, 0)
    return bytes(data)


def _entries(section: Section, source: Source, numbers: Mapping[str, int]) -> bytes:
    if not section.flags & _EXEC:
        return b""
    references = relocations(section.data, source)
    return b"".join(_RELOCATION.pack(offset, numbers[name] << 32 | kind) for offset, name, kind in references)


def _table(sections: list[tuple[str, int, int, bytes, int, int, int, int]]) -> bytes:
    names, contents, headers = bytearray(1), bytearray(_ELF.size), bytearray(_SECTION.size)
    last = (".shstrtab", _STRTAB, 0, b"", 0, 0, 1, 0)
    for name, kind, flags, data, link, info, align, entry in (*sections, last):
        start = len(names)
        names += name.encode("ascii") + b"\0"
        content = bytes(names) if name == last[0] else data
        contents += bytes(-len(contents) % 8)
        place = len(contents)
        headers += _SECTION.pack(start, kind, flags, 0, place, len(content), link, info, align, entry)
        contents += content
    contents += bytes(-len(contents) % 8)
    count = len(headers) // _SECTION.size
    shape = (_ELF.size, 0, 0, _SECTION.size, count, count - 1)
    header = _ELF.pack(_IDENT, _RELOCATABLE, _BPF, 1, 0, 0, len(contents), 0, *shape)
    return header + bytes(contents[_ELF.size :]) + bytes(headers)
