"""The process cache: bounded, and exact also for short-lived processes, in any order of scan and events."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.context.entry import Entry
from agent.context.process import MAX_ANCESTORS, ProcessCache
from agent.context.procfs import ARGS_COUNT, ProcFs
from agent.context.shares import ENTRY_BYTES, weigh
from agent.context.table import RETENTION_NS
from agent.context.users import Users
from agent.events.actors import NO_USER, Process
from agent.events.model import Event
from tests.agent.context.conftest import SECOND, TICK_NS, FakeHost, exec_, exit_, fork, opened

MS = 1_000_000
NOWHERE = Path("/nonexistent")


def cache_of(host: FakeHost, **bounds: int) -> ProcessCache:
    return ProcessCache(host.proc_fs(), Users(host.root), **bounds)


def feed(cache: ProcessCache, *events: Event) -> None:
    for event in events:
        cache.apply(event)


def known(cache: ProcessCache, pid: int) -> Process:
    entry = cache.find(pid, 2 * SECOND)
    assert entry is not None
    return entry.process


def exe_at(cache: ProcessCache, pid: int, time_ns: int) -> bytes | None:
    entry = cache.find(pid, time_ns)
    return None if entry is None else entry.process.exe


def test_the_scan_finds_program_arguments_and_ancestors(host: FakeHost) -> None:
    host.add_process(1, 0, b"/sbin/init", b"init")
    host.add_process(20, 1, b"/bin/bash", b"-bash", born_ns=SECOND, uid=33)
    host.add_process(7, 20, b"/usr/bin/vim", b"vim", b"a b\n", born_ns=2 * SECOND, uid=33)
    cache = cache_of(host)
    cache.scan()
    entry = cache.find(7, 3 * SECOND)
    assert entry is not None
    assert entry.process.exe == b"/usr/bin/vim"
    assert entry.process.args == (b"vim", b"a b\n")
    assert (entry.process.user, entry.process.group) == (b"www", b"www")
    assert [a.exe for a in cache.ancestors(entry)] == [b"/bin/bash", b"/sbin/init"]
    assert cache.counters.scanned == 3


def test_a_process_of_two_milliseconds_is_known_after_its_end(host: FakeHost) -> None:
    host.add_process(1, 0, b"/sbin/init")
    cache = cache_of(host)
    cache.scan()
    start = 10 * SECOND
    feed(
        cache,
        fork(start, 50, 1),
        exec_(start + MS, 50, 1, b"/bin/short", b"short", b"-x"),
        exit_(start + 2 * MS, 50),
    )
    entry = cache.find(50, start + 2 * MS)  # its files are closed after the exit
    assert entry is not None
    assert entry.process.args == (b"short", b"-x")
    assert [a.exe for a in cache.ancestors(entry)] == [b"/sbin/init"]
    assert cache.counters.unresolved == cache.counters.refilled == 0


def test_retention_uses_the_time_of_the_events(host: FakeHost) -> None:
    cache = cache_of(host)
    feed(cache, exec_(SECOND, 50, 1, b"/bin/short"), exit_(SECOND, 50))
    feed(cache, exit_(SECOND + RETENTION_NS, 999))
    assert exe_at(cache, 50, SECOND) == b"/bin/short"
    feed(cache, exit_(SECOND + RETENTION_NS + 1, 999))
    assert exe_at(cache, 50, SECOND) is None
    assert (len(cache.table), cache.table.memory) == (0, 0)


def test_exec_changes_the_program_and_not_the_ancestors(host: FakeHost) -> None:
    host.add_process(1, 0, b"/sbin/init")
    cache = cache_of(host)
    cache.scan()
    feed(cache, fork(SECOND, 5, 1), exec_(SECOND + 1, 5, 1, b"/bin/sh"), fork(SECOND + 2, 6, 5))
    feed(cache, exec_(SECOND + 3, 5, 1, b"/bin/ls"), exec_(SECOND + 4, 6, 5, b"/bin/cat"))
    child = cache.find(6, SECOND + 5)
    assert child is not None
    assert [a.exe for a in cache.ancestors(child)] == [b"/bin/sh", b"/sbin/init"]  # as it was at the fork
    assert exe_at(cache, 5, SECOND + 5) == b"/bin/ls"


def test_a_thread_is_no_process(host: FakeHost) -> None:
    cache = cache_of(host)
    feed(cache, exec_(1, 5, 1, b"/bin/sh"), fork(2, 5, 5))
    assert (len(cache.table), cache.counters.forks) == (1, 0)


def test_a_refused_exec_changes_nothing(host: FakeHost) -> None:
    cache = cache_of(host)
    feed(cache, exec_(1, 5, 1, b"/bin/sh"), exec_(2, 5, 1, b"/bin/no", retval=-13))
    assert exe_at(cache, 5, 3) == b"/bin/sh"


def test_a_reused_pid_is_another_process(host: FakeHost) -> None:
    cache = cache_of(host)
    feed(cache, exec_(SECOND, 5, 1, b"/bin/first"), exit_(SECOND + 10, 5))
    feed(cache, fork(SECOND + 20, 5, 1), exec_(SECOND + 21, 5, 1, b"/bin/second"))
    assert exe_at(cache, 5, SECOND + 15) == b"/bin/first"
    assert exe_at(cache, 5, SECOND + 21) == b"/bin/second"
    feed(cache, exit_(SECOND + 11 + RETENTION_NS, 999))
    assert exe_at(cache, 5, SECOND + 15) is None
    assert exe_at(cache, 5, SECOND + 21) == b"/bin/second"


def test_a_lost_exit_leaves_nothing_behind(host: FakeHost) -> None:
    cache = cache_of(host)
    for round_ in range(100):
        feed(cache, fork(round_ * SECOND, 5, 1))
    feed(cache, exit_(200 * SECOND, 999))
    assert len(cache.table) == 1


class TestScanAndEventsOverlap:
    """The hooks are attached first, then `/proc` is read, then the events since the attachment."""

    def test_a_fork_before_the_scan_has_the_earlier_program(self, host: FakeHost) -> None:
        host.add_process(1, 0, b"/sbin/init")
        host.add_process(5, 1, b"/bin/ls", born_ns=SECOND)
        cache = cache_of(host)
        cache.scan()
        feed(cache, fork(SECOND + TICK_NS // 2, 5, 1))
        assert exe_at(cache, 5, SECOND + TICK_NS // 2) == b"/sbin/init"
        feed(cache, exec_(SECOND + TICK_NS, 5, 1, b"/bin/ls"))
        assert exe_at(cache, 5, SECOND + TICK_NS) == b"/bin/ls"
        assert len(cache.table) == 2

    def test_the_scan_saw_the_pids_next_owner(self, host: FakeHost) -> None:
        host.add_process(1, 0, b"/sbin/init")
        host.add_process(5, 1, b"/bin/later", born_ns=3 * SECOND)
        cache = cache_of(host)
        cache.scan()
        feed(cache, fork(SECOND, 5, 1), exec_(SECOND + 1, 5, 1, b"/bin/earlier"))
        assert exe_at(cache, 5, SECOND + 2) == b"/bin/earlier"
        assert exe_at(cache, 5, 4 * SECOND) == b"/bin/later"
        feed(cache, exit_(SECOND + 3, 5))
        assert exe_at(cache, 5, 4 * SECOND) == b"/bin/later"

    def test_an_exit_of_the_former_owner_keeps_the_scanned_one(self, host: FakeHost) -> None:
        host.add_process(5, 1, b"/bin/later", born_ns=3 * SECOND)
        cache = cache_of(host)
        cache.scan()
        feed(cache, exit_(SECOND, 5), exit_(SECOND + 2 * RETENTION_NS, 999))
        assert exe_at(cache, 5, 4 * SECOND) == b"/bin/later"

    def test_an_earlier_event_is_not_of_the_program_that_proc_has_now(self, host: FakeHost) -> None:
        host.add_process(5, 1, b"/bin/later", born_ns=3 * SECOND)
        cache = cache_of(host)
        assert exe_at(cache, 5, SECOND) is None
        assert cache.counters.unresolved == 1
        assert exe_at(cache, 5, 3 * SECOND) == b"/bin/later"
        assert cache.counters.refilled == 1


def test_a_process_that_vanishes_during_the_scan_is_left_out(host: FakeHost) -> None:
    host.add_process(5, 1, b"/bin/a")
    (host.proc / "6").mkdir()
    (host.proc / "self").mkdir()
    cache = cache_of(host)
    cache.scan()
    assert len(cache.table) == 1


def test_a_loop_of_parents_ends(host: FakeHost) -> None:
    host.add_process(5, 6, b"/bin/a")
    host.add_process(6, 5, b"/bin/b")
    cache = cache_of(host)
    cache.scan()
    entry = cache.find(5, SECOND)
    assert entry is not None
    assert [a.pid for a in cache.ancestors(entry)] == [6]


def test_ancestors_are_bounded(host: FakeHost) -> None:
    cache = cache_of(host)
    feed(cache, *(fork(pid, pid, pid - 1) for pid in range(100, 200)))
    entry = cache.find(199, SECOND)
    assert entry is not None
    assert [a.pid for a in cache.ancestors(entry)] == list(range(198, 198 - MAX_ANCESTORS, -1))


def test_exited_processes_are_evicted_first(host: FakeHost) -> None:
    cache = cache_of(host, max_entries=3)
    feed(cache, exec_(1, 1, 0, b"/a"), exec_(2, 2, 0, b"/b"), exit_(3, 2), exec_(4, 3, 0, b"/c"))
    feed(cache, exec_(5, 4, 0, b"/d"))
    assert (cache.table.evicted.exited, cache.table.evicted.live) == (1, 0)
    cache.find(1, 6)
    feed(cache, exec_(7, 5, 0, b"/e"))
    assert cache.table.evicted.live == 1
    assert exe_at(cache, 1, 8) == b"/a"
    assert exe_at(cache, 3, 8) is None  # asked for longest ago


def test_an_evicted_live_process_is_read_from_proc_again(host: FakeHost) -> None:
    host.add_process(5, 1, b"/bin/a")
    cache = cache_of(host, max_entries=1)
    cache.scan()
    feed(cache, exec_(SECOND, 6, 1, b"/bin/b"))
    assert exe_at(cache, 5, SECOND) == b"/bin/a"


def test_memory_is_bounded_for_any_arguments(host: FakeHost) -> None:
    limit = 200_000
    cache = cache_of(host, max_bytes=limit)
    for pid in range(2, 500):
        feed(cache, fork(pid, pid, pid - 1), exec_(pid, pid, pid - 1, b"/x", *[b"y" * 60] * 60))
        assert cache.table.memory <= limit
    assert cache.table.evicted.live > 0


_CHANGES: dict[str, Callable[[int, int, int, int], Event]] = {
    "fork": fork,
    "exec": lambda now, pid, ppid, uid: exec_(now, pid, ppid, b"/x", b"arg", uid=uid),
    "exit": lambda now, pid, *_: exit_(now, pid),
}


def memory_of(entries: list[Entry]) -> int:
    """Return the bytes of entries: of each user what is distinct."""
    held = {(entry.user, id(process)): process for entry in entries for process in entry.held}
    return sum(ENTRY_BYTES + len(entry.root) for entry in entries) + sum(map(weigh, held.values()))


_events = st.lists(
    st.tuples(
        st.sampled_from(["fork", "exec", "exit", "find"]),
        st.integers(2, 6),
        st.integers(1, 6),
        st.integers(0, RETENTION_NS),
        st.sampled_from([0, 33]),
    ),
    max_size=60,
)


@given(_events)
def test_the_counts_are_right_after_any_events(steps: list[tuple[str, int, int, int, int]]) -> None:
    """In any order of events, counts and bytes equal what each user's entries hold."""
    cache = ProcessCache(ProcFs(NOWHERE, ticks_per_second=100), Users(NOWHERE), max_entries=5)
    now = 0
    for kind, pid, ppid, step, uid in steps:
        now += step
        if kind == "find":
            cache.find(pid, now)
        else:
            event = _CHANGES[kind](now, pid, ppid, uid)
            event.root = b"/jail"
            cache.apply(event)
        held = []
        for entry in cache.table:
            older: Entry | None = entry
            while older is not None:
                held.append(older)
                older = older.older
        assert len(held) == len(cache.table) <= 5
        assert cache.table.memory == memory_of(held)


def test_the_cache_keeps_the_first_arguments(host: FakeHost) -> None:
    """As many as it keeps of `/proc`; the event has all."""
    cache = cache_of(host)
    for count in (ARGS_COUNT, ARGS_COUNT + 1):
        event = exec_(SECOND, 5, 1, b"/x", *[b"a"] * count)
        feed(cache, event)
        entry = cache.find(5, SECOND)
        assert entry is not None
        assert entry.process.args == (b"a",) * ARGS_COUNT
        assert entry.process.args_truncated is (count > ARGS_COUNT)
        assert len(event.args) == count


def _line(start: int, length: int, uid: int, args: list[bytes]) -> list[Event]:
    """Nested processes: each forks the next one, which executes a program; all but the last one exit."""
    made = []
    for pid in range(start, start + length):
        run = exec_(SECOND, pid, pid - 1, b"/long" * 20 + b"%d" % pid, uid=uid)
        run.args = tuple(bytes(bytearray(arg)) for arg in args)  # a copy, as each record has
        made += [fork(SECOND, pid, pid - 1, uid), run]
    return made + [exit_(SECOND, pid) for pid in range(start, start + length - 1)]


_ARGS = {"empty": [b""] * 100, "short": [b"%02d" % at for at in range(100)], "long": [b"y" * 4095]}


@pytest.mark.parametrize("args", _ARGS.values(), ids=_ARGS)
@pytest.mark.parametrize("length", [1, MAX_ANCESTORS + 1])
def test_memory_is_bounded_for_hostile_processes(length: int, args: list[bytes]) -> None:
    """Also if all that an entry keeps is its own, the bound is more than what Python allocates."""
    limit = 128 << 10
    cache = ProcessCache(ProcFs(NOWHERE, ticks_per_second=100), Users(NOWHERE), max_bytes=limit)
    tracemalloc.start()
    try:
        for start in range(1000, 1000 + 20 * max(8, 60 // length), 20):
            feed(cache, *_line(start, length, 0, args))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert cache.table.evicted.exited + cache.table.evicted.live > 0
    assert cache.table.memory <= limit
    assert used <= limit + (32 << 10)  # the cache without entries


@pytest.mark.parametrize("subordinate", [False, True])
def test_one_users_flood_evicts_only_entries_of_this_user(host: FakeHost, *, subordinate: bool) -> None:
    """Live and exited ones of root and others stay, also if the user has many subordinate ids."""
    host.write_names("passwd", "root:x:0:", "www:x:33:", "bob:x:34:")
    cache = cache_of(host, max_bytes=2 << 20, max_entries=400)
    others = range(10, 110)
    for pid in others:
        uid = 34 * (pid % 2)
        feed(cache, fork(SECOND, pid, 1, uid), exec_(SECOND, pid, 1, b"/x", *[b"y" * 60] * 60, uid=uid))
        if pid % 3 == 0:
            feed(cache, exit_(SECOND, pid))
    for start in range(1000, 2000, 20):
        for event in _line(start, MAX_ANCESTORS + 1, 33, [b"y" * 60] * 64):
            event.auid = 33
            event.uid += 100_000 + event.pid if subordinate else 0
            feed(cache, event)
    feed(cache, *(fork(SECOND, pid, 1, 33) for pid in range(10_000, 10_800)))
    assert cache.table.evicted.exited > 0 < cache.table.evicted.live
    assert all(exe_at(cache, pid, SECOND) == b"/x" for pid in others)


@pytest.mark.parametrize("execs", [False, True], ids=["forks", "execs"])
@pytest.mark.parametrize("forged", [0, 34, None], ids=["of root", "of bob", "of many"])
def test_a_login_that_a_process_chose_is_not_believed(
    host: FakeHost, forged: int | None, *, execs: bool
) -> None:
    """A child of root that has dropped its user may write any `loginuid`: no others are evicted."""
    host.write_names("passwd", "root:x:0:", "bob:x:34:")
    cache = cache_of(host, max_entries=400)
    others = range(10, 110)
    feed(cache, *(fork(SECOND, pid, 1, 34 * (pid % 2)) for pid in others))
    started = [fork(SECOND, 500, 1), fork(SECOND, 501, 500), exec_(SECOND, 501, 500, b"/app", uid=5000)]
    for event in started[: 3 if execs else 2]:
        event.auid = NO_USER
        feed(cache, event)
    for pid in range(1000, 2000):
        for event in (fork(SECOND, pid, 501, 5000), exec_(SECOND, pid, 501, b"/app", uid=5000)):
            event.auid = pid if forged is None else forged
            feed(cache, event)
    assert cache.table.evicted.live > 0
    assert all(exe_at(cache, pid, SECOND) is not None for pid in others)


def test_users_of_a_directory_service_do_not_evict_each_other(host: FakeHost) -> None:
    """Their numbers have no name on the host, but a daemon of root has set their login."""
    cache = cache_of(host, max_entries=400)
    for login, pid in ((7001, 50), (7002, 60)):
        daemon, session = fork(SECOND, pid, 1), fork(SECOND, pid + 1, pid)
        shell = exec_(SECOND, pid + 1, pid, b"/bin/sh", uid=login)
        daemon.auid, session.auid, shell.auid = NO_USER, login, login
        feed(cache, daemon, session, shell)
    children = range(100, 200)
    for parent, uid, pids in ((51, 7001, children), (61, 7002, range(1000, 2000))):
        for pid in pids:
            event = fork(SECOND, pid, parent, uid)
            event.auid = uid
            feed(cache, event)
    assert cache.table.evicted.live > 0
    assert all(exe_at(cache, pid, SECOND) is not None for pid in children)


def test_an_evicted_process_stays_marked(host: FakeHost) -> None:
    """It and its children, also after their next program: `/proc` may show other arguments and ancestors."""
    cache = cache_of(host, max_entries=3)
    host.add_process(1, 0, b"/sbin/init")
    cache.scan()
    feed(cache, fork(SECOND, 5, 1), exec_(SECOND, 5, 1, b"/bin/a", b"true"))
    assert not known(cache, 5).incomplete
    feed(cache, *(fork(SECOND, pid, 1) for pid in range(6, 10)))
    host.add_process(5, 1, b"/bin/a", b"forged", born_ns=SECOND)
    assert (known(cache, 5).args, known(cache, 5).incomplete) == ((b"forged",), True)
    feed(cache, fork(SECOND, 50, 5), exec_(SECOND, 50, 5, b"/bin/b"), exec_(SECOND, 5, 1, b"/bin/b"))
    assert (known(cache, 5).exe, known(cache, 50).exe) == (b"/bin/b", b"/bin/b")
    assert known(cache, 5).incomplete
    assert known(cache, 50).incomplete


def test_a_process_whose_start_was_not_seen_is_marked(host: FakeHost) -> None:
    """Unknown to the cache, or first seen when it executes a program; not one that the scan found."""
    host.add_process(1, 0, b"/sbin/init")
    enricher = host.enricher()
    enricher.start()
    assert enricher.context(opened(SECOND, 77)).process.incomplete
    enricher.context(exec_(SECOND, 78, 1, b"/bin/a"))
    assert enricher.context(opened(SECOND, 78)).process.incomplete
    enricher.context(fork(SECOND, 80, 79))
    assert enricher.context(opened(SECOND, 80)).process.incomplete
    assert not enricher.context(opened(SECOND, 1)).process.incomplete


def test_cut_arguments_stay_marked(host: FakeHost) -> None:
    """In the process, its children, and the ancestors of these."""
    enricher = host.enricher()
    enricher.start()
    run = exec_(SECOND, 7, 1, b"/bin/env", b"env", b"A=x")
    run.args_truncated = True
    assert enricher.context(run).process.args_truncated
    enricher.context(fork(2 * SECOND, 8, 7))
    child = enricher.context(opened(3 * SECOND, 8, 7)).process
    assert child.args_truncated
    assert [ancestor.args_truncated for ancestor in child.ancestors][:1] == [True]
    enricher.context(exec_(4 * SECOND, 8, 7, b"/bin/ls", b"ls"))
    assert not enricher.context(opened(5 * SECOND, 8, 7)).process.args_truncated
