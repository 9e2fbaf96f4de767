"""Decodes a record of the kernel to an `Event`. The layout is `bpf/event.h`; a test compares both.

The decoder does not trust the record: it checks every length and offset, and raises only `DecodeError`,
whatever the bytes are.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from agent.errors import AgentError
from agent.events.model import Event, EventType, File, FileFlags

VERSION = 4
PATH_MAX = 4096
PARENTS = 3
ARGS_MAX = 4096  # FIM_ARGS_MAX: the kernel copies no more bytes of the arguments

# struct fim_event up to its files, and struct fim_file, which follows twice.
HEAD = struct.Struct("=HHIQQHHi13Ii16s6HI")
FILE = struct.Struct("=Q4Q4I2II4I4HI")
SIZE = HEAD.size + 2 * FILE.size

_TWO_FILES = frozenset({EventType.RENAME, EventType.LINK, EventType.EXEC})
_ROOT_UNKNOWN = 0xFFFF  # FIM_ROOT_UNKNOWN
_TYPES = {int(kind): kind for kind in EventType}
_KNOWN = int(~FileFlags.NONE)
_AS_GIVEN = int(FileFlags.AS_GIVEN)
# The kernel's value (fcntl.h of x86 and arm64); libc defines 0 for 64-bit programs.
_O_LARGEFILE = 0o400000 if os.uname().machine == "aarch64" else 0o100000
_TAIL = int(FileFlags.TRUNCATED | FileFlags.DETACHED)


class DecodeError(AgentError):
    """A record that does not follow the wire format."""


class Head(NamedTuple):
    """The fields of struct fim_event before its files, in order; a text is an offset and a length."""

    version: int
    header: int
    size: int
    time: int
    cgroup: int
    type: int
    family: int
    retval: int
    pid: int
    tid: int
    ppid: int
    uid: int
    gid: int
    auid: int
    mount_ns: int
    generation: int
    serial: int
    flags: int
    mode: int
    new_uid: int
    new_gid: int
    exit_code: int
    comm: bytes
    name_at: int
    name_length: int
    source_at: int
    source_length: int
    root_at: int
    root_length: int
    child_pid: int


def decode(record: bytes) -> Event:
    """Decode a record. Raises DecodeError, and nothing else, if it is not a valid record of this version."""
    if len(record) < SIZE:
        raise DecodeError(f"the record has {len(record)} bytes, less than the header's {SIZE}")
    head = Head._make(HEAD.unpack_from(record))
    _check(head, len(record))
    kind = _TYPES[head.type]
    body = memoryview(record)[SIZE : head.size]
    comm, _, _ = head.comm.partition(b"\0")
    return Event(
        type=kind, time_ns=head.time, pid=head.pid, tid=head.tid, ppid=head.ppid, uid=head.uid, gid=head.gid,
        auid=head.auid, comm=comm, cgroup_id=head.cgroup, mount_ns=head.mount_ns, retval=head.retval,
        flags=_caller_flags(kind, head.flags), mode=head.mode, file=_file(record, HEAD.size, body),
        file2=_second(record, body) if kind in _TWO_FILES else None,
        name=_text(body, head.name_at, head.name_length),
        source=_text(body, head.source_at, head.source_length) if kind is not EventType.EXEC else b"",
        args=_args(body, head.source_at, head.source_length) if kind is EventType.EXEC else (),
        args_truncated=kind is EventType.EXEC and _is_cut(head),
        new_uid=head.new_uid, new_gid=head.new_gid, generation=head.generation, serial=head.serial,
        program=head.family, exit_code=head.exit_code, root=_root(head, body), child_pid=head.child_pid,
    )  # fmt: skip


def _caller_flags(kind: EventType, flags: int) -> int:
    """Return the flags that the caller gave.

    The kernel adds O_LARGEFILE to every open of a 64-bit program (`force_o_largefile`).
    """
    return flags & ~_O_LARGEFILE if kind is EventType.OPEN else flags


def _check(head: Head, length: int) -> None:
    if head.version != VERSION or head.header != SIZE:
        raise DecodeError(
            f"the record has wire version {head.version} with a header of {head.header} bytes; "
            f"this agent reads version {VERSION} with {SIZE}"
        )
    if not SIZE <= head.size <= length:
        raise DecodeError(f"the record has {length} bytes but its header says {head.size}")
    if head.type not in _TYPES:
        raise DecodeError(f"unknown event type {head.type}")


def _slice(body: memoryview, start: int, length: int) -> bytes:
    if start + length > len(body):
        raise DecodeError(f"the text at {start}+{length} lies outside the payload of {len(body)} bytes")
    return bytes(body[start : start + length])


def _text(body: memoryview, start: int, length: int) -> bytes:
    return _slice(body, start, length).partition(b"\0")[0] if length else b""


def _args(body: memoryview, start: int, length: int) -> tuple[bytes, ...]:
    """Split arguments at their terminators; a truncated last one has none."""
    whole = _slice(body, start, length)
    return tuple(whole.removesuffix(b"\0").split(b"\0")) if whole else ()


def _is_cut(head: Head) -> bool:
    """Whether arguments are missing: the copy is as long as it can be, or the kernel could not read any."""
    return head.source_length >= ARGS_MAX or not (head.source_at or head.source_length)


def _root(head: Head, body: memoryview) -> bytes:
    if head.root_length:
        return _path(_slice(body, head.root_at, head.root_length), 0)
    return b"" if head.root_at == _ROOT_UNKNOWN else b"/"


def _second(record: bytes, body: memoryview) -> File | None:
    """Return the second file; None if the kernel refused the call before it looked up the second name."""
    file = _file(record, HEAD.size + FILE.size, body)
    return file if file.path else None


def _file(record: bytes, at: int, body: memoryview) -> File:
    (
        inode, *identities, device, mount_id, mode, uid, gid, nlink, flags,
        epoch, epoch1, epoch2, epoch3, path_at, path_length, given_at, given_length, _,
    ) = FILE.unpack_from(record, at)  # fmt: skip
    if not device and not flags:
        return File()  # an event without a file, or a name that the kernel did not look up
    path = _path(_slice(body, path_at, path_length), flags)
    if flags & _AS_GIVEN:
        path = join(path, _text(body, given_at, given_length))
    return File(
        path=path, inode=inode, device=device, mount_id=mount_id, mode=mode, uid=uid, gid=gid, nlink=nlink,
        flags=FileFlags(flags & _KNOWN), identities=tuple(identities),
        epochs=(epoch, epoch1, epoch2, epoch3),
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
