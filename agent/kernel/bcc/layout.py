"""Where the kernel keeps what no header of it describes: looked for in its memory, and not in its version.

`struct mount` is private to fs/mount.h. Its beginning has not changed from 5.10 to 7.3; a mount's id and its
namespace lie behind, at places that differ with version and configuration. But every mount's id is known,
from /proc/self/fdinfo, and so is the namespace's number. What is the id in several mounts at one place is it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.kernel.libbpf import Link, Object

ROOT = "peek.bcc.c"
PROGRAM = "kprobe__peek"
_TARGETS = ("security_inode_getattr", "vfs_getattr")
_PLACES = ("/proc", "/sys", "/dev", "/run", "/", "/sys/fs/bpf", "/dev/pts", "/dev/shm", "/tmp")  # noqa: S108
_NAMESPACE = Path("/proc/self/ns/mnt")
_PEEK = struct.Struct("=IIQ512s")  # struct fim_peek
_KEY = struct.pack("=I", 0)
_KERNEL = (
    0xFF00_0000_0000_0000  # addresses from here on are the kernel's, with five levels of page tables too
)
_BYTES_OF_NAMESPACE = 256
_AT_LEAST = 3  # mounts to compare

Peek = Callable[[int, int], bytes]
"""Takes a descriptor and an address, 0 for the descriptor's mount; gives 512 bytes from there."""


class Layout(NamedTuple):
    """Offsets in bytes: in struct mount its id and its namespace, in struct mnt_namespace its number."""

    mount_id: int
    mount_ns: int
    namespace_inum: int


def observe(path: Path) -> Layout:
    """Look, by the program of an object that was compiled. Raises KernelError if it is not to be found."""
    with _peeking(path) as peek, _mounts() as mounts:
        return find(peek, mounts, _NAMESPACE.stat().st_ino)


def find(peek: Peek, mounts: dict[int, int], namespace: int) -> Layout:
    """The layout, from mounts as their ids by descriptor and the number of the namespace that they are in.

    Raises KernelError if there are too few mounts, or several places or none that fit.
    """
    if len(mounts) < _AT_LEAST:
        raise KernelError(f"{len(mounts)} mounts are too few to find out what one looks like")
    seen = {fd: peek(fd, 0) for fd in mounts}
    ids = [place for place in range(0, 512, 4) if all(_u32(seen[fd], place) == mounts[fd] for fd in seen)]
    if len(ids) != 1:
        raise KernelError(f"a mount's id is at {len(ids)} places of struct mount, not at one")
    some = next(iter(mounts))
    for place in _shared(list(seen.values())):
        for inum in _places(peek(some, _u64(seen[some], place)), namespace):
            return Layout(ids[0], place, inum)
    raise KernelError("struct mount does not lead to its namespace")


def _shared(mounts: Sequence[bytes]) -> Iterator[int]:
    """Where all have the same address of the kernel's."""
    for place in range(0, 512, 8):
        values = {_u64(one, place) for one in mounts}
        if len(values) == 1 and next(iter(values)) >= _KERNEL:
            yield place


def _places(data: bytes, number: int) -> list[int]:
    return [place for place in range(0, _BYTES_OF_NAMESPACE, 4) if _u32(data, place) == number]


@contextmanager
def _mounts() -> Iterator[dict[int, int]]:
    """The ids of different mounts, by descriptors of their roots or of what lies on them."""
    found: dict[int, int] = {}
    try:
        for place in _PLACES:
            try:
                fd = os.open(place, os.O_RDONLY)
            except OSError:
                continue  # not every host has them all
            number = _mount_id(fd)
            if number in found.values():
                os.close(fd)
            else:
                found[fd] = number
        yield found
    finally:
        for fd in found:
            os.close(fd)


def _mount_id(fd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))


@contextmanager
def _peeking(path: Path) -> Iterator[Peek]:
    opened = Object(str(path))
    try:
        opened.load()
        link = _attached(opened)
        try:
            yield lambda fd, address: _peek(opened, fd, address)
        finally:
            link.close()
    finally:
        opened.close()


def _attached(opened: Object) -> Link:
    program, reasons = opened.programs[PROGRAM], []
    for target in _TARGETS:
        try:
            return program.attach_kprobe(target, at_return=False)
        except KernelError as error:
            reasons.append(error.message)
    raise KernelError("; ".join(reasons))


def _peek(opened: Object, fd: int, address: int) -> bytes:
    table = opened.maps["peek"]
    table.update(_KEY, _PEEK.pack(os.getpid(), 0, address, b""))
    os.fstat(fd)
    _, seen, _, data = _PEEK.unpack(table.lookup(_KEY) or bytes(_PEEK.size))
    if not seen:
        raise KernelError(f"the kernel's memory cannot be looked at ({address:#x})")
    return bytes(data)


def _u32(data: bytes, place: int) -> int:
    return int(struct.unpack_from("=I", data, place)[0])


def _u64(data: bytes, place: int) -> int:
    return int(struct.unpack_from("=Q", data, place)[0])
