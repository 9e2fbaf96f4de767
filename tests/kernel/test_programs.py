"""Programs that need no hook, run in this host's kernel, and the ring buffer's consumer fed by one."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.decode import SIZE
from agent.errors import KernelError
from agent.kernel import hashing
from agent.kernel.libbpf import Object, Program
from agent.kernel.transport import RingBuffer
from tests.kernel.conftest import BUILT

CHECK = struct.Struct("=256s4Q")  # struct fim_check: name, length, hash, records, sent
RING = 1 << 16


@pytest.fixture(scope="module")
def running() -> Iterator[Object]:
    """The object with only its checks, in the kernel; skipped where that refuses."""
    opened = Object(str(BUILT))
    for name, program in opened.programs.items():
        program.choose(name.startswith("check__"))
    for name, one in opened.maps.items():
        if name not in ("slots", "ring"):
            one.skip()
    opened.maps["ring"].resize(RING)
    try:
        opened.load()
    except KernelError as error:
        pytest.skip(f"this host does not load programs: {error}")
    yield opened
    opened.close()


def check(program: Program, *, name: bytes = b"", records: int = 0) -> tuple[int, int]:
    """Hash and number of records sent."""
    _, _, value, _, sent = CHECK.unpack(program.run(CHECK.pack(name, len(name), 0, records, 0)))
    return value, sent


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.binary(max_size=255).filter(lambda name: b"\0" not in name))
def test_both_sides_hash_alike(running: Object, name: bytes) -> None:
    assert check(running.programs["check__hash"], name=name)[0] == hashing.component(name)


class TestRing:
    """The consumer of the ring buffer."""

    @pytest.fixture
    def ring(self, running: Object) -> Iterator[RingBuffer]:
        ring = RingBuffer(running.maps["ring"])
        ring.drain()
        yield ring
        ring.close()

    def test_every_record_once_in_order(self, running: Object, ring: RingBuffer) -> None:
        """Three times around the ring, so that records cross its end."""
        send = running.programs["check__ring"]
        for _ in range(10):
            assert check(send, records=100)[1] == 100
            records = ring.drain()
            assert [struct.unpack_from("=Q", record, 8)[0] for record in records] == list(range(100))
            assert [len(record) for record in records] == [SIZE + (i & 63) for i in range(100)]
        assert ring.drain() == []

    def test_a_full_ring_refuses_and_recovers(self, running: Object, ring: RingBuffer) -> None:
        send = running.programs["check__ring"]
        sent = check(send, records=512)[1]
        assert 0 < sent < 512
        assert len(ring.drain()) == sent
        assert check(send, records=5)[1] == 5
        assert len(ring.drain()) == 5

    def test_readable_only_while_there_is_something(self, running: Object, ring: RingBuffer) -> None:
        ring.wait(0)
        check(running.programs["check__ring"], records=1)
        ring.wait(10_000)
        assert len(ring.drain()) == 1
