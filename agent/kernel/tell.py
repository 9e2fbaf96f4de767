"""Hash tables that programs in the kernel write for us: `bpf/tell.bpf.c` says why."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping

from agent.errors import KernelError
from agent.kernel.libbpf import Map, Program

PREFIX = "tell__"
SECTION = "syscall"
PROGRAMS = tuple(f"{PREFIX}{act}" for act in ("approvers__update", "approvers__delete", "discarders__update"))
_ERROR = struct.Struct("=q")


class Told:
    """One map, written by the programs `tell__MAP__update` and `tell__MAP__delete`."""

    def __init__(self, table: Map, programs: Mapping[str, Program]) -> None:
        self._name = table.name
        self._nothing = bytes(table.value_size)
        self._programs = programs

    def update(self, key: bytes, value: bytes) -> None:
        """Insert or replace. Raises KernelError, as when there is no room."""
        if error := self._run("update", key, value):
            raise _failed(f"update {self._name}", error)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        error = self._run("delete", key, self._nothing)
        if error and error != errno.ENOENT:
            raise _failed(f"remove a key of {self._name}", error)
        return not error

    def _run(self, act: str, key: bytes, value: bytes) -> int:
        """The error number, or 0."""
        program = self._programs[f"{PREFIX}{self._name}__{act}"]
        left = program.run(key + value + bytes(_ERROR.size))
        return -int(_ERROR.unpack_from(left, len(key) + len(value))[0])


def _failed(what: str, error: int) -> KernelError:
    return KernelError(f"{what}: {os.strerror(error)} ({errno.errorcode.get(error, error)})")
