"""Finding the offsets of fields in the kernel's memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from agent.errors import KernelError
from agent.kernel.bcc.layout import Layout, find

NAMESPACE = 0xF0000001
IDS = {3: 28, 4: 29, 5: 31}
FIVE_LEVELS = 0xFF1C_6589_0105_FC80  # an address on a machine with five levels of page tables
IDMAP = 0xFFFF_FFFF_A565_19E0  # another address that all mounts share


def memory(mount_id: int, *, also_at: tuple[int, ...] = (), namespace: int = FIVE_LEVELS) -> bytes:
    """A mount with its id at 292, an address that all mounts share at 56, and its namespace at 232."""
    data = bytearray(512)
    for place in (292, *also_at):
        struct.pack_into("=I", data, place, mount_id)
    struct.pack_into("=Q", data, 56, IDMAP)
    struct.pack_into("=Q", data, 232, namespace)
    struct.pack_into("=Q", data, 64, FIVE_LEVELS + mount_id)
    return bytes(data)


class Memory:
    """The part of the kernel's memory that is read."""

    def __init__(self, mounts: Mapping[int, bytes], inum: int = 16) -> None:
        self._mounts = mounts
        self._namespace = bytearray(512)
        struct.pack_into("=I", self._namespace, inum, NAMESPACE)

    def __call__(self, fd: int, address: int) -> bytes:
        """Read as `ReadMemory` does."""
        if not address:
            return self._mounts[fd]
        return bytes(self._namespace) if address == FIVE_LEVELS else bytes(512)


@pytest.mark.parametrize("inum", [16, 24, 88])
def test_the_offset_that_fits_all_mounts(inum: int) -> None:
    """The number of the namespace distinguishes it from other shared addresses."""
    mounts = {fd: memory(number) for fd, number in IDS.items()}
    assert find(Memory(mounts, inum), IDS, NAMESPACE) == Layout(292, 232, inum)


def test_a_number_that_fits_by_chance_in_one_mount_does_not_count() -> None:
    """It must fit in all mounts."""
    mounts = {fd: memory(number) for fd, number in IDS.items()}
    mounts[3] = memory(28, also_at=(400,))
    assert find(Memory(mounts), IDS, NAMESPACE).mount_id == 292


@pytest.mark.parametrize(
    ("mounts", "ids", "words"),
    [
        ({fd: memory(number, also_at=(400,)) for fd, number in IDS.items()}, IDS, "2 offsets"),
        ({fd: bytes(512) for fd in IDS}, IDS, "0 offsets"),
        ({fd: memory(number, namespace=0) for fd, number in IDS.items()}, IDS, "no pointer"),
        ({3: memory(28)}, {3: 28}, "from 1 mounts"),
    ],
)
def test_an_ambiguous_layout_is_an_error(mounts: dict[int, bytes], ids: dict[int, int], words: str) -> None:
    """A guess would read other data."""
    with pytest.raises(KernelError, match=words):
        find(Memory(mounts), ids, NAMESPACE)
