"""Events drawn at random, in two forms: as the engine reads them, and as fields by docs/rules.md.

A sample is plain JSON. Keys that it lacks have the default of `agent.events`, so that a sample shrinks by
losing keys. Texts hold the bytes of names with `surrogateescape`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from agent.events.actors import NO_USER, Container, Context, Live, Process
from agent.events.model import Event, EventType, File, FileFlags

Sample = dict[str, Any]

TWO_FILES = ("rename", "link")
NO_FILE = ("fork", "exit")
MOUNTS = ("mount", "umount", "chattr")
PROCESSES = ("exec", "fork", "exit")
NEW_MODE = ("open", "mkdir", "mknod", "chmod")
FLAGGED = ("open", "unlink", "rename", "mount", "umount")

NAMES = (  # bytes that are special somewhere: in texts, globs, regular expressions, terminals
    *("a", "b", "ab", "etc", "passwd", "x.conf", "a.b.c", ".a", "..a", "a b", "ä", "\U0001f600", "A", "0"),
    *(
        "\udcff",
        "a\udc80b",
        "a\nb",
        "a\tb",
        'a"b',
        "a\\b",
        "*",
        "a*b",
        "?",
        "[a]",
        "${x}",
        "a$",
        "^a",
        "a\x01",
    ),
)
ODD_PATHS = ("", "/", "memfd:a", "a/b", "/a//b", "/a/../b", "/" + "d/" * 40 + "e")
USERS = (0, 1, 1000, 65534, NO_USER)
MODES = (0, 0o644, 0o4755, stat.S_IFREG | 0o644, stat.S_IFDIR | 0o1777, stat.S_IFLNK | 0o777)
OPEN_FLAGS = (
    *(os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_CREAT, os.O_TRUNC),
    *(os.O_PATH, os.O_RDWR | os.O_APPEND, os.O_APPEND, os.O_CREAT | os.O_EXCL, os.O_ACCMODE),
    *(os.O_TMPFILE | os.O_RDWR, os.O_CLOEXEC, os.O_NOFOLLOW | os.O_DIRECTORY, 0x7FFFFFFF),
)
NUMBERS = (0, 1, 2, 3, 5, 7, 255, 256, 1000, 4096, 2**31 - 1, 2**31, NO_USER, 2**32, 2**63, 2**64 - 1)
LIVE: dict[str, Any] = {"euid": NO_USER, "egid": NO_USER, "cwd": "", "session": 0, "tty_name": ""}
MANAGERS = ("", "", "dpkg", "rpm")
RETVALS = (0, 3, *(-number for number in (errno.EPERM, errno.ENOENT, errno.EACCES, errno.EEXIST)))
ARGS = ("-l", "-ln", "--version", "--width=8", "-T", "8", "x", "", "--", "-", "-a=1", "a b", "\udcff", "-1")
TEXTS = ("", "user.a", "trusted", "security.b.c", "tmpfs", "ext4", "docker", "0123abcd", *NAMES)


@dataclass(frozen=True)
class Pools:
    """The parts of paths, so that constants of expressions match events."""

    names: Sequence[str] = NAMES
    odd: Sequence[str] = ODD_PATHS
    depth: int = 4

    def path(self, random: Random) -> str:
        """Draw the path of a file."""
        if self.odd and random.random() < 0.06:
            return random.choice(self.odd)
        return "".join(f"/{random.choice(self.names)}" for _ in range(random.randint(1, self.depth)))


def draw(random: Random, kind: str, pools: Pools) -> Sample:
    """Draw an event of a type."""
    sample: Sample = {"type": kind, "process": _process(random, pools), "retval": random.choice(RETVALS)}
    sample["ancestors"] = [_process(random, pools) for _ in range(random.choice((0, 0, 1, 2, 3)))]
    if kind not in NO_FILE:
        sample["file"] = _file(random, pools)
    if kind in TWO_FILES or (kind == "exec" and random.random() < 0.3):
        sample["file2"] = _file(random, pools)
    if kind in FLAGGED:
        sample["flags"] = random.choice(OPEN_FLAGS if kind == "open" else NUMBERS[:8])
    if kind in NEW_MODE:
        sample["mode"] = random.choice(MODES)
    sample |= _own(random, kind, pools)
    if random.random() < 0.5:
        sample["live"] = {
            **{name: random.choice(USERS) for name in ("euid", "egid")},
            "cwd": pools.path(random),
            "session": random.choice(NUMBERS),
            "tty_name": random.choice(TEXTS),
        }
    if random.random() < 0.3:
        sample["container"] = {
            name: random.choice(TEXTS) for name in ("id", "runtime", "rootless_id") if random.random() < 0.7
        }
    sample |= {"cgroup": random.choice(NUMBERS), "time": random.choice(NUMBERS)}
    return sample


def _own(random: Random, kind: str, pools: Pools) -> Sample:
    """Draw the fields that only some event types have."""
    if kind == "chown":
        return {"new_uid": random.choice(USERS), "new_gid": random.choice(USERS)}
    if kind == "exec":
        return {"args": _args(random), "args_truncated": random.random() < 0.2}
    if kind == "exit":
        return {"status": random.choice((0, 256, 512, 9, 15, 11 | 0x80))}
    if kind == "mount":
        return {"name": random.choice(TEXTS), "source": random.choice((pools.path(random), *TEXTS))}
    return {"name": random.choice(TEXTS)} if kind in ("setxattr", "removexattr", "symlink") else {}


def _file(random: Random, pools: Pools) -> Sample:
    flags = ("upper", "lower", "truncated")
    numbers = ("inode", "device", "mount_id", "nlink")
    marks = {name: True for name in flags if random.random() < 0.2}
    path = pools.path(random)
    return {
        "path": path.lstrip("/") if "truncated" in marks else path,
        **{name: random.choice(NUMBERS) for name in numbers},
        **marks,
        "mode": random.choice(MODES),
        "uid": random.choice(USERS),
        "gid": random.choice(USERS),
    }


def _process(random: Random, pools: Pools) -> Sample:
    return {
        **{name: random.choice(NUMBERS) for name in ("pid", "ppid", "tid")},
        **{name: random.choice(USERS) for name in ("uid", "gid", "auid")},
        **{name: random.choice(NAMES) for name in ("comm", "user", "group")},
        "exe": pools.path(random),
        "args": _args(random),
        "args_truncated": random.random() < 0.2,
        "package_manager": random.choice(MANAGERS),
        "incomplete": random.random() < 0.2,
    }


def _args(random: Random) -> list[str]:
    return [random.choice(ARGS) for _ in range(random.randint(0, 4))]


# The engine's form.


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def event(sample: Sample) -> tuple[Event, Context]:
    """Return the event and its context as the engine reads them."""
    process = _actor(sample.get("process", {}), [_actor(each, []) for each in sample.get("ancestors", ())])
    container = {name: _raw(text) for name, text in sample.get("container", {}).items()}
    return Event(
        EventType[sample["type"].upper()],
        time_ns=sample.get("time", 0),
        pid=process.pid,
        tid=process.tid,
        ppid=process.ppid,
        uid=process.uid,
        gid=process.gid,
        auid=process.auid,
        comm=process.comm,
        cgroup_id=sample.get("cgroup", 0),
        retval=sample.get("retval", 0),
        flags=sample.get("flags", 0),
        mode=sample.get("mode", 0),
        file=_agent_file(sample.get("file", {})),
        file2=_agent_file(sample["file2"]) if sample.get("file2") is not None else None,
        name=_raw(sample.get("name", "")),
        source=_raw(sample.get("source", "")),
        new_uid=sample.get("new_uid", 0),
        new_gid=sample.get("new_gid", 0),
        args=tuple(map(_raw, sample.get("args", ()))),
        args_truncated=bool(sample.get("args_truncated")),
        exit_code=sample.get("status", 0),
    ), Context(process, Container(**container), live=_live(sample.get("live", {})))


def _live(given: Sample) -> Live:
    values = {**LIVE, **given}
    texts = _raw(values["cwd"]), _raw(values["tty_name"])
    return Live(texts[0], values["euid"], values["egid"], values["session"], texts[1])


def _actor(given: Sample, ancestors: list[Process]) -> Process:
    texts = {name: _raw(given.get(name, "")) for name in ("comm", "exe", "user", "group")}
    ids = {name: given.get(name, 0) for name in ("pid", "ppid", "tid", "uid", "gid", "auid")}
    args = tuple(map(_raw, given.get("args", ())))
    values: dict[str, Any] = {**ids, **texts}
    cut = bool(given.get("args_truncated"))
    manager = _raw(given.get("package_manager", ""))
    made = Process(**values, args=args, ancestors=tuple(ancestors), args_truncated=cut)
    made.package_manager, made.incomplete = manager, bool(given.get("incomplete"))
    return made


def _agent_file(given: Sample) -> File:
    bits = {"upper": FileFlags.UPPER, "lower": FileFlags.LOWER, "truncated": FileFlags.TRUNCATED}
    flags = FileFlags.NONE
    for name, bit in bits.items():
        flags |= bit if given.get(name) else 0
    numbers = ("inode", "device", "mount_id", "mode", "uid", "gid", "nlink")
    return File(_raw(given.get("path", "")), **{name: given.get(name, 0) for name in numbers}, flags=flags)


# The form of docs/rules.md.


def facts(sample: Sample) -> dict[str, object]:
    """Return the value of each field that docs/rules.md has for this type of event."""
    kind, process = sample["type"], sample.get("process", {})
    ancestors = sample.get("ancestors", [])
    known: dict[str, object] = {
        **_process_facts("process", process),
        **_process_facts("process.parent", ancestors[0] if ancestors else {"uid": NO_USER, "gid": NO_USER}),
        **_ancestor_facts(ancestors),
        **_container_facts(sample.get("container", {})),
        "cgroup.inode": sample.get("cgroup", 0),
        "event.timestamp": sample.get("time", 0),
        **_own_facts(kind, sample),
    }
    known |= {f"process.{name}": sample.get("live", {}).get(name, empty) for name, empty in LIVE.items()}
    known["process.package_manager"] = process.get("package_manager", "")
    known["process.incomplete"] = bool(process.get("incomplete"))
    if not ancestors:
        known["process.parent.auid"] = NO_USER
    if kind in PROCESSES:
        own = {"args": sample.get("args", []), "args_truncated": sample.get("args_truncated")}
        given = {**process, **own} if kind == "exec" else process
        known |= {f"{kind}.{name}": value for name, value in _process_facts("", given).items()}
    if kind not in NO_FILE:
        place = "mountpoint" if kind in MOUNTS else "file"
        known |= _file_facts(f"{kind}.{place}", sample.get("file", {}))
        known[f"{kind}.retval"] = sample.get("retval", 0)
    if kind in TWO_FILES:
        known |= _file_facts(f"{kind}.file.destination", sample.get("file2") or {})
    if kind == "exec":
        script = _file_facts("exec.script", sample.get("file2") or {})
        known |= {
            f"exec.script.{name}": script[f"exec.script.{name}"]
            for name in ("path", "name", "extension", "truncated")  # the last is no field
        }
    return known


def _own_facts(kind: str, sample: Sample) -> dict[str, object]:
    name = sample.get("name", "")
    status = sample.get("status", 0)
    own: dict[str, object] = {}
    if kind in FLAGGED:
        own["flags"] = sample.get("flags", 0)
    if kind in NEW_MODE:
        mode = sample.get("mode", 0)
        own |= {"file.destination.mode": mode, "file.destination.rights": mode % 0o10000}
    if kind == "chown":
        own |= {f"file.destination.{each}": sample.get(f"new_{each}", 0) for each in ("uid", "gid")}
    if kind in ("setxattr", "removexattr"):
        own |= {"file.destination.name": name, "file.destination.namespace": name.split(".")[0]}
    if kind == "symlink":
        own["target"] = name
    if kind == "mount":
        own |= {"fs_type": name, "source.path": sample.get("source", "")}
    if kind == "exit":
        signalled = os.WIFSIGNALED(status)
        own["code"] = os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status)
        own["cause"] = (1 if os.WCOREDUMP(status) else 2) if signalled else 0
    return {f"{kind}.{each}": value for each, value in own.items()}


def _file_facts(prefix: str, given: Sample) -> dict[str, object]:
    path = given.get("path", "")
    name = path.split("/")[-1]
    dot = name.rfind(".")
    numbers = ("inode", "device", "mount_id", "mode", "uid", "gid", "nlink")
    own: dict[str, object] = {
        "path": path,
        "name": name,
        "extension": name[dot:] if dot > 0 else "",
        **{each: given.get(each, 0) for each in numbers},
        "rights": given.get("mode", 0) % 0o10000,
        "in_upper_layer": bool(given.get("upper")),
        "in_lower_layer": bool(given.get("lower")),
        "truncated": bool(given.get("truncated")),
    }
    return {f"{prefix}.{each}": value for each, value in own.items()}


def _process_facts(prefix: str, given: Sample) -> dict[str, object]:
    args = given.get("args", [])
    path = given.get("exe", "")
    own: dict[str, object] = {
        **{name: given.get(name, 0) for name in ("pid", "ppid", "tid", "uid", "gid", "auid")},
        **{name: given.get(name, "") for name in ("comm", "user", "group")},
        "file.path": path,
        "file.name": path.split("/")[-1],
        "args": " ".join(args[1:]),
        "argv0": args[0] if args else "",
        "argv": args[1:],
        "args_truncated": bool(given.get("args_truncated")),
        "args_flags": _flags(args[1:]),
        "args_options": _options(args[1:]),
    }
    return {f"{prefix}.{name}" if prefix else name: value for name, value in own.items()}


def _flags(args: list[str]) -> list[str]:
    found: list[str] = []
    for arg in args:
        if "=" in arg or not arg.startswith("-"):
            continue
        if arg.startswith("--"):
            found.append(arg[2:])
        else:
            letters = [letter for letter in arg[1:] if letter.isalpha()]
            found += letters if len(arg) == 2 else [arg[1:], *letters]
    return [flag for flag in found if flag]


def _options(args: list[str]) -> list[str]:
    found = []
    for at, arg in enumerate(args):
        name = arg.lstrip("-")
        value = args[at + 1] if at + 1 < len(args) else "-"
        if name and name != arg:
            found += [name] if "=" in name else [] if value.startswith("-") else [f"{name}={value}"]
    return found


def _ancestor_facts(ancestors: list[Sample]) -> dict[str, object]:
    known: dict[str, list[object]] = {name: [] for name in _process_facts("process.ancestors", {})}
    for each in ancestors:
        for name, value in _process_facts("process.ancestors", each).items():
            known[name] += value if isinstance(value, list) else [value]
    return {**known, "process.ancestors.length": len(ancestors)}


def _container_facts(given: Mapping[str, str]) -> dict[str, object]:
    return {
        "container.id": given.get("id", ""),
        "process.container.id": given.get("id", ""),
        "container.runtime": given.get("runtime", ""),
        "container.rootless_id": given.get("rootless_id", ""),
    }
