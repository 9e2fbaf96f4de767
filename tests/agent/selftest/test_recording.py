"""Recorded calls are replayed below another folder with the same results."""

from __future__ import annotations

from pathlib import Path

from agent.selftest.recording import script
from agent.selftest.workload import Workload

# strace -xx -f -e trace=%file,%desc of a shell that makes a folder, a file, a link, and removes them again.
RECORDED = r"""
4211  execve("\x2f\x62\x69\x6e\x2f\x73\x68", ["\x73\x68"], 0x7ffd /* 23 vars */) = 0
4211  mkdir("\x64", 0777) = 0
4211  openat(AT_FDCWD, "\x64\x2f\x61", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 3
4211  fchmod(3, 0640)                     = 0
4211  write(3, "\x78\x0a", 2)             = 2
4211  close(3)                            = 0
4211  linkat(AT_FDCWD, "\x64\x2f\x61", AT_FDCWD, "\x64\x2f\x62", 0) = 0
4211  renameat2(AT_FDCWD, "\x64\x2f\x62", AT_FDCWD, "\x64\x2f\x63\x20\xff", RENAME_NOREPLACE) = 0
4211  openat(AT_FDCWD, "\x64", O_RDONLY|O_NOCTTY|O_DIRECTORY) = 4
4211  unlinkat(4, "\x6e\x6f\x6e\x65", 0)  = -1 ENOENT (No such file or directory)
4211  unlinkat(4, "\x61", 0)              = 0
4211  fchmod(9, 0600)                     = -1 EBADF (Bad file descriptor)
4211  close(4)                            = 0
4211  openat(AT_FDCWD, "\x2f\x64\x2f\x63\x20\xff", O_RDONLY) = 4
4211  read(4, 0x7f, <unfinished ...>
"""
PLAYED = [
    ("mkdir", 0),
    ("openat", 0),
    ("fchmod", 0),
    ("close", 0),
    ("linkat", 0),
    ("renameat2", 0),
    ("openat", 0),
    ("unlinkat", -2),
    ("unlinkat", 0),
    ("close", 0),
    ("openat", 0),
]


def test_a_recording_is_replayed(workload: Workload, tmp_path: Path) -> None:
    """Each call has the same result, and the same files exist at the end."""
    outcome = workload.run(script(RECORDED.splitlines(), str(tmp_path)))
    assert [(report.call, min(report.ret, 0)) for report in outcome.reports] == PLAYED
    (left,) = (tmp_path / "d").iterdir()
    assert left.name.encode("utf-8", "surrogateescape") == b"c \xff"
    assert left.stat().st_mode & 0o777 == 0o640


def test_descriptors_become_variables() -> None:
    """A variable can be reused after close; a line with an unknown descriptor is left out."""
    lines = script(RECORDED.splitlines(), "/x").splitlines()
    assert lines[1] == r"openat AT_FDCWD /x/\x64\x2f\x61 O_WRONLY|O_CREAT|O_TRUNC 0666 -> $0"
    assert lines[2:4] == ["fchmod $0 0640", "close $0"]
    assert lines[6:8] == [
        r"openat AT_FDCWD /x/\x64 O_RDONLY|O_DIRECTORY -> $0",
        r"unlinkat $0 \x6e\x6f\x6e\x65 0",
    ]
    assert lines[-1] == r"openat AT_FDCWD /x\x2f\x64\x2f\x63\x20\xff O_RDONLY -> $0"
