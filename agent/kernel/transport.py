"""Records out of the kernel: the ring buffer, drained through its memory.

Layout, kernel/bpf/ringbuf.c: a page with the consumer's position, a page with the producer's, then the data,
mapped twice in a row so that no record is ever split. Each record has a header of two words: its length with
two flag bits, and an offset that concerns only the kernel.

Reading the memory directly is twice as fast as a callback from libbpf for each record.
"""

from __future__ import annotations

import mmap
import select
import struct

from agent.kernel.libbpf import Map

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8
# Native formats are one memory access; those with "=" go byte by byte, and the other side could see half.
_POSITION = struct.Struct("Q")
_LENGTH = struct.Struct("I")


class RingBuffer:
    """The consumer's side of a BPF ring buffer. There may be only one."""

    def __init__(self, ring: Map) -> None:
        page = mmap.PAGESIZE
        self._size = ring.max_entries
        self._fd = ring.fd()
        self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
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
        (position,) = _POSITION.unpack_from(self._consumer)
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
        _POSITION.pack_into(self._consumer, 0, position)
        return records

    def close(self) -> None:
        """Unmap it. May be called again."""
        self._consumer.close()
        self._producer.close()
