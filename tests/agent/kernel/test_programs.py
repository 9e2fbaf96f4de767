"""Programs without hooks, run in this host's kernel, and the consumer of the ring buffer."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import KernelError
from agent.events.decode import SIZE
from agent.kernel import map_writer, path_hash
from agent.kernel.libbpf import Object, Program, failed_program
from agent.kernel.map_writer import MapWriter
from agent.kernel.transport import RingBuffer
from tests.agent.kernel.conftest import BUILT, load_programs

CHECK = struct.Struct("=256s5Q")  # struct fim_check: name, length, hash, short hash, records, sent
RING = 1 << 16
SHORT = 32  # bytes, FIM_SHORT_WORDS


@pytest.fixture(scope="module")
def running() -> Iterator[Object]:
    """The object with only its checks, loaded; the tests are skipped if this kernel refuses that."""
    opened = Object(str(BUILT))
    for name, program in opened.programs.items():
        program.choose(name in ("check__hash", "check__ring") or name.startswith("write__"))
    for name, one in opened.maps.items():
        if name not in ("slots", "ring", "approvers", "discarders"):
            one.skip()
    opened.maps["ring"].resize(RING)
    load_programs(opened)
    yield opened
    opened.close()


def check(program: Program, *, name: bytes = b"", records: int = 0) -> tuple[int, int, int]:
    """Return hash, number of the records sent, and hash of a short name."""
    _, _, value, short, _, sent = CHECK.unpack(program.run(CHECK.pack(name, len(name), 0, 0, records, 0)))
    return value, sent, short


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.binary(max_size=255).filter(lambda name: b"\0" not in name))
def test_kernel_and_user_space_hash_alike(running: Object, name: bytes) -> None:
    assert check(running.programs["check__hash"], name=name)[0] == path_hash.component(name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.binary(max_size=40).filter(lambda name: b"\0" not in name))
def test_a_short_name_has_the_same_hash_without_a_slot(running: Object, name: bytes) -> None:
    """Other names have none: no event is rejected by it."""
    short = 0 < len(name) < SHORT
    assert check(running.programs["check__hash"], name=name)[2] == (path_hash.component(name) if short else 0)


def test_a_table_is_written_by_programs(running: Object) -> None:
    """With the same result as a write through the map."""
    table = running.maps["approvers"]
    writer = MapWriter(table, running.programs)
    key, value = bytes(range(16)), bytes(range(8))
    writer.update(key, value)
    assert table.lookup(key) == value
    writer.update(key, bytes(8))
    assert table.lookup(key) == bytes(8)
    assert writer.delete(key)
    assert not writer.delete(key)
    assert table.lookup(key) is None


def test_whether_programs_can_write_tables_is_tried(running: Object) -> None:
    """With an object as it was compiled, of which nothing is loaded."""
    assert running.programs["write__approvers__update"].fd() >= 0  # this kernel loads them
    assert map_writer.works(BUILT)


def test_programs_that_the_kernel_refuses_write_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_one: Object) -> None:
        raise KernelError("the kernel has no such type of program")

    monkeypatch.setattr(Object, "load", refuse)
    assert not map_writer.works(BUILT)


def test_a_failed_write_is_an_error(running: Object) -> None:
    """A full table."""
    table = running.maps["approvers"]
    writer = MapWriter(table, running.programs)
    with pytest.raises(KernelError, match=r"update approvers: .*E2BIG"):  # noqa: PT012 - any of them
        for number in range(table.max_entries + 1):
            writer.update(struct.pack("=2Q", number, 0), bytes(8))
    for number in range(table.max_entries):
        table.delete(struct.pack("=2Q", number, 0))


def test_a_discarder_is_written_by_a_program(running: Object) -> None:
    table = running.maps["discarders"]
    MapWriter(table, running.programs).update(bytes(range(16)), bytes(range(32)))
    assert table.lookup(bytes(range(16))) == bytes(range(32))


def _differs(page: mmap.mmap, enough: mmap.mmap) -> int:
    """Return whether a page's first word ever changes until the other process ends."""
    words = memoryview(page).cast("B").cast("Q")
    first = words[0]
    while not enough[0]:
        if any(words[0] != first for _ in range(1000)):
            return 1
    return 0 if first else 2


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

    def test_the_kernel_never_sees_another_position(self, running: Object, ring: RingBuffer) -> None:
        """A position is never zero between two writes: the kernel would see a full ring."""
        check(running.programs["check__ring"], records=1)
        ring.drain()
        with mmap.mmap(running.maps["ring"].fd(), mmap.PAGESIZE) as page, mmap.mmap(-1, 1) as enough:
            watcher = os.fork()
            if not watcher:
                os._exit(_differs(page, enough))
            for _ in range(100_000):
                ring.drain()
            enough[0] = 1
            assert os.waitpid(watcher, 0)[1] == 0

    def test_a_full_ring_refuses_and_recovers(self, running: Object, ring: RingBuffer) -> None:
        send = running.programs["check__ring"]
        sent = check(send, records=512)[1]
        assert 0 < sent < 512
        assert len(ring.drain()) == sent
        assert check(send, records=5)[1] == 5
        assert len(ring.drain()) == 5

    def test_readable_only_while_records_wait(self, running: Object, ring: RingBuffer) -> None:
        ring.wait(0)
        check(running.programs["check__ring"], records=1)
        ring.wait(10_000)
        assert len(ring.drain()) == 1


def test_the_error_of_a_load_names_the_failed_program() -> None:
    """It does not name programs before it whose map was left out."""
    printed = (
        "libbpf: prog 'probe__lsm': failed to bind map '.rodata': Bad file descriptor\n"
        "libbpf: prog 'probe__syscall': BPF program load failed: Invalid argument\n"
    )
    assert failed_program(KernelError("load the object", detail=printed)) == "probe__syscall"
    printed = "libbpf: prog 'fentry__x': failed to find kernel BTF type ID of 'x': -3\n"
    assert failed_program(KernelError("load the object", detail=printed)) == "fentry__x"
