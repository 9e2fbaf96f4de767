"""Events have the correct file, process and result."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.events.model import EventType, FileFlags
from agent.selftest.bench import Bench, Round
from agent.selftest.filesystems import container
from agent.selftest.scenarios import proves
from agent.selftest.subject import Actor, Judged
from agent.selftest.workload import quote

NOBODY = 65534
BRIEF = 13  # processes that end as soon as they start
EXIT_STATUS = 7
FULL_NAME = 255  # bytes, the longest name of a file
DEEP = 17  # directories of a path that is too long
REPORTED = 4096  # bytes of a path that an event has
BRIEF_NS = 2_000_000  # the life of a brief process
TAMPERS = 13
TAMPER_NS = 1_000_000  # from a change to its undoing


def _as_nobody(line: str) -> str:
    """Return the line in a child process that is not root."""
    return f"fork -> $1\ncomm truth-user\nsetuid {NOBODY}\n{line}\nend\nwait $1\n"


def _actor_of(played: Round, call: str) -> dict[str, object]:
    """Return process and result of the only call with this name; success is 0, also for an open."""
    (report,) = played.outcome.of(call)
    identity = {name: getattr(report, name) for name in ("pid", "tid", "ppid", "uid", "gid")}
    return identity | {"retval": min(report.ret, 0)}


def _paths(**paths: str) -> dict[str, object]:
    """Return the expected paths of an event, by the name of its file."""
    return {f"{name}.path": path.encode() for name, path in paths.items()}


@proves("truth.open")
def truth_open(bench: Bench) -> None:
    """Create a file, then fail to open it as another user."""
    path = bench.path("watched")
    bench.rules(watched=f'open.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.OPEN}

    created = bench.play(f"comm truth-open\nopen {path} O_RDWR|O_CREAT 0600 -> $0\nclose $0\n")
    bench.arrives_once(
        created, "watched", known | _actor_of(created, "open") | {"comm": b"truth-open", "mode": 0o600}
    )
    refused = bench.play(_as_nobody(f"open {path} O_RDONLY"), refused={f"open:4 errno {errno.EACCES}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "open") | {"comm": b"truth-user"})


@proves("truth.unlink")
def truth_unlink(bench: Bench) -> None:
    """Fail to remove a file as another user, then remove it."""
    path = bench.file("watched")
    bench.rules(watched=f'unlink.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.UNLINK}

    refused = bench.play(_as_nobody(f"unlink {path}"), refused={f"unlink:4 errno {errno.EACCES}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "unlink") | {"comm": b"truth-user"})
    removed = bench.play(f"comm truth-unlink\nunlink {path}\n")
    bench.arrives_once(removed, "watched", known | _actor_of(removed, "unlink") | {"comm": b"truth-unlink"})


@proves("truth.rename")
def truth_rename(bench: Bench) -> None:
    """Rename a file from a path that a rule names, and to a path that another rule names."""
    old, middle, new = bench.file("old"), bench.path("middle"), bench.path("new")
    bench.rules(
        leaves=f'rename.file.path == "{old}"',
        arrives=f'rename.file.destination.path == "{new}"',
        returns=f'rename.file.path == "{new}"',
    )
    known = {"type": EventType.RENAME, "comm": b"truth-rename"}

    away = bench.play(f"comm truth-rename\nrename {old} {middle}\n")
    bench.arrives_once(away, "leaves", known | _paths(file=old, file2=middle) | _actor_of(away, "rename"))
    back = bench.play(f"rename {middle} {new}\n")
    bench.arrives_once(back, "arrives", known | _paths(file=middle, file2=new) | _actor_of(back, "rename"))
    refused = bench.play(_as_nobody(f"rename {new} {old}"), refused={f"rename:4 errno {errno.EACCES}": 1})
    expected = known | _paths(file=new, file2=old) | _actor_of(refused, "rename") | {"comm": b"truth-user"}
    bench.arrives_once(refused, "returns", expected)


def _check(
    bench: Bench, line: str, error: int, known: Mapping[str, object], before: str = "", after: str = ""
) -> None:
    """Check the event of a successful call, and of the same call by another user, which fails.

    `line` makes the event of the rule `watched`; the lines `before` and `after` do not. With `error` 0 the
    call is not made as another user.
    """
    call = line.split()[0]
    granted = bench.play(f"comm truth-root\n{before}{line}\n{after}")
    expected = dict(known)
    bench.arrives_once(granted, "watched", expected | _actor_of(granted, call) | {"comm": b"truth-root"})
    if not error:
        return
    script = _as_nobody(line)
    refused = bench.play(script, refused={f"{call}:4 errno {error}": 1})
    bench.arrives_once(refused, "watched", expected | _actor_of(refused, call) | {"comm": b"truth-user"})


@proves("truth.directory_above")
def truth_directory_above(bench: Bench) -> None:
    """Move a directory away from above a watched path, and back; exchange it with a file by all orders."""
    keep, other = bench.path("keep"), bench.path("other")
    Path(f"{keep}/conf").mkdir(parents=True)
    bench.rules(
        leaves=f'rename.file.path =~ "{keep}/conf/**"',
        arrives=f'rename.file.destination.path == "{keep}/conf/watched"',
        written=f'fim.write.file.path == "{keep}/conf/watched"',
        other=f'rename.file.path !~ "{keep}/**"',
    )
    away = bench.play(f"rename {keep} {other}\n")
    bench.arrives_once(away, "leaves", _paths(file=keep, file2=other))
    bench.equal("rules that match the move away", ("leaves", "written", "other"), away.judged[0].rules)
    back = bench.play(f"rename {other} {keep}\n")
    bench.arrives_once(back, "arrives", _paths(file=other, file2=keep))
    bench.equal("rules that match the move back", ("arrives", "written", "other"), back.judged[0].rules)
    bench.file("other")
    for first, second in ((other, keep), (keep, other), (keep, other), (other, keep)):
        swapped = bench.play(f"renameat2 AT_FDCWD {first} AT_FDCWD {second} EXCHANGE\n")
        bench.arrives_once(swapped, "written", _paths(file=first, file2=second))
        rules = ("leaves", "arrives", "written", "other")
        bench.equal("rules that match the exchange", rules, swapped.judged[0].rules)


@proves("truth.close")
def truth_close(bench: Bench) -> None:
    """Close a file that was open for writing, and a file that was not."""
    path = bench.file("watched")
    bench.rules(watched=f'close.file.path == "{path}"')
    expected = _paths(file=path) | {"type": EventType.CLOSE, "retval": 0, "pid": bench.pid}
    closed = bench.play(f"open {path} O_WRONLY -> $0\ndup $0 -> $1\nwrite $0 x\nclose $1\n", refused={})
    bench.equal("closes while another descriptor is open", 0, len(closed.of(EventType.CLOSE)))
    last = bench.play(f"open {path} O_RDONLY -> $2\nclose $2\nopen {path} O_RDWR -> $3\nclose $3\n")
    bench.arrives_once(last, "watched", expected)


@proves("truth.rmdir")
def truth_rmdir(bench: Bench) -> None:
    """Remove a directory by both system calls, and fail once."""
    path = bench.path("watched")
    bench.rules(watched=f'rmdir.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.RMDIR}
    Path(f"{path}/full").mkdir(parents=True)
    refused = bench.play(f"rmdir {path}\n", refused={f"rmdir:1 errno {errno.ENOTEMPTY}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "rmdir"))
    Path(f"{path}/full").rmdir()
    Path(path).rmdir()
    for line in (f"rmdir {path}", f"unlinkat AT_FDCWD {path} AT_REMOVEDIR"):
        Path(path).mkdir()
        removed = bench.play(f"{line}\n")
        bench.arrives_once(removed, "watched", known | _actor_of(removed, line.split()[0]))


@proves("truth.mkdir")
def truth_mkdir(bench: Bench) -> None:
    """Create a directory, then fail to create it again."""
    path = bench.path("watched")
    bench.rules(watched=f'mkdir.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.MKDIR}
    made = bench.play(f"mkdir {path} 0750\n")
    bench.arrives_once(made, "watched", known | _actor_of(made, "mkdir") | {"mode": 0o750})
    refused = bench.play(f"mkdirat AT_FDCWD {path} 0755\n", refused={f"mkdirat:1 errno {errno.EEXIST}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "mkdirat"))


@proves("truth.link")
def truth_link(bench: Bench) -> None:
    """Give a file a second name, with a rule for each of the two names; then fail."""
    old, new, other = bench.file("old"), bench.path("new"), bench.path("other")
    bench.rules(
        watched=f'link.file.path == "{old}" && link.retval == 0',
        arrives=f'link.file.destination.path == "{new}" && link.retval != 0',
    )
    Path(old).chmod(0o666)  # else fs.protected_hardlinks refuses a link to a file of another user
    known: dict[str, object] = {"type": EventType.LINK}
    linked = bench.play(f"link {old} {other}\n")
    bench.arrives_once(linked, "watched", known | _paths(file=old, file2=other) | _actor_of(linked, "link"))
    refused = bench.play(_as_nobody(f"link {other} {new}"), refused={f"link:4 errno {errno.EACCES}": 1})
    expected = known | _paths(file=other, file2=new) | _actor_of(refused, "link")
    bench.arrives_once(refused, "arrives", expected)


@proves("truth.symlink")
def truth_symlink(bench: Bench) -> None:
    """Create a symbolic link, and fail to create it again."""
    path = bench.path("watched")
    bench.rules(watched=f'symlink.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.SYMLINK}
    made = bench.play(f"symlink ../no\\nwhere {path}\n")
    bench.arrives_once(made, "watched", known | _actor_of(made, "symlink") | {"name": b"../no\nwhere"})
    refused = bench.play(f"symlink other {path}\n", refused={f"symlink:1 errno {errno.EEXIST}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "symlink"))


@proves("truth.mknod")
def truth_mknod(bench: Bench) -> None:
    """Create a FIFO, and fail to create it again."""
    path = bench.path("watched")
    bench.rules(watched=f'mknod.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.MKNOD}
    made = bench.play(f"mknod {path} S_IFIFO|0640\n")
    bench.arrives_once(made, "watched", known | _actor_of(made, "mknod"))
    refused = bench.play(f"mknod {path} S_IFIFO|0640\n", refused={f"mknod:1 errno {errno.EEXIST}": 1})
    bench.arrives_once(refused, "watched", known | _actor_of(refused, "mknod"))


@proves("truth.truncate")
def truth_truncate(bench: Bench) -> None:
    """Truncate a file by path and by descriptor."""
    path = bench.file("watched")
    Path(path).chmod(0o644)
    bench.rules(watched=f'truncate.file.path == "{path}"')
    known = _paths(file=path) | {"type": EventType.TRUNCATE}
    _check(bench, f"truncate {path} 13", errno.EACCES, known)
    played = bench.play(f"open {path} O_RDWR -> $0\nftruncate $0 7\nclose $0\n")
    bench.arrives_once(played, "watched", known | _actor_of(played, "ftruncate"))
    bench.equal("size of the file", 7, Path(path).stat().st_size)


@proves("truth.chmod")
def truth_chmod(bench: Bench) -> None:
    """Change the mode by path and by descriptor, and fail once."""
    path = bench.file("watched")
    bench.rules(watched=f'chmod.file.path == "{path}"')
    expected: dict[str, object] = {"type": EventType.CHMOD, "file.path": path.encode(), "mode": 0o640}
    _check(bench, f"chmod {path} 0640", errno.EPERM, expected)
    _check(bench, f"fchmodat AT_FDCWD {path} 0640", 0, expected)
    before, after = f"open {path} O_RDONLY -> $0\n", "close $0\n"
    _check(bench, "fchmod $0 0640", 0, expected, before, after)


@proves("truth.chown")
def truth_chown(bench: Bench) -> None:
    """Change the owner by path and by descriptor, and fail once."""
    path = bench.file("watched")
    bench.rules(watched=f'chown.file.path == "{path}"')
    expected = _paths(file=path) | {"type": EventType.CHOWN, "new_uid": 0, "new_gid": 13}
    _check(bench, f"chown {path} 0 13", errno.EPERM, expected)
    _check(bench, f"fchownat AT_FDCWD {path} 0 13", 0, expected)
    before, after = f"open {path} O_RDONLY -> $0\n", "close $0\n"
    _check(bench, "fchown $0 0 13", 0, expected, before, after)


@proves("truth.utimes")
def truth_utimes(bench: Bench) -> None:
    """Set the times of a file, and fail to set them as another user."""
    path = bench.file("watched")
    bench.rules(watched=f'utimes.file.path == "{path}"')
    line = f"utimensat AT_FDCWD {path} 86400"
    _check(bench, line, errno.EPERM, _paths(file=path) | {"type": EventType.UTIMES})


@proves("truth.setxattr")
def truth_setxattr(bench: Bench) -> None:
    """Set an extended attribute by path and by descriptor, and fail once."""
    path = bench.file("watched")
    bench.rules(watched=f'setxattr.file.path == "{path}"')
    expected = _paths(file=path) | {"type": EventType.SETXATTR, "name": b"trusted.fim"}
    _check(bench, f"setxattr {path} trusted.fim one", errno.EPERM, expected)
    _check(bench, f"lsetxattr {path} trusted.fim two", 0, expected)
    before, after = f"open {path} O_RDONLY -> $0\n", "close $0\n"
    _check(bench, "fsetxattr $0 trusted.fim three", 0, expected, before, after)


@proves("truth.removexattr")
def truth_removexattr(bench: Bench) -> None:
    """Remove an extended attribute, and one that does not exist."""
    path = bench.file("watched")
    bench.rules(watched=f'removexattr.file.path == "{path}"')
    expected = {"type": EventType.REMOVEXATTR, "file.path": path.encode(), "name": b"trusted.fim"}
    removed = bench.play(f"setxattr {path} trusted.fim one\nremovexattr {path} trusted.fim\n")
    bench.arrives_once(removed, "watched", expected | _actor_of(removed, "removexattr"))
    absent = f"removexattr {path} trusted.fim\n"
    refused = bench.play(absent, refused={f"removexattr:1 errno {errno.ENODATA}": 1})
    bench.arrives_once(refused, "watched", expected | _actor_of(refused, "removexattr"))


@proves("truth.mount")
def truth_mount(bench: Bench) -> None:
    """Mount a file system, and fail to mount it as another user."""
    path = bench.path("watched")
    Path(path).mkdir()
    bench.rules(watched=f'mount.mountpoint.path == "{path}"')
    expected: dict[str, object] = {
        "type": EventType.MOUNT,
        "file.path": path.encode(),
        "name": b"tmpfs",
        "source": b"fim-source",
    }
    after = f"umount {path}\n"
    _check(bench, f"mount fim-source {path} tmpfs", 0, expected, after=after)
    line = _as_nobody(f"mount fim-source {path} tmpfs")
    refused = bench.play(line, refused={f"mount:4 errno {errno.EPERM}": 1})
    bench.arrives_once(refused, "watched", _actor_of(refused, "mount"))


@proves("truth.umount")
def truth_umount(bench: Bench) -> None:
    """Unmount a file system, and a directory where nothing is mounted."""
    path = bench.path("watched")
    Path(path).mkdir()
    bench.rules(watched=f'umount.mountpoint.path == "{path}"')
    expected = {"type": EventType.UMOUNT, "file.path": path.encode()}
    gone = bench.play(f"mount none {path} tmpfs\numount {path}\n")
    bench.arrives_once(gone, "watched", expected | _actor_of(gone, "umount"))
    refused = bench.play(f"umount {path}\n", refused={f"umount:1 errno {errno.EINVAL}": 1})
    bench.arrives_once(refused, "watched", expected | _actor_of(refused, "umount"))


def _run_program(bench: Bench, *words: str) -> str:
    """Return a child process that executes the generator, which ends with a status."""
    program = bench.program
    return f"fork -> $1\nexec {program} exit {EXIT_STATUS} {' '.join(words)}\nend\nwait $1\n"


@proves("truth.exec")
def truth_exec(bench: Bench) -> None:
    """Execute a program with arguments of any bytes."""
    bench.rules(watched=f'exec.file.path == "{bench.program}"')
    played = bench.play(_run_program(bench, "a\\x20b", "\\xff\\n"))
    (child,) = (report.ret for report in played.outcome.of("fork"))
    arguments = (bench.program.encode(), b"exit", b"%d" % EXIT_STATUS, b"a b", b"\xff\n")
    expected = _paths(file=bench.program) | {"pid": child, "tid": child, "ppid": bench.pid, "args": arguments}
    bench.arrives_once(played, "watched", expected)


@proves("truth.fork")
def truth_fork(bench: Bench) -> None:
    """Start a process and a thread; only the process is a fork."""
    bench.rules(watched=f"fork.pid == {bench.pid}")
    played = bench.play("fork -> $1\numask 0\nend\nwait $1\nthread\numask 0\nend\n")
    (child,) = (report.ret for report in played.outcome.of("fork"))
    bench.arrives_once(played, "watched", {"pid": bench.pid, "child_pid": child, "type": EventType.FORK})


@proves("truth.exit")
def truth_exit(bench: Bench) -> None:
    """End a process with a status."""
    bench.rules(watched=f"exit.code == {EXIT_STATUS}")
    played = bench.play(_run_program(bench))
    (child,) = (report.ret for report in played.outcome.of("fork"))
    expected = {"pid": child, "ppid": bench.pid, "exit_code": EXIT_STATUS << 8, "type": EventType.EXIT}
    bench.arrives_once(played, "watched", expected)


@proves("truth.brief")
def truth_brief(bench: Bench) -> None:
    """Start processes that end at once; each has a fork, an exec and an exit."""
    bench.rules(
        born=f"fork.pid == {bench.pid}",
        ran=f'exec.file.path == "{bench.program}"',
        ended=f"exit.code == {EXIT_STATUS}",
    )
    played = bench.play(f"repeat {BRIEF}\n{_run_program(bench, 'word')}end\n")
    born = sorted(event.child_pid for event in played.matches("born"))
    ran = sorted(event.pid for event in played.matches("ran"))
    ended = sorted(event.pid for event in played.matches("ended"))
    bench.equal("different processes", BRIEF, len(set(born)))
    bench.equal("processes of the exec events", born, ran)
    bench.equal("processes of the exit events", born, ended)
    arguments = {event.args for event in played.matches("ran")}
    complete = (bench.program.encode(), b"exit", b"%d" % EXIT_STATUS, b"word")
    bench.equal("arguments of all exec events", {complete}, arguments)


@proves("truth.names")
def truth_names(bench: Bench) -> None:
    """Create files with names of 1 and 255 bytes, with a newline, with quotes, and with invalid UTF-8."""
    folder = bench.path("names")
    Path(folder).mkdir()
    names = (b"x", b"n" * FULL_NAME, b"new\nline", b'"quo\\ted', b"\xff\xfe", b"\x1b[2J", b" ", b"%d")
    paths = [folder.encode() + b"/" + name for name in names]
    bench.rules(watched=f'open.file.path =~ "{folder}/*"', gone=f'unlink.file.path =~ "{folder}/*"')
    opens = "".join(f"open {quote(path)} O_RDWR|O_CREAT 0600 -> $0\nclose $0\n" for path in paths)
    unlinks = "".join(f"unlink {quote(path)}\n" for path in paths)
    played = bench.play(f"repeat 1\n{opens}{unlinks}end\n")  # in a loop %% is a percent sign
    bench.equal("paths opened", paths, [event.file.path for event in played.matches("watched")])
    bench.equal("paths removed", paths, [event.file.path for event in played.matches("gone")])


@proves("truth.long_path")
def truth_long_path(bench: Bench) -> None:
    """Open a file by a path of less and of more than 4,096 bytes; the longer one is cut and marked."""
    name = "d" * FULL_NAME
    fits = (REPORTED - len(bench.path("")) - len("/leaf")) // (FULL_NAME + 1)
    bench.rules(watched='open.file.name == "leaf"')
    leaf = "open leaf O_RDWR|O_CREAT 0600 -> $0\nclose $0\nunlink leaf\n"
    for depth, complete in ((fits - 1, True), (DEEP + 1, False)):
        down = f"chdir {bench.folder}\nrepeat {depth}\nmkdir {name} 0700\nchdir {name}\nend\n"
        up = f"repeat {depth}\nchdir ..\nrmdir {name}\nend\nchdir /\n"
        played = bench.play(down + leaf + up)
        path = "/".join((str(bench.folder), *[name] * depth, "leaf")).encode()
        (event,) = played.matches("watched") or (None,)
        if bench.equal(f"a path of {len(path)} bytes arrives", True, event is not None) and event:
            cut = bool(event.file.flags & FileFlags.TRUNCATED)
            bench.equal(f"a path of {len(path)} bytes is cut", not complete, cut)
            reported = event.file.path
            correct = reported == path if complete else path.endswith(b"/" + reported)
            bench.equal("its path is correct", True, correct)


@proves("truth.tamper")
def truth_tamper(bench: Bench) -> None:
    """Replace a file and put it back within a millisecond, several times."""
    path, kept = bench.file("watched"), bench.path("kept")
    bench.rules(
        watched=f'fim.write.file.path == "{path}"', replaced=f'rename.file.destination.path == "{path}"'
    )
    change = f"rename {path} {kept}\nopen {path} O_WRONLY|O_CREAT 0600 -> $0\nwrite $0 evil\nclose $0\n"
    played = bench.play(f"{change}rename {kept} {path}\n" * TAMPERS)
    steps = played.matches("watched")
    kinds = [event.type.label for event in steps]
    bench.equal("events of the file, in order", ["rename", "open", "rename"] * TAMPERS, kinds)
    back = {(event.file.path, event.file2 and event.file2.path) for event in played.matches("replaced")}
    bench.equal("renames that put it back", {(kept.encode(), path.encode())}, back)
    turns = zip(steps[::3], steps[2::3], strict=True)
    _check_brief(
        bench, "change and its undoing", TAMPER_NS, [end.time_ns - start.time_ns for start, end in turns]
    )


def _check_brief(bench: Bench, action: str, limit_ns: int, durations_ns: list[int]) -> None:
    """Check that at least one action was as short as the scenario claims."""
    quickest = min(durations_ns, default=limit_ns + 1)
    if quickest > limit_ns and not bench.evidence.failures:
        measured = f"the quickest {action} took {quickest / 1e6:.1f} ms here, not {limit_ns / 1e6:.0f}"
        raise bench.too_slow(f"all events were reported, but {measured}")
    bench.evidence.record(f"the quickest {action}", quickest <= limit_ns, f"at most {limit_ns} ns", quickest)


@proves("truth.brief_context")
def truth_brief_context(bench: Bench) -> None:
    """Open a file in a container, by processes that have ended before the agent reads the events."""
    path = bench.file("watched")
    with container(bench.folder) as inside, bench.enriched():
        bench.rules(
            wanted=f'open.file.path == "{path}" && container.id == "{inside.id}"',
            born=f"fork.pid == {bench.pid}",
            ended="exit.code == 0",
        )
        child = f"fork -> $1\nopen {path} O_RDONLY\nend\nwait $1\n"
        played = bench.play(f"{inside.enter}repeat {BRIEF}\n{child}end\n{inside.leave}", absorb=False)
    actors = _actors(judged for judged in played.judged if "wanted" in judged.rules)
    bench.equal("events of brief processes", BRIEF, len(actors))
    containers = {(actor.container.id, actor.container.runtime) for actor in actors}
    bench.equal("their containers", {(inside.id.encode(), b"docker")}, containers)
    bench.equal("their programs", {bench.program.encode()}, {actor.process.exe for actor in actors})
    parents = {actor.process.ancestors[0].pid for actor in actors if actor.process.ancestors}
    bench.equal("their parents", {bench.pid}, parents)
    born = {event.child_pid: event.time_ns for event in played.matches("born")}
    lives = [event.time_ns - born[event.pid] for event in played.matches("ended") if event.pid in born]
    bench.equal("processes with fork and exit", BRIEF, len(lives))
    _check_brief(bench, "life", BRIEF_NS, lives)


def _actors(events: Iterable[Judged]) -> list[Actor]:
    return [judged.actor for judged in events if judged.actor]


@proves("truth.program_context")
def truth_program_context(bench: Bench) -> None:
    """Open a file by a program that ends before the agent reads its events."""
    path = bench.file("watched")
    with bench.enriched():
        bench.rules(wanted=f'open.file.path == "{path}" && process.file.path == "{bench.program}"')
        script = f"fork -> $1\nexec {bench.program} open {path} {EXIT_STATUS}\nend\nwait $1\n"
        played = bench.play(script, absorb=False)
    (child,) = (report.ret for report in played.outcome.of("fork"))
    bench.arrives_once(played, "wanted", {"pid": child, "ppid": bench.pid})
    arguments = (bench.program.encode(), b"open", path.encode(), b"%d" % EXIT_STATUS)
    programs = [(actor.process.exe, actor.process.args) for actor in _actors(played.judged)]
    bench.equal("its program and arguments", [(bench.program.encode(), arguments)], programs[1:2])


@proves("truth.threads")
def truth_threads(bench: Bench) -> None:
    """Open a file by a process, by its threads, by a child and by the child's thread."""
    path = bench.file("watched")
    bench.rules(watched=f'open.file.path == "{path}"')
    opens = f"open {path} O_RDONLY -> $0\nclose $0\n"
    thread = f"thread\n{opens}end\n"
    played = bench.play(f"{opens}{thread * 2}fork -> $1\n{opens}{thread}end\nwait $1\n")
    known = [(report.pid, report.tid) for report in played.outcome.of("open")]
    reported = [(event.pid, event.tid) for event in played.matches("watched")]
    bench.equal("processes and threads", sorted(known), sorted(reported))
    bench.equal("events of threads other than the first", 3, sum(pid != tid for pid, tid in reported))
