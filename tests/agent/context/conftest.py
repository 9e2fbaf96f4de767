"""A fake host: its /proc, its user database and its containers are files in a temporary folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.context.enrich import Enricher
from agent.context.procfs import ProcFs
from agent.events.model import Event, EventType, File

TICK_NS = 10_000_000
SECOND = 1_000_000_000


class FakeHost:
    """Writes files as `/proc`, `/sys/fs/cgroup` and `/etc` have them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.cgroups = root / "sys/fs/cgroup"
        for folder in (self.proc, self.cgroups, root / "etc"):
            folder.mkdir(parents=True)
        self.write_names("passwd", "root:x:0:0::/root:/bin/sh", "www:x:33:33::/:/bin/sh")
        self.write_names("group", "root:x:0:", "www:x:33:")

    def write_names(self, name: str, *lines: str) -> None:
        (self.root / "etc" / name).write_text("\n".join(lines) + "\n")

    def add_process(
        self,
        pid: int,
        ppid: int,
        exe: bytes,
        *args: bytes,
        comm: bytes = b"comm",
        born_ns: int = 0,
        uid: int = 0,
        cgroup: str = "0::/",
    ) -> None:
        folder = self.proc / str(pid)
        folder.mkdir()
        fields = b" ".join([b"S", b"%d" % ppid, *[b"0"] * 17, b"%d" % (born_ns // TICK_NS), b"0"])
        (folder / "stat").write_bytes(b"%d (%s) %s\n" % (pid, comm, fields))
        (folder / "status").write_bytes(b"Name:\tx\nUid:\t%d\t0\t0\t0\nGid:\t%d\t0\t0\t0\n" % (uid, uid))
        (folder / "loginuid").write_bytes(b"4294967295")
        (folder / "cmdline").write_bytes(b"".join(arg + b"\0" for arg in args))
        (folder / "cgroup").write_text(cgroup + "\n")
        if exe:
            (folder / "exe").symlink_to(os.fsdecode(exe))

    def remove_process(self, pid: int) -> None:
        for file in (self.proc / str(pid)).iterdir():
            file.unlink()
        (self.proc / str(pid)).rmdir()

    def add_cgroup(self, path: str) -> int:
        folder = self.cgroups / path.lstrip("/")
        folder.mkdir(parents=True)
        return folder.stat().st_ino

    def proc_fs(self) -> ProcFs:
        return ProcFs(self.proc, ticks_per_second=SECOND // TICK_NS)

    def enricher(self) -> Enricher:
        return Enricher(self.root, self.proc_fs())


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def fork(time_ns: int, pid: int, ppid: int, uid: int = 0) -> Event:
    return Event(EventType.FORK, time_ns, ppid, ppid, 0, uid, uid, comm=b"forks", child_pid=pid)


def exec_(
    time_ns: int, pid: int, ppid: int, exe: bytes, *args: bytes, retval: int = 0, uid: int = 0
) -> Event:
    event = Event(EventType.EXEC, time_ns, pid, pid, ppid, uid, uid, comm=exe[-15:], file=File(exe))
    event.args, event.retval = args, retval
    return event


def exit_(time_ns: int, pid: int) -> Event:
    return Event(EventType.EXIT, time_ns, pid, pid)


def opened(time_ns: int, pid: int, ppid: int = 1, uid: int = 0, cgroup_id: int = 0) -> Event:
    return Event(EventType.OPEN, time_ns, pid, pid, ppid, uid, uid, comm=b"opener", cgroup_id=cgroup_id)
