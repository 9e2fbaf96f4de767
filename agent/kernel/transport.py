"""Records out of the kernel, by one of two ways with the same stream.

The ring buffer is drained through its memory. Layout, kernel/bpf/ringbuf.c: a page with the consumer's
position, a page with the producer's, then the data, mapped twice in a row so that no record is ever split.
Each record has a header of two words: its length with two flag bits, and an offset that concerns only the
kernel. Reading the memory directly is twice as fast as a callback from libbpf for each record.

Perf buffers, for kernels before 5.8, are one a processor. What two processors made in the same moment is put
in order by the records' own time.
"""

from __future__ import annotations

import mmap
import select
import struct
import sys
from typing import Protocol

from agent.kernel.libbpf import Map, PerfBuffers

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8
_TIME = 8  # where a record has its time
# Native formats are one memory access; those with "=" go byte by byte, and the other side could see half.
_POSITION = struct.Struct("Q")
_LENGTH = struct.Struct("I")


class Transport(Protocol):
    """The consumer's side of a way out of the kernel."""

    def fileno(self) -> int:
        """Readable while there are records."""

    def wait(self, timeout_ms: int) -> None:
        """Until there is a record, or for so long."""

    def drain(self) -> list[bytes]:
        """The records that are there now, in the order in which they were made; it does not wait."""

    def close(self) -> None:
        """Give it up. May be called again."""


class RingBuffer:
    """The consumer's side of a BPF ring buffer. There may be only one."""

    def __init__(self, ring: Map) -> None:
        page = mmap.PAGESIZE
        self._size = ring.max_entries
        self._fd = ring.fd()
        self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # Written in one access. struct's pack_into clears its place first: the kernel would see a full ring.
        self._consumed = memoryview(self._consumer).cast("B").cast("Q")
        self._producer = mmap.mmap(
            self._fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._data = page
        self._ready = select.poll()
        self._ready.register(self._fd, select.POLLIN)

    def fileno(self) -> int:
        """Readable while there are records."""
        return self._fd

    def wait(self, timeout_ms: int) -> None:
        """Until there is a record, or for so long."""
        self._ready.poll(timeout_ms)

    def drain(self) -> list[bytes]:
        """The records that are there now, in the order in which they were made; it does not wait.

        Room is given back to the kernel once for all of them.
        """
        records = []
        position = self._consumed[0]
        (end,) = _POSITION.unpack_from(self._producer)
        while position < end:
            start = self._data + (position & self._size - 1) + _HEADER
            (length,) = _LENGTH.unpack_from(self._producer, start - _HEADER)
            if length & _BUSY:
                break
            size = length & ~_DISCARDED
            if size == length:
                records.append(self._producer[start : start + size])
            position += _HEADER + size + 7 & ~7
        self._consumed[0] = position
        return records

    def close(self) -> None:
        """Unmap it. May be called again."""
        self._consumed.release()
        self._consumer.close()
        self._producer.close()


class PerfBuffer:
    """All processors' perf buffers as one stream."""

    def __init__(self, events: Map, size: int) -> None:
        self._records: list[bytes] = []
        self._buffers = PerfBuffers(events, max(1, size // mmap.PAGESIZE), self._records.append)
        self._ready = select.poll()
        self._ready.register(self._buffers.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Readable while there are records."""
        return self._buffers.fileno()

    def wait(self, timeout_ms: int) -> None:
        """Until there is a record, or for so long."""
        self._ready.poll(timeout_ms)

    def drain(self) -> list[bytes]:
        """The records that are there now, in the order of their time; it does not wait."""
        self._buffers.consume()
        records = sorted(self._records, key=_time)
        self._records.clear()
        return records

    def close(self) -> None:
        """Free them. May be called again."""
        self._buffers.close()


def _time(record: bytes) -> int:
    """Field `time` of struct fim_event."""
    return int.from_bytes(record[_TIME : _TIME + 8], sys.byteorder)
