"""What bcc is given to compile: the programs' own source, with three things done to it by name.

bcc keeps each function's instructions and forgets what they refer to. So whatever has an address elsewhere,
a function, a map, a constant, becomes a number that is told apart afterwards (`object_file`):

    __noinline T f(..) {..}         a function of its own, called by its number as helpers are
    struct {..} m SEC(".maps");     a few functions that return its sizes; `&m` is its number
    const volatile T c = ..;        a place in read-only data, by its number

All of it lies in a file beside the main one, because bcc rewrites what functions of the main file are given;
there each is only declared, without its parameters, which is what makes bcc keep it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = "fim.bcc.c"
_INSTEAD = {"kernel.h": "bcc.h"}
BODY = "body.h"

# Numbers of what has an address elsewhere; below 1 << 31, and far from any helper.
CALL, DATA = 0x46000000, 0x46100000
LIMIT = 1 << 16

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_FUNCTION = re.compile(r"^__noinline (\w+) (\w+)\(([^)]*)\)", re.MULTILINE)
_MAP = re.compile(r'^struct \{\n([^}]*)\} (\w+) SEC\("\.maps"\);', re.MULTILINE)
_CONSTANT = re.compile(r"^const volatile (\w+) (\w+)(\[\w+\])? = (?:0|\{\});", re.MULTILINE)
_FIELD = re.compile(r"__(uint|type)\((\w+), (.*)\);")

# What is asked of a map: its field in the definition, or the size of a type.
MAP_FIELDS = ("type", "key_size", "value_size", "max_entries", "map_flags")
_SIZE_OF = {"key": "key_size", "value": "value_size"}


class Function(NamedTuple):
    """A function that the verifier looks at by itself, and the C types of its result and arguments."""

    name: str
    result: str
    arguments: tuple[str, ...]


class Constant(NamedTuple):
    """A place in read-only data: one of a type, or `many`."""

    name: str
    kind: str
    many: bool


class Source(NamedTuple):
    """The two files' texts, the functions to keep, and what the numbers in the compiled code stand for."""

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
    """The symbol of a function that is called by number."""
    return f"fn_{name}"


def size(name: str, field: str) -> str:
    """The symbol of the function that returns a map's field, or a constant's size."""
    return f"size_{field}__{name}"


def read(folder: Path, programs: tuple[str, ...], root: str = ROOT) -> Source:
    """The source in a folder, made ready for the programs of these symbols."""
    text = _flat(folder, root, set())
    functions = tuple(_function(*found) for found in _FUNCTION.findall(text))
    maps = tuple(name for _, name in _MAP.findall(text))
    constants = tuple(Constant(name, kind, bool(many)) for kind, name, many in _CONSTANT.findall(text))
    kept = _kept(functions, programs, maps, constants)
    main = "".join(f"{kind} {name}();\n" for name, kind in kept.items()) + f'#include "{BODY}"\n'
    found = Source(main, "", tuple(kept), functions, maps, constants)
    return found._replace(body=_PRELUDE + _numbered(text, found))


def _kept(
    functions: tuple[Function, ...],
    programs: tuple[str, ...],
    maps: tuple[str, ...],
    constants: tuple[Constant, ...],
) -> dict[str, str]:
    """All functions that are looked for afterwards, each with its result's type."""
    return {
        **{own(one.name): one.result for one in functions},
        **dict.fromkeys(programs, "int"),
        **{size(name, field): "int" for name in maps for field in MAP_FIELDS},
        **{size(one.name, "constant"): "int" for one in constants},
    }


def _numbered(text: str, source: Source) -> str:
    """The text with numbers for what has an address elsewhere."""
    data = {name: number for number, name in enumerate(source.data)}
    called = {one.name: number for number, one in enumerate(source.functions)}
    text = _FUNCTION.sub(lambda found: _as_called(found, called[found[2]]), text)
    text = _MAP.sub(_as_sizes, text)
    text = _CONSTANT.sub(lambda found: _as_place(found, data[found[2]]), text)
    for name in source.maps:
        text = re.sub(rf"&{name}\b(?!->|\.)", f"FIM_DATA({data[name]})", text)
    return text


_PRELUDE = f"#define FIM_DATA(number) ((void *)bpf_pseudo_fd(1, {DATA:#x} + (number)))\n"


def _flat(folder: Path, name: str, seen: set[str]) -> str:
    name = _INSTEAD.get(name, name)
    if name in seen:
        return ""
    seen.add(name)
    return _INCLUDE.sub(lambda found: _flat(folder, found[1], seen), (folder / name).read_text("ascii"))


def _function(result: str, name: str, parameters: str) -> Function:
    given = [one.split() for one in parameters.split(",") if one.strip() != "void"]
    return Function(name, result, tuple(words[0] for words in given))


def _as_called(found: re.Match[str], number: int) -> str:
    result, name, parameters = found.groups()
    pointer = f"static {result} (*{name})({parameters}) = (void *){CALL + number:#x};"
    return f"{pointer}\n{result} {own(name)}({parameters})"


def _as_sizes(found: re.Match[str]) -> str:
    fields = dict.fromkeys(MAP_FIELDS, "0")
    for kind, field, value in _FIELD.findall(found[1]):
        fields[_SIZE_OF.get(field, field)] = f"sizeof({value})" if kind == "type" else value
    return "\n".join(_sized(size(found[2], field), value) for field, value in fields.items())


def _as_place(found: re.Match[str], number: int) -> str:
    kind, name, many = found.groups()
    place = f"(const volatile {kind} *)FIM_DATA({number})"
    shown = f"({place})" if many else f"(*{place})"
    return f"#define {name} {shown}\n" + _sized(size(name, "constant"), f"sizeof({kind}{many or ''})")


def _sized(name: str, value: str) -> str:
    return f"int {name}(void)\n{{\n\treturn {value};\n}}"
