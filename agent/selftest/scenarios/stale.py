"""An operation that the kernel looks up again is reported with what the last lookup reached."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.events.model import EventType
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves
from agent.selftest.scenarios.doors import in_child
from agent.selftest.stale import Code, Server, served


class _Call(NamedTuple):
    """A call by names below the FUSE, which is `{}` in its line, and what its second lookup reaches."""

    rule: str  # the event type
    line: str
    reached: str = "x"  # below the real directory
    second: str = ""  # the other name of a rename or link there
    fields: Mapping[str, object] = {}  # other values of the event
    stale: tuple[Code, ...] = ()  # requests of which the next gets ESTALE
    seen: int = 1  # events of the first object, which are rejected; 0 if no program sees it


_RENAME = ("rename", "rename {}/d/x {}/d/y", "x", "y")
_LINK = ("link", "link {}/d/x {}/d/y", "x", "y")
_OWNER = {"new_uid": 1000, "new_gid": 1001}

_MAKING = (
    _Call("mkdir", "mkdir {}/d/folder 0700", "folder", fields={"mode": 0o700}),
    _Call("mknod", "mknod {}/d/file S_IFREG|0600", "file"),
    _Call("symlink", "symlink target {}/d/symlink", "symlink", fields={"name": b"target"}),
)
_CHANGING = (
    _Call("chown", "chown {}/link 1000 1001", fields=_OWNER),
    _Call("utimes", "utimensat AT_FDCWD {}/link 7"),
    _Call("truncate", "truncate {}/link 0"),
    _Call("setxattr", "setxattr {}/link trusted.fim one", fields={"name": b"trusted.fim"}),
    _Call("removexattr", "removexattr {}/link trusted.fim", fields={"name": b"trusted.fim"}),
)
_REFUSED = (  # on a read-only file system
    _Call("open", "open {}/link O_WRONLY"),
    _Call("unlink", "unlink {}/d/x"),
    _Call("unlink", "unlink {}/d/x", stale=(Code.LOOKUP,), seen=0),
    _Call(*_RENAME),
    _Call(*_RENAME, stale=(Code.LOOKUP,), seen=0),
    _Call("mkdir", "mkdir {}/d/folder 0700", "folder", fields={"mode": 0o700}),
    _Call(*_LINK),
    _Call("chown", "chown {}/link 1000 1001", fields=_OWNER),
)
_APPROVED = (  # each with its first object, below the FUSE
    (_Call("open", "open {}/link O_RDONLY -> $0\nclose $0"), "decoy"),
    (_Call("unlink", "unlink {}/d/x"), "d/x"),
    (_Call(*_RENAME), "d/x"),
    (_Call("chown", "chown {}/link 1000 1001"), "decoy"),
)


@contextmanager
def _serving(bench: Bench) -> Iterator[Server]:
    """Serve the FUSE, whose names lead to the directory `real` after an answer of ESTALE."""
    real = Path(bench.path("real"))
    real.mkdir(exist_ok=True)
    with served(Path(bench.path("fs")), str(real)) as server:
        yield server


def _script(bench: Bench, call: _Call) -> str:
    script = f"{call.line.replace('{}', bench.path('fs'))}\n"
    return in_child(script) if call.rule == "exec" else script


def _check(bench: Bench, server: Server, call: _Call, error: int = 0) -> None:
    """Make a call whose second lookup reaches the object of the rule, and whose first one a stale object."""
    path = bench.path(f"real/{call.reached}")
    bench.rules(wanted=f'{call.rule}.file.path == "{path}"')
    line = 2 if call.rule == "exec" else 1
    server.arm(*call.stale)
    before = server.stale
    refused = {f"{call.line.split()[0]}:{line} errno {error}": 1} if error else {}
    played = bench.play(_script(bench, call), refused=refused)
    bench.also_made(EventType[call.rule.upper()], call.seen)
    bench.equal(f"answers of ESTALE to {call.rule}", 1, server.stale - before)
    expected = {"file.path": path.encode(), "retval": -error, **call.fields}
    if call.second:
        expected["file2.path"] = bench.path(f"real/{call.second}").encode()
    bench.arrives_once(played, "wanted", expected)


@proves("stale.open")
def stale_open(bench: Bench) -> None:
    """Open a file."""
    with _serving(bench) as server:
        bench.file("real/x")
        _check(bench, server, _Call("open", "open {}/link O_RDONLY -> $0\nclose $0"))


@proves("stale.create")
def stale_create(bench: Bench) -> None:
    """Open a file that the second lookup creates."""
    with _serving(bench) as server:
        _check(bench, server, _Call("open", "open {}/link O_WRONLY|O_CREAT 0600 -> $0\nclose $0"))


@proves("stale.truncated")
def stale_truncated(bench: Bench) -> None:
    """Open a file after one that is open already when it turns out to be stale."""
    with _serving(bench) as server:
        bench.file("real/x")
        line = "open {}/link O_WRONLY|O_TRUNC -> $0\nclose $0"
        _check(bench, server, _Call("open", line, stale=(Code.SETATTR,)))
    bench.also_made(EventType.CLOSE, 1)  # of the first file


@proves("stale.unlink")
def stale_unlink(bench: Bench) -> None:
    """Remove a file."""
    with _serving(bench) as server:
        bench.file("real/x")
        _check(bench, server, _Call("unlink", "unlink {}/d/x"))


@proves("stale.rmdir")
def stale_rmdir(bench: Bench) -> None:
    """Remove a directory."""
    with _serving(bench) as server:
        Path(bench.path("real/sub")).mkdir()
        _check(bench, server, _Call("rmdir", "rmdir {}/d/sub", "sub"))


@proves("stale.rename")
def stale_rename(bench: Bench) -> None:
    """Rename a file within its directory."""
    with _serving(bench) as server:
        bench.file("real/x")
        _check(bench, server, _Call(*_RENAME))


@proves("stale.link")
def stale_link(bench: Bench) -> None:
    """Give a file another name in its directory."""
    with _serving(bench) as server:
        bench.file("real/x")
        _check(bench, server, _Call(*_LINK))


@proves("stale.make")
def stale_make(bench: Bench) -> None:
    """Make a directory, a file and a symbolic link."""
    with _serving(bench) as server:
        for call in _MAKING:
            _check(bench, server, call)


@proves("stale.chmod")
def stale_chmod(bench: Bench) -> None:
    """Change the mode of a file."""
    with _serving(bench) as server:
        bench.file("real/x")
        _check(bench, server, _Call("chmod", "chmod {}/link 0600", fields={"mode": 0o600}))


@proves("stale.attributes")
def stale_attributes(bench: Bench) -> None:
    """Change the owner, times, size and extended attributes of a file."""
    with _serving(bench) as server:
        bench.file("real/x")
        for call in _CHANGING:
            _check(bench, server, call)


@proves("stale.exec")
def stale_exec(bench: Bench) -> None:
    """Execute a program, and one that may not be executed."""
    with _serving(bench) as server:
        call = _Call("exec", "exec {}/link exit 7", seen=0)
        program = Path(bench.path("real/x"))
        shutil.copy(bench.program, program)
        _check(bench, server, call)
        program.chmod(0o600)
        _check(bench, server, call, errno.EACCES)


@proves("stale.approved")
def stale_approved(bench: Bench) -> None:
    """Reach an object of a rule by the first lookup, and another one by the second."""
    with _serving(bench) as server:
        for call, first in _APPROVED:
            path = bench.path(f"fs/{first}")
            bench.file("real/x")
            bench.rules(wanted=f'{call.rule}.file.path == "{path}"')
            server.calm()
            found = bench.play(_script(bench, call))
            bench.arrives_once(found, "wanted", {"file.path": path.encode(), "retval": 0})
            server.arm()
            before = server.stale
            missed = bench.play(_script(bench, call))
            bench.equal(f"answers of ESTALE to {call.rule}", 1, server.stale - before)
            bench.equal(f"{call.rule} events of the first object", 0, len(missed.matches("wanted")))


@proves("stale.refused")
def stale_refused(bench: Bench) -> None:
    """Reach an object by the second lookup that may not be changed, before it is known too."""
    with bench.mounted("real"), _serving(bench) as server:
        bench.file("real/x")
        bench.unwatched(f"mount none {bench.path('real')} none MS_REMOUNT|MS_RDONLY\n")
        for call in _REFUSED:
            _check(bench, server, call, errno.EROFS)
