"""Reads records from the kernel, through the ring buffer or through perf buffers, as the same stream.

The ring buffer is read through its memory. Its layout (kernel/bpf/ringbuf.c) is a page with the consumer's
position, a page with the producer's, then the data, mapped twice in a row so that no record is split.
Each record has a header of two words: its length with two flag bits, and an offset that only the kernel uses.
Reading the memory directly is twice as fast as a callback from libbpf for each record.

Perf buffers, for kernels before 5.8, exist once for each CPU. The records of different CPUs are sorted by
their time.
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
_TIME = 8  # offset of the time in a record
# Native formats make one memory access. Formats with "=" copy byte by byte and could see half a word.
_POSITION = struct.Struct("Q")
_LENGTH = struct.Struct("I")


class Transport(Protocol):
    """The consumer of the kernel's records."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""

    def wait(self, timeout_ms: int) -> None:
        """Wait for a record, at most this long."""

    def drain(self) -> list[bytes]:
        """Return the waiting records in the order of their creation, without waiting for more."""

    def close(self) -> None:
        """Free the buffers. May be called again."""


class RingBuffer:
    """The consumer of a BPF ring buffer. Only one may exist for each buffer."""

    def __init__(self, ring: Map) -> None:
        page = mmap.PAGESIZE
        self._size = ring.max_entries
        self._fd = ring.fd()
        self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # Written in one access. struct.pack_into would write zero first: the kernel would see a full ring.
        self._consumed = memoryview(self._consumer).cast("B").cast("Q")
        self._producer = mmap.mmap(
            self._fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._data = page
        self._ready = select.poll()
        self._ready.register(self._fd, select.POLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""
        return self._fd

    def wait(self, timeout_ms: int) -> None:
        """Wait for a record, at most this long."""
        self._ready.poll(timeout_ms)

    def drain(self) -> list[bytes]:
        """Return the waiting records in the order of their creation, without waiting for more.

        The space of all of them is given back to the kernel in one step.
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
        """Unmap the buffer. May be called again."""
        self._consumed.release()
        self._consumer.close()
        self._producer.close()


class PerfBuffer:
    """The perf buffers of all CPUs as one stream."""

    def __init__(self, events: Map, size: int) -> None:
        self._records: list[bytes] = []
        self._buffers = PerfBuffers(events, max(1, size // mmap.PAGESIZE), self._records.append)
        self._ready = select.poll()
        self._ready.register(self._buffers.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""
        return self._buffers.fileno()

    def wait(self, timeout_ms: int) -> None:
        """Wait for a record, at most this long."""
        self._ready.poll(timeout_ms)

    def drain(self) -> list[bytes]:
        """Return the waiting records in the order of their time, without waiting for more."""
        self._buffers.consume()
        records = sorted(self._records, key=_time)
        self._records.clear()
        return records

    def close(self) -> None:
        """Free the buffers. May be called again."""
        self._buffers.close()


def _time(record: bytes) -> int:
    """Return field `time` of struct fim_event."""
    return int.from_bytes(record[_TIME : _TIME + 8], sys.byteorder)
