"""The same operation is reported for each entry point of the kernel: system calls, io_uring, file handles."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.events.model import EventType, FileFlags
from agent.hooks import coverage, sets
from agent.rules.constants import INODE_FLAGS
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.scenarios import at_least, proves

COPIED = 13  # bytes
NOBODY = 65534
OWNER = 65521  # of a file that NOBODY is refused

NATIVE_WORKERS = 1 << 9  # IORING_FEAT_NATIVE_WORKERS


def _everything(folder: str) -> dict[str, str]:
    """Return rules that match all events of names in a folder."""
    kinds = "open close unlink rmdir mkdir rename link symlink mknod chmod chown utimes"
    return {kind: f'{kind}.file.path =~ "{folder}/*"' for kind in kinds.split()}


def _reported(played: Round) -> list[tuple[str, str, str]]:
    """Return type, name and second name of all events, in order."""
    events = [judged.event for judged in played.judged]
    seconds = [event.file2.name.decode() if event.file2 else "" for event in events]
    return [(one.type.label, one.file.name.decode(), two) for one, two in zip(events, seconds, strict=True)]


def _events(text: str) -> list[tuple[str, str, str]]:
    """Return what `_reported` returns for events such as `open a, link a b`."""
    words = (event.split() for event in text.split(", "))
    return [(kind, name, "".join(second)) for kind, name, *second in words]


def _why_unseen(bench: Bench, entry_point: str, kind: str) -> str:
    """Return why events of this type are not seen at an entry point; empty if they must be seen."""
    unseen = coverage.UNSEEN_ENTRY_POINTS["tracepoint"]
    return unseen.get(entry_point, "") if _arguments_only(bench, kind) else ""


def _arguments_only(bench: Bench, kind: str) -> bool:
    """Return whether only the arguments of system calls show events of this type."""
    return str(bench.subject.facts()["limits"].get(kind, "")).startswith(coverage.ARGUMENTS_ONLY)


def _check_unseen(bench: Bench, script: str, why: str) -> None:
    """Check that a script has no events, as the hook set claims, and raise CannotTellError."""
    played = bench.play(script, unseen=True)
    bench.equal(f"events, because {why}", [], _reported(played))
    raise CannotTellError(why)


def _check(bench: Bench, folder: str, script: str, expected: list[tuple[str, str, str]]) -> None:
    bench.rules(**_everything(folder))
    played = bench.play(script)
    bench.equal("events", expected, _reported(played))
    paths = {judged.event.file.path.rpartition(b"/")[0].decode() for judged in played.judged}
    bench.equal("their directory", {folder}, paths)


def _folder(bench: Bench) -> str:
    folder = bench.path("folder")
    Path(folder).mkdir()
    return folder


@proves("doors.at")
def doors_at(bench: Bench) -> None:
    """Make system calls relative to a descriptor of the directory."""
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
    first = "open a, close a, link a b, symlink c, mkdir d, mknod e, rename a f"
    _check(bench, folder, lines, _events(f"{first}, chmod f, chown f, utimes f, unlink b, rmdir d"))


@proves("doors.openat2")
def doors_openat2(bench: Bench) -> None:
    """Open files with openat2 and a restriction, within and outside of the directory."""
    folder = _folder(bench)
    how = "O_RDWR|O_CREAT 0600 RESOLVE_BENEATH"
    lines = f"open {folder} O_RDONLY|O_DIRECTORY -> $0\nopenat2 $0 a {how} -> $1\nclose $1\nclose $0\n"
    _check(bench, folder, lines, [("open", "a", ""), ("close", "a", "")])
    out = f"open {folder} O_RDONLY|O_DIRECTORY -> $0\nopenat2 $0 ../b {how}\nclose $0\n"
    bench.rules(escaped=f'open.file.path == "{bench.path("b")}"')
    played = bench.play(out, refused={f"openat2:2 errno {errno.EXDEV}": 1})
    bench.arrives_once(played, "escaped", {"retval": -errno.EXDEV})


@proves("doors.exec_refused")
def doors_exec_refused(bench: Bench) -> None:
    """Try to execute a file without permission to execute it, by its path and by a link to it."""
    path, link = bench.file("program"), bench.path("link")
    Path(path).chmod(0o600)
    Path(link).symlink_to(path)
    bench.rules(watched=f'exec.file.path == "{path}" && exec.retval < 0')
    for word in (path, link):
        script = f"fork -> $1\nexec {word}\nend\nwait $1\n"
        played = bench.play(script, refused={f"exec:2 errno {errno.EACCES}": 1})
        (child,) = (report.ret for report in played.outcome.of("fork"))
        known = {"file.path": path.encode(), "pid": child, "retval": -errno.EACCES, "args": ()}
        bench.arrives_once(played, "watched", known)


def _secret(bench: Bench, mode: int) -> tuple[str, str]:
    """Return a folder that all may search, and a file of root in it."""
    folder = _folder(bench)
    Path(folder).chmod(0o755)
    path = bench.file("folder/secret")
    Path(path).chmod(mode)
    bench.folder.chmod(0o755)
    return folder, path


def _check_refused(bench: Bench, path: str, flags: str, error: int, *words: str) -> None:
    """Be refused a file by these words, as a user, and check that each event has its path."""
    bench.rules(refused=f'open.file.path == "{path}" && open.retval == {errno.errorcode[error]}')
    before = f"fork -> $1\nchdir {Path(path).parent}\nsetuid {NOBODY}\n"
    for word in (path, f"/proc/self/root{path}", "secret", *words):
        script = f"{before}open {word} {flags}\nend\nwait $1\n"
        played = bench.play(script, refused={f"open:4 errno {error}": 1})
        bench.arrives_once(played, "refused", {"file.path": path.encode(), "uid": NOBODY})
        marks = {event.file.flags & FileFlags.AS_GIVEN for event in played.matches("refused")}
        bench.equal(f"marks of {word}", {0}, marks)


@proves("doors.refused_links")
def doors_refused_links(bench: Bench) -> None:
    """Be refused a file by a link, by a magic link of /proc, from a working directory and by its path."""
    folder, path = _secret(bench, 0o600)
    Path(f"{folder}/link").symlink_to("secret")
    Path(f"{folder}/second").symlink_to(f"{folder}/link")
    _check_refused(bench, path, "O_RDONLY", errno.EACCES, f"{folder}/link", f"{folder}/second", "./link")


@proves("doors.refused_exclusive")
def doors_refused_exclusive(bench: Bench) -> None:
    """Be refused to create a file that exists, also by a link to its directory."""
    folder, path = _secret(bench, 0o644)
    Path(bench.path("other")).symlink_to(folder)
    words = (f"{bench.folder}/other/secret", "../other/secret")
    _check_refused(bench, path, "O_WRONLY|O_CREAT|O_EXCL 0600", errno.EEXIST, *words)


@proves("doors.refused_sticky")
def doors_refused_sticky(bench: Bench) -> None:
    """Be refused to open with O_CREAT what another user made in a sticky directory of all users."""
    folder, path = _secret(bench, 0o666)
    os.chown(path, OWNER, OWNER)
    Path(folder).chmod(0o1777)
    Path(bench.path("link")).symlink_to(path)
    with at_least("fs/protected_regular", 1):
        for flags in ("O_WRONLY|O_CREAT 0600", "O_WRONLY|O_CREAT|O_TRUNC 0600"):
            _check_refused(bench, path, flags, errno.EACCES, bench.path("link"), "../link")


READ_ONLY_FLAG, REMOUNT_FLAG, MOVE_FLAG = 1, 32, 8192  # flags of mount(2)


def _mount_step(bench: Bench, script: str, known: dict[str, object], after: str = "") -> bool:
    """Play a script of which one call mounts, and check its event; return whether bcc compiled the programs.

    Those know no source of a mount: docs/limits.md.
    """
    played = bench.play(script + after)
    compiled = any(sets.FAMILIES[event.program] == sets.BCC for event in played.matches("watched"))
    expected = {name: value for name, value in known.items() if not (compiled and name == "source")}
    bench.arrives_once(played, "watched", {"file.path": bench.path("place").encode(), "retval": 0} | expected)
    return compiled


@proves("doors.mount_api")
def doors_mount_api(bench: Bench) -> None:
    """Mount, copy and move a mount, change its attributes and remount it by descriptors."""
    place, other = bench.path("place"), bench.path("other")
    for folder in (place, other):
        Path(folder).mkdir()
    bench.rules(watched=f'mount.mountpoint.path == "{place}"')
    known: dict[str, object] = {"name": b"tmpfs", "source": b"fim-source"}
    made = "fsopen tmpfs -> $0\nfsconfig $0 source fim-source\nfsconfig_create $0\nfsmount $0 -> $1\n"
    attach = f"AT_FDCWD {place} MOVE_MOUNT_F_EMPTY_PATH\nclose $1\n"
    compiled = _mount_step(bench, f'{made}close $0\nmove_mount $1 "" {attach}', known | {"flags": 0})
    remount = f"fspick AT_FDCWD {place} -> $0\nfsconfig_flag $0 ro\nfsconfig_reconfigure $0\nclose $0\n"
    if not compiled:  # which know no mount of a remount either
        _mount_step(bench, remount, {"name": b"tmpfs", "flags": REMOUNT_FLAG | READ_ONLY_FLAG})
    bench.unwatched(f"umount {place}\nmount fim-source {other} tmpfs\n")
    _mount_step(bench, f"move_mount AT_FDCWD {other} AT_FDCWD {place}\n", known | {"flags": MOVE_FLAG})
    copy = f'open_tree AT_FDCWD {place} OPEN_TREE_CLONE -> $1\nmove_mount $1 "" {attach}'
    _mount_step(bench, copy, known | {"flags": 0}, after=f"umount {place}\n")
    _check_attributes(bench, place)
    bench.unwatched(f"umount {place}\n")


def _check_attributes(bench: Bench, place: str) -> None:
    for call, keep in (("mount_setattr", ""), ("open_tree_attr", " -> $1\nclose $1")):
        script = f"{call} AT_FDCWD {place} 0 MOUNT_ATTR_RDONLY{keep}\n"
        if errno.ENOSYS not in bench.unwatched(script).reports[0].errors:
            played = bench.play(script)
            known = {"file.path": place.encode(), "retval": played.outcome.reports[0].ret}
            bench.arrives_once(played, "watched", known | {"file.flags": FileFlags.AS_GIVEN})


@proves("doors.pivot_root")
def doors_pivot_root(bench: Bench) -> None:
    """Make another mount the root of a namespace; the old root appears below it."""
    root = bench.path("root")
    with bench.mounted("root"):
        Path(f"{root}/old").mkdir()
        bench.rules(watched='mount.mountpoint.name == "old"')
        alone = "unshare CLONE_NEWNS\nmount none / none MS_REC|MS_PRIVATE\n"
        played = bench.play(in_child(f"{alone}pivot_root {root} {root}/old\n"))
        bench.arrives_once(played, "watched", {"retval": 0, "flags": MOVE_FLAG})


@proves("doors.mount_compat")
def doors_mount_compat(bench: Bench) -> None:
    """A mount that a 32-bit caller moves, as int 0x80 does it."""
    check_compat(bench)
    place, other = bench.path("place"), bench.path("other")
    for folder in (place, other):
        Path(folder).mkdir()
    bench.unwatched(f"mount fim-source {other} tmpfs\n")
    try:
        bench.rules(watched=f'mount.mountpoint.path == "{place}"')
        line = f"move_mount32 AT_FDCWD {other} AT_FDCWD {place}\n"
        _mount_step(bench, in_child(line), {"name": b"tmpfs", "source": b"fim-source", "flags": MOVE_FLAG})
    finally:
        bench.unwatched(f"umount {other}\numount {place}\n")


@proves("doors.exchange")
def doors_exchange(bench: Bench) -> None:
    """Exchange two files."""
    folder = _folder(bench)
    for name in ("a", "b"):
        bench.file(f"folder/{name}")
    swap = f"renameat2 AT_FDCWD {folder}/a AT_FDCWD {folder}/b EXCHANGE\n"
    _check(bench, folder, swap, [("rename", "a", "b")])


@proves("doors.noreplace")
def doors_noreplace(bench: Bench) -> None:
    """Rename a file with RENAME_NOREPLACE, to a name that exists and to one that does not."""
    old, new = bench.file("old"), bench.file("new")
    bench.rules(moved=f'rename.file.destination.path == "{new}"')
    line = f"renameat2 AT_FDCWD {old} AT_FDCWD {new} NOREPLACE\n"
    refused = bench.play(line, refused={f"renameat2:1 errno {errno.EEXIST}": 1})
    expected = {"file.path": old.encode(), "file2.path": new.encode()}
    bench.arrives_once(refused, "moved", expected | {"retval": -errno.EEXIST})
    Path(new).unlink()
    bench.arrives_once(bench.play(line), "moved", expected | {"retval": 0})


@proves("doors.tmpfile")
def doors_tmpfile(bench: Bench) -> None:
    """Create a file with O_TMPFILE, and link it to a name."""
    with bench.mounted("fs") as folder:
        bench.rules(
            named=f'link.file.destination.path == "{folder}/named"', closed='close.file.name == "named"'
        )
        opened = bench.play(f"open {folder} O_TMPFILE|O_RDWR 0600 -> $0\nwrite $0 whole\n")
        number = opened.outcome.of("open")[0].ret
        line = f"linkat AT_FDCWD /proc/self/fd/{number} AT_FDCWD {folder}/named AT_SYMLINK_FOLLOW\n"
        played = bench.play(line)
        expected: dict[str, object] = {"file2.path": f"{folder}/named".encode()}
        if not _arguments_only(bench, "link"):
            expected["file2.inode"] = Path(f"{folder}/named").stat().st_ino
        bench.arrives_once(played, "named", expected)
        bench.unwatched("close $0\n")


@proves("doors.truncate")
def doors_truncate(bench: Bench) -> None:
    """Truncate a file by an open with O_TRUNC and by two system calls, then one that is open for reading."""
    folder = _folder(bench)
    path = bench.file("folder/file")
    bench.rules(opened="open.flags & O_TRUNC > 0", cut=f'truncate.file.path == "{path}"')
    script = f"open {path} O_WRONLY|O_TRUNC -> $0\nftruncate $0 7\nclose $0\ntruncate {folder}/file 3\n"
    played = bench.play(script)
    bench.arrives_once(played, "opened", {"file.path": path.encode()})
    bench.equal("truncations", 2, len(played.matches("cut")))
    script = f"open {path} O_RDONLY -> $0\nftruncate $0 7\nclose $0\n"
    refused = bench.play(script, refused={f"ftruncate:2 errno {errno.EINVAL}": 1})
    bench.arrives_once(refused, "cut", {"file.path": path.encode(), "retval": -errno.EINVAL})


@proves("doors.copy")
def doors_copy(bench: Bench) -> None:
    """Write files without write(2), and close them."""
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
        bench.equal(f"{line.split()[0]} wrote something", True, Path(path).stat().st_size > 0)


def in_child(lines: str) -> str:
    """Return a script whose lines a child plays."""
    return f"fork -> $1\n{lines}end\nwait $1\n"


def _check_machine() -> None:
    """Raise CannotTellError where the generator makes no 32-bit calls, whether the kernel has them or not."""
    if (machine := os.uname().machine) != "x86_64":
        raise CannotTellError(f"not tested on {machine}: the generator makes 32-bit calls of x86 only")


def check_compat(bench: Bench) -> None:
    """Raise CannotTellError where a 32-bit call fails, or kills its process."""
    _check_machine()
    folder = bench.path("tried")
    tried = bench.unwatched(in_child(f"mkdir32 {folder} 0700\nrmdir32 {folder}\n"))
    if (status := tried.of("wait")[0].status) or tried.failures:
        raise CannotTellError(f"no 32-bit calls here: int 0x80 ends with {status}, {dict(tried.failures)}")


@proves("doors.compat")
def doors_compat(bench: Bench) -> None:
    """Make 32-bit calls with int 0x80, in a child, which a kernel without 32-bit calls kills."""
    check_compat(bench)
    folder = _folder(bench)
    bench.rules(**_everything(folder), cut=f'truncate.file.path =~ "{folder}/*"')
    played = bench.play(
        in_child(f"""open32 {folder}/a O_RDWR|O_CREAT 0600 -> $0
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
    first = "open a, close a, link a b, chmod a, truncate a, rename a c, symlink d"
    bench.equal("events", _events(f"{first}, mkdir e, rmdir e, unlink b"), _reported(played))


@proves("doors.compat_chattr")
def doors_compat_chattr(bench: Bench) -> None:
    """Set and clear flags of a file by a 32-bit ioctl, which has a command and a function of its own."""
    check_compat(bench)
    with bench.mounted("fs", "ext4"):
        path = bench.file("fs/watched")
        bench.rules(watched=f'chattr.file.path == "{path}"')
        for word, flags in (("FS_APPEND_FL", INODE_FLAGS["FS_APPEND_FL"]), ("0", 0)):
            played = bench.play(in_child(f"open {path} O_RDONLY -> $0\nchattr32 $0 {word}\n"))
            known = {"file.path": path.encode(), "flags": flags, "retval": 0}
            bench.arrives_once(played, "watched", known)


@proves("doors.chattr")
def doors_chattr(bench: Bench) -> None:
    """Set flags of a file by both commands of ioctl and by name, and fail as another user."""
    with bench.mounted("fs", "ext4"):
        path = bench.file("fs/watched")
        os.chown(path, NOBODY, NOBODY)  # the owner lacks only the capability
        bench.rules(watched=f'chattr.file.path == "{path}"', append="chattr.flags & FS_APPEND_FL > 0")
        known = {"type": EventType.CHATTR, "file.path": path.encode(), "retval": 0}
        for line, flags in (
            ("chattr $0 FS_APPEND_FL", INODE_FLAGS["FS_APPEND_FL"]),
            ("fssetxattr $0 FS_XFLAG_IMMUTABLE", INODE_FLAGS["FS_IMMUTABLE_FL"]),
            ("chattr $0 0", 0),
            ("chattr_untouched $0 FS_APPEND_FL", INODE_FLAGS["FS_APPEND_FL"]),
            ("chattr_untouched $0 0", 0),
        ):
            played = bench.play(f"open {path} O_RDONLY -> $0\n{line}\nclose $0\n")
            bench.arrives_once(played, "watched", known | {"flags": flags})
            matching = ("watched", "append") if flags == INODE_FLAGS["FS_APPEND_FL"] else ("watched",)
            bench.equal(f"rules of {line}", matching, played.judged[0].rules)
        child = f"fork -> $1\nsetuid {NOBODY}\nchattr $0 FS_IMMUTABLE_FL\nend\nwait $1\n"
        script = f"open {path} O_RDONLY -> $0\n{child}close $0\n"
        played = bench.play(script, refused={f"chattr:4 errno {errno.EPERM}": 1})
        refused = {"retval": -errno.EPERM, "flags": INODE_FLAGS["FS_IMMUTABLE_FL"], "uid": NOBODY}
        bench.arrives_once(played, "watched", known | refused)
        _chattr_by_name(bench, path, known)


def _chattr_by_name(bench: Bench, path: str, known: dict[str, object]) -> None:
    """Set flags by file_setattr(2), where the kernel has it."""
    line = f"file_setattr AT_FDCWD {path} FS_XFLAG_IMMUTABLE\n"
    (report,) = bench.unwatched(line).reports
    bench.unwatched(f"open {path} O_RDONLY -> $0\nchattr $0 0\nclose $0\n")
    bench.evidence.record("file_setattr(2)", True, "any", f"returned {report.ret}")
    if errno.ENOSYS not in report.errors:
        played = bench.play(line)
        bench.arrives_once(played, "watched", known | {"flags": INODE_FLAGS["FS_IMMUTABLE_FL"]})
        bench.unwatched(f"open {path} O_RDONLY -> $0\nchattr $0 0\nclose $0\n")


@proves("doors.bind")
def doors_bind(bench: Bench) -> None:
    """Give sockets a name: a new one, one that exists, and one in a folder of another user."""
    path = bench.path("watched")
    bench.rules(watched=f'mknod.file.path == "{path}" && mknod.file.destination.mode & S_IFMT == S_IFSOCK')
    known = {"type": EventType.MKNOD, "file.path": path.encode()}
    made = bench.play(f"bind {path}\n")
    bench.arrives_once(made, "watched", known | {"retval": 0, "pid": bench.pid})
    again = bench.play(f"bind {path}\n", refused={f"bind:1 errno {errno.EADDRINUSE}": 1})
    bench.arrives_once(again, "watched", known | {"retval": -errno.EADDRINUSE})
    Path(path).unlink()
    script = f"fork -> $1\nsetuid {NOBODY}\nbind {path}\nend\nwait $1\n"
    refused = bench.play(script, refused={f"bind:3 errno {errno.EACCES}": 1})
    bench.arrives_once(refused, "watched", known | {"retval": -errno.EACCES, "uid": NOBODY})


@proves("doors.io_uring")
def doors_io_uring(bench: Bench) -> None:
    """Make calls by io_uring, whose work another thread may do; events have the requesting process."""
    folder = bench.path("folder")
    (ring,) = bench.unwatched("ring_features\n").reports
    if ring.ret < 0:
        raise CannotTellError(f"this kernel has no io_uring: errno {-ring.ret}")
    if not ring.ret & NATIVE_WORKERS:
        raise CannotTellError(
            "kernel threads do the work of io_uring here, and they are not in the scope of the test"
        )
    tried = bench.unwatched("".join(f"{line}\n" for line, *_ in _ring_steps(bench, "try")))
    missing = {report.call for report in tried.reports if errno.EINVAL in report.errors}
    bench.evidence.record("calls of io_uring", True, "any", "all but " + ", ".join(sorted(missing)))
    rules = _everything(folder) | {"setxattr": f'setxattr.file.path =~ "{folder}/*"'}
    bench.rules(**{kind: rule for kind, rule in rules.items() if kind != "close"})
    steps = [step for step in _ring_steps(bench, "folder") if step[0].split()[0] not in missing]
    unseen = {kind: _why_unseen(bench, "io_uring", kind) for _line, kind, *_names in steps}
    for line, *expected in steps:
        call, why = line.split()[0], unseen[expected[0]]
        played = bench.play(f"{line}\n", unseen=bool(why))
        if why:
            bench.equal(f"events of {call}, because {why}", [], _reported(played))
        else:
            bench.equal(f"events of {call}", [tuple(expected)], _reported(played))
            bench.equal("their process", {bench.pid}, {judged.event.pid for judged in played.judged})
    if all(unseen.values()):
        raise CannotTellError(unseen["open"])


def _ring_steps(bench: Bench, name: str) -> tuple[tuple[str, str, str, str], ...]:
    """Return independent io_uring calls in a folder, each with its event."""
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
    """Open a file by its handle, without a name."""
    with bench.mounted("fs") as folder:
        path = bench.file("fs/file")
        bench.rules(opened=f'open.file.path == "{path}"')
        script = f"chdir {folder}\nopen_handle {path} O_RDONLY -> $0\nclose $0\nchdir /\n"
        if why := _why_unseen(bench, "handle", "open"):
            _check_unseen(bench, script, why)
        played = bench.play(script)
        bench.arrives_once(played, "opened", {"file.path": path.encode(), "retval": 0})
