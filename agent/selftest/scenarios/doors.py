"""The same operation by every system call that leads to it."""

from __future__ import annotations

import errno
from pathlib import Path

from agent.hooks import coverage
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.scenarios import proves

COPIED = 13  # bytes
NATIVE_WORKERS = 1 << 9  # IORING_FEAT_NATIVE_WORKERS


def _everything(folder: str) -> dict[str, str]:
    """Rules that want all that happens to names in a folder."""
    kinds = ("open", "close", "unlink", "rmdir", "mkdir", "rename", "link", "symlink", "mknod")
    rules = {kind: f'{kind}.file.path =~ "{folder}/*"' for kind in kinds}
    return rules | {kind: f'{kind}.file.path =~ "{folder}/*"' for kind in ("chmod", "chown", "utimes")}


def _told(played: Round) -> list[tuple[str, str, str]]:
    """Type, name and second name of all events, in order."""
    return [
        (
            one.event.type.label,
            one.event.file.name.decode(),
            one.event.file2.name.decode() if one.event.file2 else "",
        )
        for one in played.judged
    ]


def _blind(bench: Bench, door: str, kind: str) -> str:
    """Why events of this type that come by a door are not seen; empty where they must be."""
    return coverage.UNSEEN_ENTRY_POINTS["tracepoint"].get(door, "") if _spelled(bench, kind) else ""


def _spelled(bench: Bench, kind: str) -> bool:
    """Whether events of this type are told by their system calls alone."""
    return str(bench.subject.facts()["limits"].get(kind, "")).startswith(coverage.ARGUMENTS_ONLY)


def _unseen(bench: Bench, script: str, why: str) -> None:
    """Hold a set to what it says that it does not see; then there is nothing else to prove."""
    played = bench.play(script, unseen=True)
    bench.equal(f"events, for {why}", [], _told(played))
    raise CannotTellError(why)


def _check(bench: Bench, folder: str, script: str, expected: list[tuple[str, str, str]]) -> None:
    bench.rules(**_everything(folder))
    played = bench.play(script)
    bench.equal("events", expected, _told(played))
    paths = {one.event.file.path.rpartition(b"/")[0].decode() for one in played.judged}
    bench.equal("their directory", {folder}, paths)


def _folder(bench: Bench) -> str:
    folder = bench.path("folder")
    Path(folder).mkdir()
    return folder


@proves("doors.at")
def doors_at(bench: Bench) -> None:
    """Relative to a descriptor of the directory."""
    folder = _folder(bench)
    lines = f"""open {folder} O_RDONLY|O_DIRECTORY -> $0
openat $0 a O_RDWR|O_CREAT 0600 -> $1
close $1
linkat $0 a $0 b
symlinkat text $0 c
mkdirat $0 d 0700
mknodat $0 e S_IFIFO|0600
renameat $0 a $0 f
fchmodat $0 f 0640
fchownat $0 f 0 0
utimensat $0 f 86400
unlinkat $0 b
unlinkat $0 d AT_REMOVEDIR
close $0
"""
    one = [
        ("open", "a", ""),
        ("close", "a", ""),
        ("link", "a", "b"),
        ("symlink", "c", ""),
        ("mkdir", "d", ""),
    ]
    two = [
        ("mknod", "e", ""),
        ("rename", "a", "f"),
        ("chmod", "f", ""),
        ("chown", "f", ""),
        ("utimes", "f", ""),
    ]
    _check(bench, folder, lines, [*one, *two, ("unlink", "b", ""), ("rmdir", "d", "")])


@proves("doors.openat2")
def doors_openat2(bench: Bench) -> None:
    """With restrictions on how the path is resolved, granted and refused."""
    folder = _folder(bench)
    how = "O_RDWR|O_CREAT 0600 RESOLVE_BENEATH"
    lines = f"open {folder} O_RDONLY|O_DIRECTORY -> $0\nopenat2 $0 a {how} -> $1\nclose $1\nclose $0\n"
    _check(bench, folder, lines, [("open", "a", ""), ("close", "a", "")])
    out = f"open {folder} O_RDONLY|O_DIRECTORY -> $0\nopenat2 $0 ../b {how}\nclose $0\n"
    bench.rules(escaped=f'open.file.path == "{bench.path("b")}"')
    played = bench.play(out, refused={f"openat2:2 errno {errno.EXDEV}": 1})
    bench.arrives_once(played, "escaped", {"retval": -errno.EXDEV})


@proves("doors.exchange")
def doors_exchange(bench: Bench) -> None:
    """Two files take each other's name: one event with both."""
    folder = _folder(bench)
    for name in ("a", "b"):
        bench.file(f"folder/{name}")
    swap = f"renameat2 AT_FDCWD {folder}/a AT_FDCWD {folder}/b EXCHANGE\n"
    _check(bench, folder, swap, [("rename", "a", "b")])


@proves("doors.noreplace")
def doors_noreplace(bench: Bench) -> None:
    """A rename that must not replace is told when it does not."""
    old, new = bench.file("old"), bench.file("new")
    bench.rules(moved=f'rename.file.destination.path == "{new}"')
    line = f"renameat2 AT_FDCWD {old} AT_FDCWD {new} NOREPLACE\n"
    refused = bench.play(line, refused={f"renameat2:1 errno {errno.EEXIST}": 1})
    told = {"file.path": old.encode(), "file2.path": new.encode()}
    bench.arrives_once(refused, "moved", told | {"retval": -errno.EEXIST})
    Path(new).unlink()
    bench.arrives_once(bench.play(line), "moved", told | {"retval": 0})


@proves("doors.tmpfile")
def doors_tmpfile(bench: Bench) -> None:
    """A file that is made without a name, and gets one when it is whole."""
    with bench.mounted("fs") as folder:
        bench.rules(
            named=f'link.file.destination.path == "{folder}/named"', closed='close.file.name == "named"'
        )
        opened = bench.play(f"open {folder} O_TMPFILE|O_RDWR 0600 -> $0\nwrite $0 whole\n")
        number = opened.outcome.of("open")[0].ret
        line = f"linkat AT_FDCWD /proc/self/fd/{number} AT_FDCWD {folder}/named AT_SYMLINK_FOLLOW\n"
        played = bench.play(line)
        told: dict[str, object] = {"file2.path": f"{folder}/named".encode()}
        if not _spelled(bench, "link"):
            told["file2.inode"] = Path(f"{folder}/named").stat().st_ino
        bench.arrives_once(played, "named", told)
        bench.unwatched("close $0\n")


@proves("doors.truncate")
def doors_truncate(bench: Bench) -> None:
    """A file is emptied by an open, whose flags say so, and by two calls."""
    folder = _folder(bench)
    path = bench.file("folder/file")
    bench.rules(opened="open.flags & O_TRUNC > 0", cut=f'truncate.file.path == "{path}"')
    script = f"open {path} O_WRONLY|O_TRUNC -> $0\nftruncate $0 7\nclose $0\ntruncate {folder}/file 3\n"
    played = bench.play(script)
    bench.arrives_once(played, "opened", {"file.path": path.encode()})
    bench.equal("truncations", 2, len(played.matches("cut")))


@proves("doors.copy")
def doors_copy(bench: Bench) -> None:
    """What is written without write(2) is told when the file is closed."""
    source = bench.file("source")
    Path(source).write_bytes(b"x" * 4096)
    for line in (
        f"sendfile $1 $0 0 {COPIED}",
        f"copy_file_range $0 0 $1 0 {COPIED} 0",
        f"splice $0 $1 {COPIED}",
        "mapwrite $1 text",
    ):
        path = bench.path(line.split()[0])
        bench.rules(closed=f'close.file.path == "{path}"')
        opens = f"open {source} O_RDONLY -> $0\nopen {path} O_RDWR|O_CREAT 0600 -> $1\n"
        played = bench.play(f"{opens}{line}\nclose $1\nclose $0\n")
        bench.arrives_once(played, "closed", {"file.path": path.encode(), "retval": 0})
        bench.equal(f"something was written by {line.split()[0]}", True, Path(path).stat().st_size > 0)


def _in_child(lines: str) -> str:
    return f"fork -> $1\n{lines}end\nwait $1\n"


@proves("doors.compat")
def doors_compat(bench: Bench) -> None:
    """By int 0x80, as 32-bit programs do; in a child, because it is deadly where the kernel has none."""
    folder = _folder(bench)
    tried = bench.unwatched(_in_child(f"mkdir32 {folder}/try 0700\nrmdir32 {folder}/try\n"))
    if status := tried.of("wait")[0].status:
        raise CannotTellError(f"int 0x80 ends a process here with status {status}: no 32-bit calls")
    if tried.failures:
        raise CannotTellError(f"no 32-bit calls here: {dict(tried.failures)}")
    bench.rules(**_everything(folder), cut=f'truncate.file.path =~ "{folder}/*"')
    played = bench.play(
        _in_child(f"""open32 {folder}/a O_RDWR|O_CREAT 0600 -> $0
close $0
link32 {folder}/a {folder}/b
chmod32 {folder}/a 0640
truncate32 {folder}/a 7
rename32 {folder}/a {folder}/c
symlink32 text {folder}/d
mkdir32 {folder}/e 0700
rmdir32 {folder}/e
unlink32 {folder}/b
""")
    )
    one = [
        ("open", "a", ""),
        ("close", "a", ""),
        ("link", "a", "b"),
        ("chmod", "a", ""),
        ("truncate", "a", ""),
    ]
    two = [
        ("rename", "a", "c"),
        ("symlink", "d", ""),
        ("mkdir", "e", ""),
        ("rmdir", "e", ""),
        ("unlink", "b", ""),
    ]
    bench.equal("events", [*one, *two], _told(played))


@proves("doors.io_uring")
def doors_io_uring(bench: Bench) -> None:
    """By a ring, whose work may be done by another thread: each call once, by the process that asked."""
    folder = bench.path("folder")
    (ring,) = bench.unwatched("ring_features\n").reports
    if ring.ret < 0:
        raise CannotTellError(f"no io_uring here: errno {-ring.ret}")
    if not ring.ret & NATIVE_WORKERS:
        raise CannotTellError("a ring's work is done by kernel threads here, which no test's scope can hold")
    tried = bench.unwatched("".join(f"{line}\n" for line, *_ in _ring_steps(bench, "try")))
    missing = {report.call for report in tried.reports if errno.EINVAL in report.errors}
    bench.evidence.record("rings here can", True, "what they can", "all but " + ", ".join(sorted(missing)))
    rules = _everything(folder) | {"setxattr": f'setxattr.file.path =~ "{folder}/*"'}
    bench.rules(**{kind: rule for kind, rule in rules.items() if kind != "close"})
    if why := _blind(bench, "io_uring", "open"):
        lines = [line for line, *_ in _ring_steps(bench, "folder") if line.split()[0] not in missing]
        _unseen(bench, "".join(f"{line}\n" for line in lines), why)
    for line, *told in _ring_steps(bench, "folder"):
        if line.split()[0] not in missing:
            played = bench.play(f"{line}\n")
            bench.equal(f"events of {line.split()[0]}", [tuple(told)], _told(played))
            bench.equal("their process", {bench.pid}, {one.event.pid for one in played.judged})


def _ring_steps(bench: Bench, name: str) -> tuple[tuple[str, str, str, str], ...]:
    """Calls by a ring in a folder, none of which needs another, and the event of each."""
    folder = Path(bench.path(name))
    (folder / "h").mkdir(parents=True)
    for file in ("b", "d", "g", "k"):
        bench.file(f"{name}/{file}")
    return (
        (f"ring_openat AT_FDCWD {folder}/a O_RDONLY|O_CREAT 0600 -> $0", "open", "a", ""),
        (f"ring_linkat AT_FDCWD {folder}/b AT_FDCWD {folder}/c", "link", "b", "c"),
        (f"ring_renameat AT_FDCWD {folder}/d AT_FDCWD {folder}/e", "rename", "d", "e"),
        (f"ring_symlinkat text AT_FDCWD {folder}/f", "symlink", "f", ""),
        (f"ring_unlinkat AT_FDCWD {folder}/g", "unlink", "g", ""),
        (f"ring_unlinkat AT_FDCWD {folder}/h AT_REMOVEDIR", "rmdir", "h", ""),
        (f"ring_mkdirat AT_FDCWD {folder}/i 0700", "mkdir", "i", ""),
        (f"ring_openat2 AT_FDCWD {folder}/j O_RDONLY|O_CREAT 0600 -> $1", "open", "j", ""),
        (f"ring_setxattr {folder}/k trusted.fim value", "setxattr", "k", ""),
    )


@proves("doors.handle")
def doors_handle(bench: Bench) -> None:
    """By a handle there is no name to look up; the path is told all the same."""
    with bench.mounted("fs") as folder:
        path = bench.file("fs/file")
        bench.rules(opened=f'open.file.path == "{path}"')
        script = f"chdir {folder}\nopen_handle {path} O_RDONLY -> $0\nclose $0\nchdir /\n"
        if why := _blind(bench, "handle", "open"):
            _unseen(bench, script, why)
        played = bench.play(script)
        bench.arrives_once(played, "opened", {"file.path": path.encode(), "retval": 0})
