"""Prepares the programs' source for bcc, with placeholder numbers for functions, maps and constants.

bcc returns each function's instructions, but not what they refer to. So each reference to another object
becomes a number, which `object_file` replaces after compiling:

    __noinline T f(..) {..}         a separate function, called by its number like a helper
    FIM_CELLS(m, T, n);             a map of one value for each cell
    struct {..} m SEC(".maps");     functions that return the map's sizes; `&m` becomes a number
    const volatile T c = ..;        a place in read-only data; `c` becomes a number

The code is in a second file that the main file includes, because bcc rewrites the arguments of functions of
the main file. The main file declares each function without parameters, so that bcc keeps it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = "fim.bcc.c"
_INSTEAD = {"kernel.h": "bcc.h"}
BODY = "body.h"

# Placeholder numbers; below 1 << 31, and far from the number of any helper.
CALL, DATA = 0x46000000, 0x46100000
LIMIT = 1 << 16

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_FUNCTION = re.compile(r"^__noinline (\w+) (\w+)\(([^)]*)\)", re.MULTILINE)
_MAP = re.compile(r'^struct \{\n([^}]*)\} (\w+) SEC\("\.maps"\);', re.MULTILINE)
_CONSTANT = re.compile(r"^const volatile (\w+) (\w+)(\[\w+\])? = (?:0|\{\});", re.MULTILINE)
_CELLS = re.compile(r"^FIM_CELLS\((\w+), ([\w ]+), ([^;]+)\);", re.MULTILINE)
_CELL = re.compile(r"\bfim_cell\((?!map,)")
_FIELD = re.compile(r"__(uint|type)\((\w+), (.*)\);")

# The fields of a map's definition; two of them are sizes of types.
MAP_FIELDS = ("type", "key_size", "value_size", "max_entries", "map_flags")
_SIZE_OF = {"key": "key_size", "value": "value_size"}


class Function(NamedTuple):
    """A function that the verifier checks separately, with the C types of its result and arguments."""

    name: str
    result: str
    arguments: tuple[str, ...]


class Constant(NamedTuple):
    """A constant in read-only data: a value of a type, or an array (`many`)."""

    name: str
    kind: str
    many: bool


class Source(NamedTuple):
    """The texts of both files, the functions to keep, and the meaning of the placeholder numbers."""

    main: str
    body: str
    kept: tuple[str, ...]
    functions: tuple[Function, ...]
    maps: tuple[str, ...]
    constants: tuple[Constant, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """Maps and constants, in the order of their numbers."""
        return (*self.maps, *(one.name for one in self.constants))


def own(name: str) -> str:
    """Return the symbol of a function that is called by number."""
    return f"fn_{name}"


def size(name: str, field: str) -> str:
    """Return the symbol of the function that returns a map's field, or a constant's size."""
    return f"size_{field}__{name}"


def read(folder: Path, programs: tuple[str, ...], root: str = ROOT) -> Source:
    """Read the source in a folder and prepare it for the programs with these symbols."""
    text = _as_maps(_flat(folder, root, set()))
    functions = tuple(_function(*groups) for groups in _FUNCTION.findall(text))
    maps = tuple(name for _, name in _MAP.findall(text))
    constants = tuple(Constant(name, kind, bool(many)) for kind, name, many in _CONSTANT.findall(text))
    kept = _kept(functions, programs, maps, constants)
    main = "".join(f"{kind} {name}();\n" for name, kind in kept.items()) + f'#include "{BODY}"\n'
    source = Source(main, "", tuple(kept), functions, maps, constants)
    return source._replace(body=_PRELUDE + _numbered(text, source))


def _kept(
    functions: tuple[Function, ...],
    programs: tuple[str, ...],
    maps: tuple[str, ...],
    constants: tuple[Constant, ...],
) -> dict[str, str]:
    """Return all functions that bcc must keep, each with the type of its result."""
    return {
        **{own(one.name): one.result for one in functions},
        **dict.fromkeys(programs, "int"),
        **{size(name, field): "int" for name in maps for field in MAP_FIELDS},
        **{size(one.name, "constant"): "int" for one in constants},
    }


def _numbered(text: str, source: Source) -> str:
    """Return the text with placeholder numbers for functions, maps and constants."""
    data = {name: number for number, name in enumerate(source.data)}
    called = {one.name: number for number, one in enumerate(source.functions)}
    text = _FUNCTION.sub(lambda match: _as_called(match, called[match[2]]), text)
    text = _MAP.sub(_as_sizes, text)
    text = _CONSTANT.sub(lambda match: _as_data(match, data[match[2]]), text)
    for name in source.maps:
        text = re.sub(rf"&{name}\b(?!->|\.)", f"FIM_DATA({data[name]})", text)
    return text


# What maps.h says instead where libbpf loads the object.
_MAP_OF_CELLS = r"""struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, \3);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, \2);
} \1 SEC(".maps");"""

_PRELUDE = f"#define FIM_DATA(number) ((void *)bpf_pseudo_fd(1, {DATA:#x} + (number)))\n"


def _flat(folder: Path, name: str, seen: set[str]) -> str:
    name = _INSTEAD.get(name, name)
    if name in seen:
        return ""
    seen.add(name)
    return _INCLUDE.sub(lambda match: _flat(folder, match[1], seen), (folder / name).read_text("ascii"))


def _as_maps(text: str) -> str:
    """Return the text with each array in a section of its own as a map, which is passed by its address."""
    return _CELL.sub("fim_cell(&", _CELLS.sub(_MAP_OF_CELLS, text))


def _function(result: str, name: str, parameters: str) -> Function:
    declared = [parameter.split() for parameter in parameters.split(",") if parameter.strip() != "void"]
    return Function(name, result, tuple(words[0] for words in declared))


def _as_called(match: re.Match[str], number: int) -> str:
    result, name, parameters = match.groups()
    pointer = f"static {result} (*{name})({parameters}) = (void *){CALL + number:#x};"
    return f"{pointer}\n{result} {own(name)}({parameters})"


def _as_sizes(match: re.Match[str]) -> str:
    fields = dict.fromkeys(MAP_FIELDS, "0")
    for kind, field, value in _FIELD.findall(match[1]):
        fields[_SIZE_OF.get(field, field)] = f"sizeof({value})" if kind == "type" else value
    return "\n".join(_function_returning(value, size(match[2], field)) for field, value in fields.items())


def _as_data(match: re.Match[str], number: int) -> str:
    kind, name, many = match.groups()
    pointer = f"(const volatile {kind} *)FIM_DATA({number})"
    expression = f"({pointer})" if many else f"(*{pointer})"
    returns_size = _function_returning(f"sizeof({kind}{many or ''})", size(name, "constant"))
    return f"#define {name} {expression}\n{returns_size}"


def _function_returning(value: str, name: str) -> str:
    return f"int {name}(void)\n{{\n\treturn {value};\n}}"
