"""Events without a record are counted: the hooks run in this host's kernel with artificial arguments."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from agent.events.model import EventType
from agent.hooks import syscalls
from agent.kernel import capabilities, maps
from agent.kernel.libbpf import Object
from agent.kernel.maps import KernelCounts
from tests.agent.kernel.conftest import BUILT, load_programs

HASH = 1  # BPF_MAP_TYPE_HASH
WORD = struct.Struct("=I")
KEPT, OPERATIONS = 1024, 1024  # FIM_ACCOUNT_KEPT, FIM_ACCOUNT_OPERATIONS
PLACES = 1024  # FIM_BUSY
UNUSED = ("perf", "tails", "multi_tails", *capabilities.MAPS)


class Hooks:
    """The hooks as programs that run on request, all event types forwarded, no slot and no place free."""

    def __init__(self, prepare: Callable[[Object], None]) -> None:
        self.object = Object(str(BUILT))
        for name, program in self.object.programs.items():
            program.choose(name.startswith("check__"))
        for name in UNUSED:
            self.object.maps[name].skip()
        prepare(self.object)
        load_programs(self.object)
        self.write("policies", maps.POLICY.pack(maps.FORWARD_ALL, 0, 0, 0) * len(EventType))
        slots = self.object.maps["slots"]
        for index in range(maps.SHARED_SLOTS.start):
            slots.update(WORD.pack(index), b"\1" * slots.value_size)  # claimed by another program
        self.object.maps["free_operations"].push([WORD.pack(maps.SHARED_OPERATIONS.start)])
        self.share_places(1)

    def share_places(self, threads: int) -> None:
        """Let so many other threads have an operation in flight at each place of bpf/keep.h."""
        self.write("busy", WORD.pack(threads) * PLACES)

    def write(self, name: str, values: bytes) -> None:
        """Write the first values of an array that both sides map."""
        with self.object.maps[name].memory() as memory:
            memory[: len(values)] = values

    def words(self, name: str, count: int) -> tuple[int, ...]:
        """Read the first 32-bit words of an array that both sides map."""
        with self.object.maps[name].memory() as memory:
            return struct.unpack_from(f"={count}I", memory)

    def add_slot(self) -> None:
        self.object.maps["free_slots"].push([WORD.pack(maps.SHARED_SLOTS.start)])

    def fill_accounts(self, *, operations: int = 0, kept: int = 0) -> None:
        """Let every user hold its whole share."""
        for index in range(maps.ACCOUNTS):
            account = maps.ACCOUNT.pack(0, 0, operations, kept, 0, 0)
            self.object.maps["accounts"].update(WORD.pack(index), account)

    def count_in_flight(self, operations: int) -> None:
        """Let each CPU have counted so many operations in flight."""
        self.write("cpus", struct.pack("=q2I48x", operations, 0, 0) * maps.CPUS)

    def lost(self) -> list[int]:
        """Losses of each account that has any."""
        values = (self.object.maps["accounts"].lookup(WORD.pack(index)) for index in range(maps.ACCOUNTS))
        return [lost for value in values if value and (lost := maps.ACCOUNT.unpack(value)[1])]

    def run(self, hook: str, *arguments: int) -> None:
        """Run a hook; `arguments` are the function's, or for an exit its return value."""
        words = [*arguments, *[0] * (8 - len(arguments))]
        self.object.programs[f"check__{hook}"].run(struct.pack("=8q", *words))

    def counts(self, kind: EventType) -> KernelCounts:
        """The counters, summed over all CPUs."""
        rows = []
        for cpu in range(maps.CPUS):
            value = self.object.maps["counts"].lookup(WORD.pack(cpu * 32 + kind))
            assert value
            rows.append(maps.COUNTS.unpack(value))
        return KernelCounts(*map(sum, zip(*rows, strict=True)))

    def free_slots(self) -> int:
        """Count the free slots by taking all of them."""
        fd, count = self.object.maps["free_slots"].fd(), 0
        value = ctypes.create_string_buffer(4)
        library = ctypes.CDLL("libbpf.so.1")
        while not library.bpf_map_lookup_and_delete_elem(fd, None, value):
            count += 1
        return count


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    made = Hooks(lambda _: None)
    yield made
    made.object.close()


def test_a_refused_name_without_a_free_slot(hooks: Hooks) -> None:
    """The refusal is an event, and no slot can hold its name."""
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    hooks.run("mkdir_exit", -errno.EACCES)
    assert hooks.counts(EventType.MKDIR) == KernelCounts(seen=1, no_slot=1)
    assert hooks.lost() == [1]


def test_a_refused_name_of_a_user_with_too_many_slots(hooks: Hooks) -> None:
    """The free slots are for other users."""
    hooks.add_slot()
    hooks.fill_accounts(kept=KEPT)
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    assert hooks.free_slots() == 1
    hooks.run("mkdir_exit", -errno.EACCES)
    assert hooks.counts(EventType.MKDIR) == KernelCounts(seen=1, no_slot=1)
    assert hooks.lost() == [1]


@pytest.mark.parametrize(("in_flight", "followed"), [(0, True), (OPERATIONS, False)])
def test_an_operation_of_a_user_with_many_in_flight(hooks: Hooks, in_flight: int, followed: bool) -> None:
    """It is followed as long as few operations of all users are in flight."""
    hooks.fill_accounts(operations=OPERATIONS)
    hooks.count_in_flight(in_flight)
    hooks.run("mkdir_enter")
    assert hooks.counts(EventType.MKDIR) == KernelCounts(unentered=0 if followed else 1)
    assert hooks.lost() == ([] if followed else [1])


def test_a_removal_that_is_not_followed_makes_discarders_stale_twice(hooks: Hooks) -> None:
    """Before it and after it: a path may have been resolved in between."""
    hooks.fill_accounts(operations=OPERATIONS)
    hooks.count_in_flight(OPERATIONS)
    hooks.run("unlink_enter")
    assert hooks.words("generation", 1) == (1,)
    hooks.run("unlink_exit")
    assert hooks.words("generation", 1) == (2,)
    assert hooks.counts(EventType.UNLINK) == KernelCounts(unentered=1)


def test_a_name_that_had_no_slot_does_not_take_one_later(hooks: Hooks) -> None:
    """Otherwise a second name would be recorded as the first."""
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    hooks.add_slot()
    hooks.run("parent_given")
    assert hooks.free_slots() == 1
    hooks.run("mkdir_exit", -errno.EACCES)
    assert hooks.counts(EventType.MKDIR) == KernelCounts(seen=1, no_slot=1)


@pytest.mark.parametrize("error", [0, errno.ENOENT])
def test_no_refusal_needs_no_slot(hooks: Hooks, error: int) -> None:
    """An operation that fails to find its object is no event, with or without a slot."""
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    hooks.run("mkdir_exit", -error)
    assert hooks.counts(EventType.MKDIR) == KernelCounts()


def test_a_refused_name_with_a_slot(hooks: Hooks) -> None:
    """It is reported, and the slot is free again."""
    hooks.add_slot()
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    hooks.run("mkdir_exit", -errno.EACCES)
    assert hooks.counts(EventType.MKDIR) == KernelCounts(seen=1, submitted=1)
    assert hooks.free_slots() == 1
    assert not list(hooks.object.maps["kept"].keys())
    assert hooks.lost() == []


def test_a_thread_that_sleeps_holds_no_slot(hooks: Hooks) -> None:
    """Its name is kept elsewhere, and the slot is free for others."""
    hooks.add_slot()
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    assert hooks.free_slots() == 1
    assert len(list(hooks.object.maps["kept"].keys())) == 1


def test_a_name_in_a_place_of_its_own_is_charged_to_no_user(hooks: Hooks) -> None:
    """A user who holds a whole share loses nothing as long as no other thread has the place."""
    hooks.add_slot()
    hooks.share_places(0)
    hooks.fill_accounts(kept=KEPT)
    hooks.run("mkdir_enter")
    hooks.run("parent_given")
    assert not list(hooks.object.maps["kept"].keys())
    hooks.run("mkdir_exit", -errno.EACCES)
    assert hooks.counts(EventType.MKDIR) == KernelCounts(seen=1, submitted=1)
    assert hooks.free_slots() == 1
    assert set(hooks.words("busy", PLACES)) == {0}


def test_an_operation_whose_return_is_missed(hooks: Hooks) -> None:
    """The kernel may have refused it: the next operation of the thread counts it."""
    hooks.run("mkdir_enter")
    hooks.run("mkdir_enter")
    assert hooks.counts(EventType.MKDIR) == KernelCounts(unentered=1)
    hooks.run("mkdir_exit")
    assert hooks.counts(EventType.MKDIR) == KernelCounts(unentered=1)


def test_an_operation_out_of_scope_is_not_counted(hooks: Hooks) -> None:
    """It is not followed, so its return is not missed."""
    hooks.write("config", maps.CONFIG.pack(0, 0, 0x7FFFFFFF, 0))
    hooks.run("mkdir_enter")
    hooks.run("mkdir_enter")
    assert hooks.counts(EventType.MKDIR) == KernelCounts()


def test_a_call_that_is_no_event_is_not_remembered(hooks: Hooks) -> None:
    """Threads that end after one would fill the table, and the calls of all others be lost."""
    for number, row in syscalls.rows(os.uname().machine, frozenset({EventType.CLOSE})):
        hooks.object.maps["syscalls"].update(WORD.pack(number), row)
        hooks.run("syscall_enter", 0, number, -1)  # a descriptor that is not open
    assert not list(hooks.object.maps["calls"].keys())
    assert hooks.counts(EventType.CLOSE) == KernelCounts()


def test_an_attribute_whose_mount_is_not_known(hooks: Hooks) -> None:
    """No hook noted the mount that the thread writes to."""
    hooks.run("setxattr_enter")
    assert hooks.counts(EventType.SETXATTR) == KernelCounts(unentered=1)


@pytest.mark.parametrize("result", [0, -errno.ENODATA])
def test_an_attribute_by_name_whose_mount_is_not_known(hooks: Hooks, result: int) -> None:
    """Its return counts it once; before that it could be refused and reported by its text."""
    hooks.run("setxattr_path_enter")
    hooks.run("setxattr_enter")
    assert hooks.counts(EventType.SETXATTR) == KernelCounts()
    hooks.run("setxattr_path_exit", result)
    assert hooks.counts(EventType.SETXATTR) == KernelCounts(unentered=1)


def test_an_end_without_room_in_the_map() -> None:
    """The error differs from that of an end that was already reported."""

    def without_room(opened: Object) -> None:
        library = ctypes.CDLL("libbpf.so.1")
        pointer = ctypes.c_void_p(opened.maps["ended"]._pointer)  # no product code sets a type
        assert library.bpf_map__set_type(pointer, HASH) == 0
        opened.maps["ended"].resize(1)

    made = Hooks(without_room)
    made.object.maps["ended"].update(bytes(16), bytes(4))
    made.run("claim_end")
    assert made.counts(EventType.EXIT) == KernelCounts(unentered=1)
    made.object.close()


def test_an_end_is_reported_once(hooks: Hooks) -> None:
    """A second claim is no loss."""
    hooks.run("claim_end")
    hooks.run("claim_end")
    assert hooks.counts(EventType.EXIT) == KernelCounts()
