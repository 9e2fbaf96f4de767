"""Finds offsets in structures that no kernel header describes, by reading the kernel's memory.

`struct mount` is private to fs/mount.h. Its first fields did not change from 5.10 to 7.3; the offsets of a
mount's id and namespace differ with version and configuration. But /proc/self/fdinfo has each mount's id, and
the namespace's number is known too. The offset at which several mounts have their id is the offset of the id.
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

ROOT = "memory.bcc.c"
PROGRAM = "kprobe__memory"
_TARGETS = ("security_inode_getattr", "vfs_getattr")
_MOUNTED = ("/proc", "/sys", "/dev", "/run", "/", "/sys/fs/bpf", "/dev/pts", "/dev/shm", "/tmp")  # noqa: S108
_NAMESPACE = Path("/proc/self/ns/mnt")
_READ_SIZE = 512  # FIM_MEMORY_BYTES
_REQUEST = struct.Struct(f"=IIQ{_READ_SIZE}s")  # struct fim_memory
_KEY = struct.pack("=I", 0)
_KERNEL_START = 0xFF00_0000_0000_0000  # the lowest kernel address, also with five levels of page tables
_SEARCHED_OF_NAMESPACE = 256  # bytes
_MIN_MOUNTS = 3  # to compare

ReadMemory = Callable[[int, int], bytes]
"""Takes a descriptor and an address, or 0 for the descriptor's mount; returns 512 bytes from there."""


class Layout(NamedTuple):
    """Offsets in bytes: of id and namespace in struct mount, of the number in struct mnt_namespace."""

    mount_id: int
    mount_ns: int
    namespace_inum: int


def observe(path: Path) -> Layout:
    """Find the layout with the program of a compiled object. Raises KernelError if it cannot be found."""
    with _memory_reader(path) as read, _mounts() as mounts:
        return find(read, mounts, _NAMESPACE.stat().st_ino)


def find(read: ReadMemory, mounts: dict[int, int], namespace: int) -> Layout:
    """Find the layout, from the ids of mounts by descriptor and the number of their namespace.

    Raises KernelError if there are too few mounts, or if no offset or several offsets fit.
    """
    if len(mounts) < _MIN_MOUNTS:
        raise KernelError(f"cannot find the layout of struct mount from {len(mounts)} mounts")
    memory = {fd: read(fd, 0) for fd in mounts}
    ids = [
        offset
        for offset in range(0, _READ_SIZE, 4)
        if all(_u32(memory[fd], offset) == mounts[fd] for fd in memory)
    ]
    if len(ids) != 1:
        raise KernelError(f"{len(ids)} offsets of struct mount could be that of the id, not one")
    first = next(iter(mounts))
    for offset in _shared_pointers(list(memory.values())):
        for inum in _offsets_of(namespace, read(first, _u64(memory[first], offset))):
            return Layout(ids[0], offset, inum)
    raise KernelError("no pointer in struct mount leads to its namespace")


def _shared_pointers(mounts: Sequence[bytes]) -> Iterator[int]:
    """Yield the offsets at which all mounts have the same kernel address."""
    for offset in range(0, _READ_SIZE, 8):
        values = {_u64(mount, offset) for mount in mounts}
        if len(values) == 1 and next(iter(values)) >= _KERNEL_START:
            yield offset


def _offsets_of(number: int, data: bytes) -> list[int]:
    return [offset for offset in range(0, _SEARCHED_OF_NAMESPACE, 4) if _u32(data, offset) == number]


@contextmanager
def _mounts() -> Iterator[dict[int, int]]:
    """Open one path on each of several mounts; yield the mounts' ids by descriptor."""
    mounts: dict[int, int] = {}
    try:
        for path in _MOUNTED:
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue  # not every host has all of them
            number = _mount_id(fd)
            if number in mounts.values():
                os.close(fd)
            else:
                mounts[fd] = number
        yield mounts
    finally:
        for fd in mounts:
            os.close(fd)


def _mount_id(fd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))


@contextmanager
def _memory_reader(path: Path) -> Iterator[ReadMemory]:
    opened = Object(str(path))
    try:
        opened.load()
        link = _attached(opened)
        try:
            yield lambda fd, address: _read(opened, fd, address)
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


def _read(opened: Object, fd: int, address: int) -> bytes:
    table = opened.maps["memory"]
    table.update(_KEY, _REQUEST.pack(os.getpid(), 0, address, b""))
    os.fstat(fd)
    _, done, _, data = _REQUEST.unpack(table.lookup(_KEY) or bytes(_REQUEST.size))
    if not done:
        raise KernelError(f"cannot read the kernel's memory at {address:#x}")
    return bytes(data)


def _u32(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("=I", data, offset)[0])


def _u64(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("=Q", data, offset)[0])
