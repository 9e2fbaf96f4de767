"""Writes hash tables through BPF programs, so that no tracing program is skipped meanwhile.

`bpf/map_writer.bpf.c` has the programs and the reason.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from agent.errors import KernelError
from agent.kernel.libbpf import Map, Object, Program

PREFIX = "write__"
SECTION = "syscall"
PROGRAMS = tuple(
    f"{PREFIX}{action}" for action in ("approvers__update", "approvers__delete", "discarders__update")
)
WRITTEN = ("approvers", "discarders")
_ERROR = struct.Struct("=q")


def works(path: Path) -> bool:
    """Return whether this kernel runs the programs of an object that write maps; try one on an empty map.

    The kernel needs no type information for it. False also if the kernel refuses the maps.
    """
    with closing(Object(str(path))) as opened:
        for name, program in opened.programs.items():
            program.choose(name in PROGRAMS)
        for name, table in opened.maps.items():
            if name not in WRITTEN:
                table.skip()
        try:
            opened.load()
            approvers = opened.maps["approvers"]
            key, value = bytes(approvers.key_size), bytes(approvers.value_size)
            MapWriter(approvers, opened.programs).update(key, value)
            return approvers.lookup(key) == value
        except KernelError:
            return False


class MapWriter:
    """Writes one map through the programs `write__MAP__update` and `write__MAP__delete`."""

    def __init__(self, table: Map, programs: Mapping[str, Program]) -> None:
        self._name = table.name
        self._empty_value = bytes(table.value_size)
        self._programs = programs

    def update(self, key: bytes, value: bytes) -> None:
        """Insert or replace an entry. Raises KernelError, for example if the map is full."""
        if error := self._run("update", key, value):
            raise _failed(f"update {self._name}", error)

    def delete(self, key: bytes) -> bool:
        """Remove a key; return False if the map does not have it."""
        error = self._run("delete", key, self._empty_value)
        if error and error != errno.ENOENT:
            raise _failed(f"remove a key of {self._name}", error)
        return not error

    def _run(self, action: str, key: bytes, value: bytes) -> int:
        """Run the program and return its error number, or 0."""
        program = self._programs[f"{PREFIX}{self._name}__{action}"]
        result = program.run(key + value + bytes(_ERROR.size))
        return -int(_ERROR.unpack_from(result, len(key) + len(value))[0])


def _failed(what: str, error: int) -> KernelError:
    return KernelError(f"{what}: {os.strerror(error)} ({errno.errorcode.get(error, error)})")
