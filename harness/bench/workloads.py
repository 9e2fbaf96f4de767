"""The table of what `harness bench` runs beside each monitor, with how often, and what it generates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.bench.places import DISK, LOAD, OUTPUT, PLAIN, WATCHED

# git reads a file again that may have changed in the second of its last look: its files are an hour old.
_TREE, _GIT, _BUILD = f"{DISK}/tree", f"{DISK}/git", f"{DISK}/build"
_FILE, _BUSY, _LATE = f"{PLAIN}/file", f"{WATCHED}/busy", f"{WATCHED}/late"
_LATENCIES, _ALONE = 8, 30


@dataclass(frozen=True)
class Workload:
    """One workload; its figures are divided by `operations`.

    `argv` runs under `bench-load`. It generates `generated` opens of `path` that a monitor must report; 0 if
    what it does is not watched. The shell runs `prepare` before any monitor. If it `waits` for lines of a
    monitor, it does not run without one.
    """

    name: str
    about: str
    argv: tuple[str, ...]
    operations: int = 1
    path: str = ""
    generated: int = 0
    prepare: str = ""
    waits: bool = False


def _load(name: str, about: str, operation: str, count: int, *words: str, prepare: str = "") -> Workload:
    return Workload(name, about, (LOAD, operation, str(count), *words), count, prepare=prepare)


def _run(name: str, about: str, *words: str, prepare: str = "") -> Workload:
    return Workload(name, about, (LOAD, "run", *words), prepare=prepare)


def _written(name: str, about: str, count: int) -> Workload:
    argv = (LOAD, "write", str(count), f"{_BUSY}-{name}")
    return Workload(name, about, argv, count, f"{_BUSY}-{name}", count, f"touch {_BUSY}-{name}")


def _latency(name: str, about: str, count: int, *noise: str) -> Workload:
    files = f"for i in $(seq 0 {count}); do : >{_LATE}-{name}.$i; done; touch {_FILE}"
    argv = (LOAD, "latency", str(count), f"{_LATE}-{name}", OUTPUT, *noise)
    return Workload(name, about, argv, count, prepare=files, waits=True)


WORKLOADS = (
    _load("open", "open and close an unwatched file", "read", 1000, _FILE, prepare=f"touch {_FILE}"),
    _load("create", "create and remove an unwatched file", "create", 500, f"{PLAIN}/new"),
    _load("rename", "rename an unwatched file", "rename", 500, f"{PLAIN}/old", prepare=f"touch {PLAIN}/old"),
    _written("watched", "open a watched file for writing, and close it", 500),
    _run(
        "find",
        "find in a tree of 500 files",
        *("find", _TREE, "-type", "f", "-newer", _FILE),
        prepare=f"""for i in $(seq 10); do
mkdir -p {_TREE}/$i; for j in $(seq 50); do : >{_TREE}/$i/$j; done
done""",
    ),
    _run(
        "git",
        "git status in a work tree of 200 files",
        *("git", "-C", _GIT, "status"),
        prepare=f"""mkdir -p {_GIT}/a; cd {_GIT}; for i in $(seq 200); do echo $i >a/$i; done
export HOME=/root; git init -q .; touch -d "1 hour ago" a/*; git add .
git -c user.name=a -c user.email=a@b commit -q -m a; git status >/dev/null""",
    ),
    _load("exec", "start programs, 100 a second", "exec", 50, "100", "true"),
    _load("exec-fast", "start programs, 800 a second", "exec", 100, "800", "true"),
    _run("dd", "5,000 writes of 500 bytes", "dd", "if=/dev/zero", f"of={PLAIN}/dd", "bs=500", "count=5000"),
    _run(
        "postmark",
        "100 files, 200 transactions",
        *("postmark", f"{PLAIN}/postmark.conf"),
        prepare=f"""mkdir {PLAIN}/pm
printf 'set location {PLAIN}/pm\\nset number 100\\nset transactions 200\\nrun\\nquit\\n' \\
>{PLAIN}/postmark.conf""",
    ),
    _run(
        "build",
        "make with a C compiler, 3 files",
        *("make", "-s", "-C", _BUILD, "CC=gcc"),
        prepare=f"""mkdir {_BUILD}; cd {_BUILD}
for i in $(seq 3); do
printf '#include <stdio.h>\\nint f%d(int a) {{ printf("%%d", a); return a; }}\\n' $i >f$i.c
done
printf 'all: f1.o f2.o f3.o\\n' >Makefile""",
    ),
    _written("flood", "a flood of watched opens", 4000),
    _latency("latency", "one watched open at a time", _ALONE),
    _latency("noise", "one watched open at a time, beside a flood of unwatched ones", _LATENCIES, _FILE),
)  # fmt: skip


def names() -> Sequence[str]:
    """Return the names of all workloads, in the order of the table."""
    return [workload.name for workload in WORKLOADS]
