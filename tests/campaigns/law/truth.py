"""The matches that must follow from the kernel's results alone.

Imports nothing of the agent. An operation gives events that must match a rule once, events that may
match (the pages do not say whether there is one), and claims on kinds of events about which nothing is known.
docs/law.md lists what is not defined, and why.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.campaigns.law.calls import CALLS, Meaning
from tests.campaigns.law.naive import matches
from tests.campaigns.law.played import Record, Seen, Stat
from tests.campaigns.law.policies import Rule
from tests.campaigns.law.programs import SETUP
from tests.campaigns.law.steps import text

ANY = None  # of a path: whatever the agent says

# Errors of a call that was understood and not allowed. Of others (no such name, a bad request) the pages
# do not say that they are events.
REFUSED = frozenset(
    {
        errno.EPERM, errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EXDEV, errno.EISDIR, errno.ETXTBSY,
        errno.EROFS, errno.ENOTEMPTY,
    }
)  # fmt: skip
_BY_DESCRIPTOR = ("fchown", "fsetxattr", "fremovexattr")
_DELETED = " (deleted)"
Value = int | bool | str | list[str]


@dataclass(frozen=True)
class Key:
    """The properties by which two answers about one event are compared. A path or thread of None is any."""

    part: int
    rule: str
    type: str
    path: str | None
    path2: str | None
    retval: int
    pid: int
    tid: int | None


@dataclass(frozen=True)
class Happened:
    """An event that follows from the kernel's results."""

    type: str
    record: Record
    path: str | None
    path2: str | None
    retval: int
    fields: Mapping[str, Value]
    must: bool
    why: str = ""  # why it is not certain


@dataclass(frozen=True)
class Claim:
    """Nothing is known of events of this type by this process (with `refused`, of a negative return only)."""

    part: int
    pid: int
    type: str
    retval: int | None
    why: str

    def covers(self, key: Key) -> bool:
        """Return whether a match is about such an event."""
        same = (self.part, self.pid, self.type) == (key.part, key.pid, key.type)
        return same and self.retval in (None, key.retval)


@dataclass(frozen=True)
class Truth:
    """The matches that must exist, those that may, and what is unknown."""

    must: tuple[tuple[Key, Record], ...]
    may: tuple[tuple[Key, Record], ...]
    claims: tuple[Claim, ...]


def truth(records: Sequence[Record], script: str, rules: Sequence[Sequence[Rule]]) -> Truth:
    """Return the truth of a play; `rules` are those of each part of it."""
    must: list[tuple[Key, Record]] = []
    may: list[tuple[Key, Record]] = []
    claims: list[Claim] = []
    for item in events(records, script):
        if isinstance(item, Claim):
            claims.append(item)
            continue
        for rule in rules[item.record.part]:
            if item.type not in rule.types:
                continue
            known = matches(rule.expression, item.fields)
            if known is False:
                continue
            record = item.record
            tid = ANY if record.call.startswith("ring_") else record.tid  # a worker of the ring may do it
            key = Key(record.part, rule.id, item.type, item.path, item.path2, item.retval, record.pid, tid)
            (must if known and item.must else may).append((key, record))
    return Truth(tuple(must), tuple(may), tuple(claims))


def events(records: Iterable[Record], script: str) -> Iterator[Happened | Claim]:
    """Yield the events of each record, in their order."""
    lives = _Lives(script)
    for record in records:
        if record.program.startswith(SETUP) or not record.program:
            yield from _unwitnessed(record)
            yield from _interrupted(record, lives)
            continue
        lives.begin(record)
        yield from _of(record, lives)
        lives.end(record)
    for (part, program), pids in lives.pids.items():
        if lives.left.get((part, program), 0) > 0:
            why = "descriptors are closed by the end of a process"
            yield from (Claim(part, pid, "close", None, why) for pid in sorted(pids))


def _unwitnessed(record: Record) -> Iterator[Claim]:
    """Yield claims on programs that make the trees, and on the player itself."""
    meaning = CALLS.get(record.call, Meaning("exec") if record.call == "program" else None)
    if meaning is not None:
        yield Claim(record.part, record.pid, meaning.event, None, "not witnessed")


def _interrupted(record: Record, lives: _Lives) -> Iterator[Claim]:
    """Yield claims on a program that a signal ended, as in the open of a FIFO: its last call is unknown."""
    if record.call == "program" and os.WIFSIGNALED(record.status):
        for pid in sorted(lives.pids.get((record.part, record.words[1]), ())):
            yield Claim(record.part, pid, "open", -errno.EINTR, "the call was not reported")


def clean(path: str) -> str:
    """Return the last path of an object without a name."""
    return path.removesuffix(_DELETED)


class _Lives:
    """The state of a script's processes: roots, descriptors that are open for writing."""

    def __init__(self, script: str) -> None:
        self.rows = [row.split() for row in script.splitlines()]
        self.roots: dict[int, str] = {}
        self.writers: dict[tuple[int, str], bool] = {}  # (pid, $N) -> only one descriptor of it exists
        self.contexts: dict[tuple[int, str], str] = {}  # what fsopen was asked for
        # (pid, $N) of trees that are attached nowhere, and of what is opened in them -> $N of the tree
        self.detached: dict[tuple[int, str], str] = {}
        self.strange: dict[int, str] = {}  # pid -> why its paths are not known
        self.pids: dict[tuple[int, str], set[int]] = {}  # of each program
        self.left: dict[tuple[int, str], int] = {}  # writers that were not closed, or shared, by program

    def into(self, record: Record) -> str:
        row = self.rows[record.line - 1]
        return row[-1] if "->" in row else ""

    def begin(self, record: Record) -> None:
        self.pids.setdefault((record.part, record.program), set()).add(record.pid)
        for known in (self.roots, self.strange):
            if record.pid not in known and record.ppid in known:
                known[record.pid] = known[record.ppid]

    def end(self, record: Record) -> None:
        if record.ret < 0:
            return
        pid, into = record.pid, self.into(record)
        if record.call == "chroot" and record.seen:
            self.roots[pid] = self.whole(record, record.seen[0].followed or "/")
        elif record.call == "unshare" and "CLONE_NEWUSER" in record.words[1]:
            self.strange[pid] = "its users are those of another namespace"
        self._trees(record, pid, into)
        if record.call == "fsopen":
            self.contexts[pid, into] = text(record.words[1])
        elif record.call == "fsmount":
            self.contexts[pid, into] = self.contexts.get((pid, record.words[1]), "")
        self._descriptors(record, pid, into)

    def _trees(self, record: Record, pid: int, into: str) -> None:
        tree = self.tree(record, CALLS.get(record.call, Meaning("")))
        if record.call == "fsmount" or (record.call == "open_tree" and "CLONE" in record.words[3]):
            tree = into
        if record.call == "move_mount":
            attached = record.words[1]
            self.detached = {
                key: its for key, its in self.detached.items() if (key[0], its) != (pid, attached)
            }
        elif into and tree:
            self.detached[pid, into] = tree
        else:
            self.detached.pop((pid, into), None)

    def tree(self, record: Record, meaning: Meaning) -> str:
        """Return the descriptor of the tree, attached nowhere, in which the call's object is; "" if none."""
        descriptor = _word(record, 0 if meaning.file == 1 else meaning.fd)
        return self.detached.get((record.pid, descriptor or ""), "")

    def _descriptors(self, record: Record, pid: int, into: str) -> None:
        """Return files of which only one descriptor exists, which was opened for writing."""
        meaning = CALLS.get(record.call, Meaning(""))
        left = 0
        if record.call == "close":
            left = -int(self.writers.pop((pid, record.words[1]), False))
        elif record.call in ("fork", "dup", "dup2", "pass"):
            left = int(any(key[0] == pid for key in self.writers))
            self.writers = {key: alone and key[0] != pid for key, alone in self.writers.items()}
        elif into:
            self.writers.pop((pid, into), None)
        if record.call == "memfd" or (meaning.event == "open" and _flags(record, meaning) & os.O_ACCMODE):
            left = 1
            if into and meaning.event:
                self.writers[pid, into] = True
        program = record.part, record.program
        self.left[program] = self.left.get(program, 0) + left

    def whole(self, record: Record, path: str) -> str:
        """Return a path of the process as a path of its mount namespace."""
        root = self.roots.get(record.pid, "")
        return clean(path if root in ("", "/") else f"{root}{path}".rstrip("/") or "/")


def _flags(record: Record, meaning: Meaning) -> int:
    given = (
        record.words[meaning.flags + 1]
        if meaning.flags is not None and len(record.words) > meaning.flags + 1
        else ""
    )
    return sum(_number(one) for one in {*given.split("|"), *meaning.always.split("|")} if one)


_NUMBERS = {"EXCHANGE": 2, "RENAME_EXCHANGE": 2, "NOREPLACE": 1, "RENAME_NOREPLACE": 1, "WHITEOUT": 4}
_NUMBERS |= {
    "AT_REMOVEDIR": 0x200,
    "AT_SYMLINK_FOLLOW": 0x400,
    "AT_SYMLINK_NOFOLLOW": 0x100,
    "AT_EMPTY_PATH": 0x1000,
}
_NUMBERS |= {"MS_RDONLY": 1, "MS_NOSUID": 2, "MS_NODEV": 4, "MS_NOEXEC": 8, "MS_REMOUNT": 32, "MS_BIND": 4096}
_NUMBERS |= {"MS_MOVE": 8192, "MS_REC": 16384, "MS_PRIVATE": 1 << 18, "MS_SHARED": 1 << 20}
_NUMBERS |= {"MNT_FORCE": 1, "MNT_DETACH": 2, "MNT_EXPIRE": 4, "UMOUNT_NOFOLLOW": 8}


def _number(word: str) -> int:
    if word in _NUMBERS:
        return _NUMBERS[word]
    for module in (os, stat):
        if hasattr(module, word):
            return int(getattr(module, word))
    try:
        return int(word, 8) if word.startswith("0") and word.isdigit() else int(word, 0)
    except ValueError:
        return 0


def _word(record: Record, place: int | None) -> str | None:
    return record.words[place + 1] if place is not None and len(record.words) > place + 1 else None


def _of(record: Record, lives: _Lives) -> Iterator[Happened | Claim]:
    meaning = CALLS.get(record.call)
    if record.call in ("fork", "program", "wait"):
        return
    if meaning is None:
        return
    if record.ok + record.failed > 1:
        yield Claim(record.part, record.pid, meaning.event, None, "the line ran in a loop")
        return
    if meaning.event == "open" and _flags(record, meaning) & getattr(os, "O_PATH", 0):
        return
    yield from _event(record, _kind(record, meaning), lives)
    if record.call in ("exec", "execveat") and record.ret >= 0:
        yield Claim(record.part, record.pid, "open", None, "the new program opens what it needs")


def _kind(record: Record, meaning: Meaning) -> Meaning:
    """Return the event of the call with these flags."""
    removes = _flags(record, meaning) & _NUMBERS["AT_REMOVEDIR"]
    return replace(meaning, event="rmdir") if meaning.event == "unlink" and removes else meaning


def _event(record: Record, meaning: Meaning, lives: _Lives) -> Iterator[Happened | Claim]:
    retval = min(record.ret, 0)
    why = _uncertain(record, meaning, lives)
    seen = record.at(meaning.fd if meaning.fd is not None else meaning.file or 0)
    path, before = _object(record, meaning, seen, lives)
    path2 = _second(record, meaning, lives)
    if meaning.event == "close" and (record.ret < 0 or (record.pid, record.words[1]) not in lives.writers):
        return
    if path is None or (meaning.file2 is not None and path2 is None) or why.startswith("path"):
        yield Claim(record.part, record.pid, meaning.event, retval, why or "the kernel reported no path")
        return
    before = None if _is_unfound(record, meaning) else before
    memfd = path.startswith("/memfd:")  # it has no directory: the name is its path
    wild = memfd or bool(lives.tree(record, meaning))
    fields = _fields(record, meaning, path[memfd:], path2, retval, before, lives)
    yield Happened(meaning.event, record, ANY if wild else path, path2, retval, fields, must=not why, why=why)


def _uncertain(record: Record, meaning: Meaning, lives: _Lives) -> str:
    """Return why an event is uncertain; "" if it is certain; `path...` if its path is unknown."""
    if record.ret < 0 and -record.ret not in REFUSED:
        return f"path: no page says that {errno.errorcode.get(-record.ret, record.ret)} is an event"
    if record.call == "ring_setxattr" and record.ret == -errno.EROFS:
        return "path: no hook sees it"  # docs/limits.md
    flags = _flags(record, meaning)
    if meaning.event == "open" and flags & os.O_TMPFILE == os.O_TMPFILE:
        return "path: a file without a name"
    if meaning.event == "close" and not lives.writers.get((record.pid, record.words[1]), False):
        return "other descriptors of it may be open"
    if meaning.event == "close" and not _regular(record.at(0)):
        return "no page says that the close of a device or FIFO is an event"
    if meaning.event == "open" and record.call == "open_handle":
        return (
            "path: a file of several names has the path of any of them"
            if record.ret >= 0
            else "path: no path"
        )
    if record.pid in lives.strange:
        return f"path: {lives.strange[record.pid]}"
    return ""


def _is_unfound(record: Record, meaning: Meaning) -> bool:
    """Return whether a refusal has neither mode nor owner of its object; see docs/limits.md."""
    if meaning.event == "open" and _flags(record, meaning) & (os.O_CREAT | os.O_TRUNC):
        return -record.ret in (errno.EISDIR, errno.EROFS, errno.EEXIST)
    by_name = meaning.event in ("chown", "setxattr", "removexattr") and record.call not in _BY_DESCRIPTOR
    return by_name and record.ret == -errno.EROFS


def _regular(seen: Seen | None) -> bool:
    return seen is not None and seen.st is not None and stat.S_ISREG(seen.st.mode)


def _object(
    record: Record, meaning: Meaning, seen: Seen | None, lives: _Lives
) -> tuple[str | None, Stat | None]:
    """Return the path of the object and its earlier state; None if the kernel did not report it."""
    if record.fd and meaning.event == "open" and record.ret >= 0:
        made = seen is not None and seen.followed_st is None
        return lives.whole(record, record.fd.path), None if made else record.fd.st
    if seen is None:
        return None, None
    follow = meaning.follow and not _flags_at(record, meaning.nofollow) & _NUMBERS["AT_SYMLINK_NOFOLLOW"]
    flags = _flags(record, meaning)
    if meaning.event == "open" and (
        flags & os.O_NOFOLLOW or flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
    ):
        follow = False
    if meaning.event == "link" and record.call.endswith("at"):
        follow = bool(flags & _NUMBERS["AT_SYMLINK_FOLLOW"])
    if meaning.event == "umount" and flags & _NUMBERS["UMOUNT_NOFOLLOW"]:
        follow = False
    path = seen.followed or (None if seen.st else seen.resolved) if follow else seen.resolved
    if meaning.fd is not None:
        path = seen.resolved
        return (lives.whole(record, path) if path and path.startswith("/") else None), seen.st
    if path is None or not path.startswith("/"):
        return None, None
    return lives.whole(record, path), seen.followed_st if follow else seen.st


def _flags_at(record: Record, place: int | None) -> int:
    given = _word(record, place)
    return sum(_number(one) for one in given.split("|")) if given else 0


def _second(record: Record, meaning: Meaning, lives: _Lives) -> str | None:
    seen = record.at(meaning.file2) if meaning.file2 is not None else None
    if seen is None or not seen.resolved or not seen.resolved.startswith("/"):
        return None
    return lives.whole(record, seen.resolved)


def _fields(
    record: Record,
    meaning: Meaning,
    path: str,
    path2: str | None,
    retval: int,
    before: Stat | None,
    lives: _Lives,
) -> dict[str, Value]:
    """Return the fields of docs/rules.md whose values are known."""
    kind = meaning.event
    file = f"{kind}.mountpoint" if kind in ("mount", "umount") else f"{kind}.file"
    fields: dict[str, Value] = {
        "process.pid": record.pid,
        "process.tid": record.tid,
        "process.ppid": record.ppid,
        "process.uid": record.uid,
        "process.gid": record.gid,
        f"{kind}.retval": retval,
        **_named(file, path),
    }
    if record.comm and not (kind == "exec" and record.ret >= 0):
        fields["process.comm"] = record.comm
    if before is not None and kind != "close":
        fields |= {
            f"{file}.mode": before.mode,
            f"{file}.rights": before.mode & 0o7777,
            f"{file}.uid": before.uid,
            f"{file}.gid": before.gid,
        }
    if path2 is not None:
        fields |= _named(f"{file}.destination", path2)
        target = record.at(meaning.file2 or 0)
        if kind == "rename" and target and not retval:  # of a refused one the agent may not know it
            fields[f"{file}.destination.mode"] = target.st.mode if target.st else 0
    if lives.tree(record, meaning) and not _by_link(record, meaning):
        fields[f"{file}.detached"] = True
    return fields | _details(record, meaning, lives)


def _by_link(record: Record, meaning: Meaning) -> bool:
    """Return whether a link, which may lead out of a detached tree, may have led to the object."""
    seen = record.at(meaning.file) if meaning.file is not None else None
    if seen is None or not seen.resolved:
        return False
    is_link = seen.st is not None and stat.S_ISLNK(seen.st.mode)
    given = text(_word(record, meaning.file) or "").strip('"')  # "" stands for the descriptor's own file
    return is_link or not seen.resolved.endswith(given)


def _named(file: str, path: str) -> dict[str, Value]:
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    extension = {f"{file}.extension": name[dot:]} if dot > 0 else {}
    return {f"{file}.path": path, f"{file}.name": name, **extension}


def _details(record: Record, meaning: Meaning, lives: _Lives) -> dict[str, Value]:
    kind = meaning.event
    found: dict[str, Value] = {}
    mode = _word(record, meaning.mode)
    if mode is not None and kind in ("open", "mkdir", "mknod", "chmod"):
        bits = sum(_number(one) for one in mode.split("|"))
        if kind != "open" or _flags(record, meaning) & os.O_CREAT:
            found[f"{kind}.file.destination.rights"] = bits & 0o7777
            found[f"{kind}.file.destination.mode"] = bits
    if kind in ("open", "umount", "mount", "rename") and record.call != "move_mount":
        found[f"{kind}.flags"] = _flags(record, meaning)
    owner = _word(record, meaning.owner)
    if owner is not None and meaning.owner is not None:
        found["chown.file.destination.uid"] = int(owner) & 0xFFFFFFFF
        found["chown.file.destination.gid"] = int(_word(record, meaning.owner + 1) or 0) & 0xFFFFFFFF
    name = _word(record, meaning.name)
    if name is not None:
        if kind == "symlink":
            found["symlink.target"] = text(name)
        else:
            found[f"{kind}.file.destination.name"] = text(name)
            found[f"{kind}.file.destination.namespace"] = text(name).partition(".")[0]
    if kind == "mount":
        found |= _mounted(record, meaning, lives)
    if kind == "exec" and record.call == "exec":
        found["exec.args"] = " ".join(map(text, record.words[2:])) if record.ret >= 0 else ""
    return found


def _mounted(record: Record, meaning: Meaning, lives: _Lives) -> dict[str, Value]:
    """Return the facts of a new mount; no page defines type and source of a bind mount."""
    if record.call == "move_mount":
        kind = lives.contexts.get(
            (record.pid, record.words[2] if record.words[1] == "AT_FDCWD" else record.words[1])
        )
        return {"mount.fs_type": kind} if kind else {}
    if _flags(record, meaning) & (_NUMBERS["MS_BIND"] | _NUMBERS["MS_REMOUNT"] | _NUMBERS["MS_MOVE"]):
        return {}
    return {
        "mount.fs_type": text(_word(record, meaning.fs_type) or ""),
        "mount.source.path": text(_word(record, meaning.source) or ""),
    }
