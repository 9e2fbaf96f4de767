"""Parsing `/proc`, whatever the names of processes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.context.procfs import ARGS_BYTES, ARGS_COUNT, ProcFs, split_args, split_stat
from agent.events.actors import Live
from tests.agent.context.conftest import SECOND, FakeHost


@given(st.binary(max_size=15))
def test_a_comm_may_have_any_bytes(comm: bytes) -> None:
    assert split_stat(b"12 (" + comm + b") S 1 2") == (comm, [b"S", b"1", b"2"])


def test_arguments_keep_empty_ones_and_are_cut() -> None:
    assert split_args(b"a\0\0b\0") == (b"a", b"", b"b")
    assert split_args(b"") == ()
    assert split_args(b"a\0" * 1000) == (b"a",) * ARGS_COUNT
    assert sum(map(len, split_args(b"x" * 10_000))) == ARGS_BYTES


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (b"a\0" * ARGS_COUNT, False),
        (b"a\0" * (ARGS_COUNT + 1), True),
        (b"x" * (ARGS_BYTES - 1) + b"\0", False),
        (b"x" * ARGS_BYTES + b"\0", True),
    ],
)
def test_a_cut_command_line_is_marked(host: FakeHost, content: bytes, *, cut: bool) -> None:
    host.add_process(7, 1, b"/bin/a")
    (host.root / "proc/7/cmdline").write_bytes(content)
    found = host.proc_fs().read(7)
    assert found
    assert found.process.args_truncated is cut


@pytest.mark.parametrize(
    ("device", "name"),
    [(0x8803, b"pts3"), (0x8900, b"pts256"), (0x401, b"tty1"), (0x440, b"ttyS0"), (0x501, b"5:1"), (0, b"")],
)
def test_a_live_process(host: FakeHost, device: int, name: bytes) -> None:
    """Its current user, directory, session and terminal; nothing of a later process with its pid."""
    host.add_process(7, 1, b"/bin/a", born_ns=SECOND)
    folder = host.root / "proc/7"
    (folder / "cwd").symlink_to("/srv/a b")
    (folder / "status").write_bytes(b"Uid:\t1000\t0\t1\t1\nGid:\t1000\t5\t1\t1\n")
    fields = (folder / "stat").read_bytes().split()
    fields[5:7] = b"77", str(device).encode()
    (folder / "stat").write_bytes(b" ".join(fields))
    assert host.proc_fs().live(7, SECOND) == Live(b"/srv/a b", 0, 5, 77, name)
    assert host.proc_fs().live(7, SECOND - 1) is None
    assert host.proc_fs().live(8, SECOND) is None


def test_one_look_serves_earlier_events_and_no_later_one(host: FakeHost) -> None:
    """A process may change its directory after the look, and the pid may get another process."""
    now = [5 * SECOND]
    host.add_process(7, 1, b"/bin/a", born_ns=2 * SECOND)
    folder = host.root / "proc/7"
    (folder / "status").write_bytes(b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
    (folder / "cwd").symlink_to("/first")
    proc = ProcFs(host.root / "proc", 100, clock=lambda: now[0])
    first = proc.live(7, 3 * SECOND)
    assert first
    (folder / "cwd").unlink()
    (folder / "cwd").symlink_to("/second")
    assert proc.live(7, 5 * SECOND) is first
    assert proc.live(7, SECOND) is None
    now[0] = 7 * SECOND
    second = proc.live(7, 6 * SECOND)
    assert second
    assert (first.cwd, second.cwd) == (b"/first", b"/second")
    shutil.rmtree(folder)
    assert proc.live(7, 7 * SECOND) is second
    assert proc.live(7, 8 * SECOND) is None


def test_the_own_process() -> None:
    """It has the data of the real `/proc`."""
    found = ProcFs().live(os.getpid(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    assert found is not None
    assert (found.cwd, found.euid, found.egid) == (os.fsencode(Path.cwd()), os.geteuid(), os.getegid())
    assert found.session == os.getsid(0)


def test_a_file_may_be_called_deleted(host: FakeHost) -> None:
    host.add_process(5, 1, b"/bin/a (deleted)")
    found = host.proc_fs().read(5)
    assert found is not None
    assert found.process.exe == b"/bin/a (deleted)"


def test_a_kernel_thread_has_no_program(host: FakeHost) -> None:
    host.add_process(2, 0, b"", comm=b"kthreadd")
    found = host.proc_fs().read(2)
    assert found is not None
    assert (found.process.exe, found.process.args, found.process.comm) == (b"", (), b"kthreadd")


def test_incomplete_files_mean_that_the_process_has_ended(host: FakeHost) -> None:
    host.add_process(5, 1, b"/bin/a")
    for name in ("stat", "status"):
        (host.proc / "5" / name).write_bytes(b"")
        assert host.proc_fs().read(5) is None
    assert host.proc_fs().read(6) is None
    assert host.proc_fs().cgroup(6) is None


def test_the_process_of_the_test() -> None:
    found = ProcFs().read(os.getpid())
    assert found is not None
    assert found.process.ppid == os.getppid()
    assert found.process.uid == os.getuid()
    assert b"python" in found.process.exe
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert now - 3600 * SECOND < found.born_ns <= now
