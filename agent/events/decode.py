"""Decodes a record of the kernel to an `Event`. The layout is `bpf/event.h`; a test compares both.

The decoder does not trust the record: it checks every length and offset, and raises only `DecodeError`,
whatever the bytes are.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from agent.errors import AgentError
from agent.events.model import Event, EventType, File, FileFlags

VERSION = 4
PATH_MAX = 4096
ARGS_MAX = 4096  # FIM_ARGS_MAX: the kernel copies no more bytes of the arguments

# struct fim_event up to its files, and struct fim_file, which follows twice.
HEAD = struct.Struct("=HHIQQHHi13Ii16s6HI")
FILE = struct.Struct("=Q4Q4I2II4I4HI")
SIZE = HEAD.size + 2 * FILE.size
_HEAD_AND_FILE = struct.Struct(HEAD.format + FILE.format.removeprefix("="))

_TWO_FILES = frozenset({EventType.RENAME, EventType.LINK, EventType.EXEC})
_ROOT_UNKNOWN = 0xFFFF  # FIM_ROOT_UNKNOWN
_TYPES = {int(kind): kind for kind in EventType}
_KNOWN = int(~FileFlags.NONE)
_FLAGS = [FileFlags(value) for value in range(_KNOWN + 1)]  # an enumeration is slow to make from a number
# The kernel's value (fcntl.h of x86 and arm64); libc defines 0 for 64-bit programs.
_O_LARGEFILE = 0o400000 if os.uname().machine == "aarch64" else 0o100000
_TAIL = int(FileFlags.TRUNCATED | FileFlags.DETACHED)


class DecodeError(AgentError):
    """A record that does not follow the wire format."""


def decode(record: bytes) -> Event:
    """Decode a record. Raises DecodeError, and nothing else, if it is not a valid record of this version."""
    if len(record) < SIZE:
        raise DecodeError(f"the record has {len(record)} bytes, less than the header's {SIZE}")
    # All fields in one step, and arguments by position: that is half of the time for each event.
    (
        version, header, size, time_ns, cgroup, number, family, retval, pid, tid, ppid, uid, gid, auid,
        mount_ns, generation, serial, flags, mode, new_uid, new_gid, exit_code, comm, name_at, name_length,
        source_at, source_length, root_at, root_length, child_pid, *file,
    ) = _HEAD_AND_FILE.unpack_from(record)  # fmt: skip
    if version != VERSION or header != SIZE or not SIZE <= size <= len(record) or number not in _TYPES:
        raise _refused(version, header, size, number, len(record))
    kind = _TYPES[number]
    text = record[SIZE:size]
    source: bytes = b""
    args: tuple[bytes, ...] = ()
    cut = False
    if kind is EventType.EXEC:
        args = _args(text, source_at, source_length)
        cut = _is_cut(source_at, source_length)
    elif source_length:
        source = _text(text, source_at, source_length)
    if kind is EventType.OPEN:
        flags &= ~_O_LARGEFILE  # the kernel adds it to every open of a 64-bit program (`force_o_largefile`)
    return Event(
        kind, time_ns, pid, tid, ppid, uid, gid, auid, comm.partition(b"\0")[0], cgroup, mount_ns, retval,
        flags, mode, _file(text, file), _second(record, text) if kind in _TWO_FILES else None,
        _text(text, name_at, name_length) if name_length else b"", source, new_uid, new_gid, generation,
        serial, family, args, cut, exit_code, _root(text, root_at, root_length), child_pid,
    )  # fmt: skip


def _refused(version: int, header: int, size: int, number: int, length: int) -> DecodeError:
    if version != VERSION or header != SIZE:
        return DecodeError(
            f"the record has wire version {version} with a header of {header} bytes; "
            f"this agent reads version {VERSION} with {SIZE}"
        )
    if not SIZE <= size <= length:
        return DecodeError(f"the record has {length} bytes but its header says {size}")
    return DecodeError(f"unknown event type {number}")


def _slice(text: bytes, start: int, length: int) -> bytes:
    if start + length > len(text):
        raise DecodeError(f"the text at {start}+{length} lies outside the payload of {len(text)} bytes")
    return text[start : start + length]


def _text(text: bytes, start: int, length: int) -> bytes:
    return _slice(text, start, length).partition(b"\0")[0] if length else b""


def _args(text: bytes, start: int, length: int) -> tuple[bytes, ...]:
    """Split arguments at their terminators; a truncated last one has none."""
    whole = _slice(text, start, length)
    return tuple(whole.removesuffix(b"\0").split(b"\0")) if whole else ()


def _is_cut(start: int, length: int) -> bool:
    """Whether arguments are missing: the copy is as long as it can be, or the kernel could not read any."""
    return length >= ARGS_MAX or not (start or length)


def _root(text: bytes, start: int, length: int) -> bytes:
    if length:
        return _path(_slice(text, start, length), 0)
    return b"" if start == _ROOT_UNKNOWN else b"/"


def _second(record: bytes, text: bytes) -> File | None:
    """Return the second file; None if the kernel refused the call before it looked up the second name."""
    file = _file(text, FILE.unpack_from(record, HEAD.size + FILE.size))
    return file if file.path else None


def _file(text: bytes, fields: Sequence[int]) -> File:
    """Return the file with these fields of struct fim_file."""
    (
        inode, identity, identity1, identity2, identity3, device, mount_id, mode, uid, gid, nlink, flags,
        epoch, epoch1, epoch2, epoch3, path_at, path_length, given_at, given_length, _,
    ) = fields  # fmt: skip
    if not device and not flags:
        return File()  # an event without a file, or a name that the kernel did not look up
    path = _path(_slice(text, path_at, path_length), flags)
    if given_length:
        path = join(path, _text(text, given_at, given_length))
    return File(
        path, inode, device, mount_id, mode, uid, gid, nlink, _FLAGS[flags & _KNOWN],
        (identity, identity1, identity2, identity3), (epoch, epoch1, epoch2, epoch3),
    )  # fmt: skip


def _path(components: bytes, flags: int) -> bytes:
    """Join components, last one first, each with a terminator; without a known root there is no slash."""
    if components and not components.endswith(b"\0"):
        raise DecodeError("a path has no terminator")
    names = components.split(b"\0")[-2::-1]
    path = b"/".join(names)
    return path if flags & _TAIL else b"/" + path


def join(base: bytes, given: bytes) -> bytes:
    """Append the caller's path to the directory that it starts from, without following links.

    For an absolute path the base is the caller's root directory, which `..` does not leave.
    """
    parts = [part for part in base.split(b"/") if part]
    floor = len(parts) if given.startswith(b"/") else 0
    for part in given.split(b"/"):
        if part == b"..":
            del parts[max(floor, len(parts) - 1) :]
        elif part not in (b"", b"."):
            parts.append(part)
    return (b"/" if base.startswith(b"/") else b"") + b"/".join(parts)
