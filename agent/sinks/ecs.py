"""Renders a match with the field names of the Elastic Common Schema (ECS).

FIELDS maps the members of a line to ECS fields. What ECS has no field for stays under `fim`, with the names
of docs/operations.md, so nothing is lost.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from typing import Any

from agent import __version__
from agent.sinks.base import Match

VERSION = "9.4.0"  # of ECS
OWN = "fim"  # what has no field in ECS

Line = Mapping[str, Any]


def _permissions(mode: str) -> str:
    return f"{int(mode, 8) & 0o7777:04o}"


def _same(value: Any) -> Any:
    return value


# A member of a line -> the ECS fields that it fills, and how. Members of objects are joined by dots.
FIELDS: Mapping[str, tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    "time": (("@timestamp", _same),),
    "rule": (("rule.id", _same), ("rule.name", _same)),
    "event.type": (("event.action", _same),),
    "event.path": (("file.path", _same),),
    "event.inode": (("file.inode", str),),
    "event.device": (("file.device", str),),
    "event.mode": (("file.mode", _permissions),),
    "event.uid": (("file.uid", str),),
    "event.gid": (("file.gid", str),),
    "event.target": (("file.target_path", _same),),
    "event.sha256": (("file.hash.sha256", _same),),
    "process.pid": (("process.pid", _same),),
    "process.ppid": (("process.parent.pid", _same),),
    "process.tid": (("process.thread.id", _same),),
    "process.comm": (("process.thread.name", _same),),
    "process.exe": (("process.executable", _same),),
    "process.args": (("process.args", _same),),
    "process.uid": (("process.real_user.id", str), ("user.id", str)),
    "process.user": (("process.real_user.name", _same), ("user.name", _same)),
    "process.gid": (("process.real_group.id", str),),
    "process.group": (("process.real_group.name", _same),),
    "process.euid": (("process.user.id", str),),
    "process.cwd": (("process.working_directory", _same),),
    "container.id": (("container.id", _same),),
    "container.runtime": (("container.runtime", _same),),
    "host.name": (("host.name", _same), ("host.hostname", _same)),
    "host.kernel": (("host.os.kernel", _same),),
    "host.boot_id": (("host.boot.id", _same),),
}
_CONSTANT = {
    "ecs.version": VERSION,
    "event.module": OWN,
    "agent.type": "fim-agent",
    "agent.version": __version__,
}
# The type of an event -> `event.category` and `event.type`.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "open": ("file", "access"),
    **dict.fromkeys(
        ("close", "rename", "truncate", "chmod", "chown", "utimes", "setxattr", "removexattr", "chattr"),
        ("file", "change"),
    ),
    **dict.fromkeys(("unlink", "rmdir"), ("file", "deletion")),
    **dict.fromkeys(("mkdir", "link", "symlink", "mknod"), ("file", "creation")),
    **dict.fromkeys(("mount", "umount"), ("host", "change")),
    **dict.fromkeys(("exec", "fork"), ("process", "start")),
    "exit": ("process", "end"),
}
_KINDS = ((stat.S_IFREG, "file"), (stat.S_IFDIR, "dir"), (stat.S_IFLNK, "symlink"))


def encode(match: Match) -> Match:
    """Return the match with a line of ECS."""
    document = convert(json.loads(match.line))
    line = json.dumps(document, separators=(",", ":")).replace("\x7f", "\\u007f")
    return match._replace(line=line.encode("ascii"))


def convert(line: Line) -> dict[str, Any]:
    """Return the document of a parsed line."""
    document: dict[str, Any] = {}
    for name, value in {**_CONSTANT, **_derived(line)}.items():
        _put(document, name, value)
    _map(document, line, "")
    return document


def _map(document: dict[str, Any], members: Line, prefix: str) -> None:
    for key, value in members.items():
        name = f"{prefix}{key}"
        if value is None or value == "":
            continue
        if name in FIELDS:
            for field, how in FIELDS[name]:
                _put(document, field, how(value))
        elif name in ("event", "process", "container", "host"):
            _map(document, value, f"{name}.")
        else:
            _put(document, f"{OWN}.{name}", value)


def _derived(line: Line) -> dict[str, Any]:
    """Return the fields that several members decide."""
    event = line.get("event")
    if event is None:
        return {"event.kind": "state", "event.dataset": f"{OWN}.agent"}
    process = line["process"]
    category, kind = _CLASSES[event["type"]]
    created = "created" in event.get("path_marks", ())
    found: dict[str, Any] = {
        "event.kind": "event",
        "event.dataset": f"{OWN}.match",
        "event.category": [category],
        "event.type": ["creation" if created else kind],
        "event.outcome": "success" if event["retval"] >= 0 else "failure",
        "file.name": event["path"].rpartition("/")[2],
        "process.name": process["exe"].rpartition("/")[2],
        "process.args_count": len(process["args"]),
    }
    file_type = dict(_KINDS).get(stat.S_IFMT(int(event["mode"], 8)))
    if file_type:
        found["file.type"] = file_type
    if process["ancestors"]:
        found["process.parent.executable"] = process["ancestors"][0]["exe"]
    if event.get("exit_code", 1) & 0x7F == 0:  # the process was not ended by a signal
        found["process.exit_code"] = event["exit_code"] >> 8
    return found


def _put(document: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[last] = value
