"""Defines the fields of the rule language for the checker, the evaluator, the filters and the documentation.

Names are those of Datadog's SECL where it has the field. `getter` is Python source that reads the value from
the event `e` and its context `x`; the evaluator is compiled from these sources.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from agent.events.model import PROCESS_EVENTS, TWO_PATHS, EventType

INT, BOOL, TEXT = "int", "bool", "string"


class Field(NamedTuple):
    """One field of one event type.

    A field with several values has a `source`, the Python expression to iterate over; its getter then reads
    one of them from `a`. `role` names the value in the kernel that approvers and discarders can test.
    """

    name: str
    type: str
    getter: str
    doc: str
    role: str = ""
    path: bool = False
    source: str = ""


# Roles: the values that the filters can test.
FILE_PATH, FILE_NAME, FILE2_PATH, FILE2_NAME = "file.path", "file.name", "file2.path", "file2.name"
FILE_INODE, FILE2_INODE = "file.inode", "file2.inode"
FLAGS, UID, AUID, UPPER, UPPER2 = "flags", "uid", "auid", "upper", "upper2"

ANY_PATH = "any_path"

_FILES = _FIRST, _SECOND = "e.file", "(e.file2 or NO_FILE)"  # sources of the files of an event
_FILE = (
    ("path", TEXT, "{f}.path", "absolute path, as the process's mount namespace sees it"),
    ("name", TEXT, "{f}.name", "base name"),
    (
        "extension",
        TEXT,
        "extension({f}.name)",
        "part of the base name from its last dot on, with the dot; empty for `.profile`",
    ),
    (
        ANY_PATH,
        TEXT,
        "{f}.path",
        "the path, or any other path of the file that lay there when the rules were loaded; see below",
    ),
    ("inode", INT, "{f}.inode", "inode number"),
    ("device", INT, "{f}.device", "device number of the file system"),
    ("mount_id", INT, "{f}.mount_id", "id of the mount through which the process reached the file"),
    ("mode", INT, "{f}.mode", "type and permissions, before the event"),
    ("rights", INT, "({f}.mode & 0o7777)", "permissions, before the event"),
    ("uid", INT, "{f}.uid", "owner, before the event"),
    ("gid", INT, "{f}.gid", "group, before the event"),
    ("nlink", INT, "{f}.nlink", "number of hard links"),
    ("in_upper_layer", BOOL, "({f}.flags & 8 != 0)", "overlayfs: the file lies in the upper layer"),
    ("in_lower_layer", BOOL, "({f}.flags & 16 != 0)", "overlayfs: the file lies in a lower layer"),
    ("truncated", BOOL, "({f}.flags & 1 != 0)", "the path was too long; only its end is known"),
    (
        "as_given",
        BOOL,
        "({f}.flags & 2 != 0)",
        "the path is the one that the caller wrote, below its directory; links are not followed",
    ),
    (
        "detached",
        BOOL,
        "({f}.flags & 4 != 0)",
        "the path begins at a mount that is attached nowhere, or the file has no directory (memfd)",
    ),
    ("deleted", BOOL, "({f}.flags & 64 != 0)", "the file's name was removed; the path is its last one"),
)

_PROCESS = (
    ("pid", INT, "{p}.pid", "process (thread group)"),
    ("ppid", INT, "{p}.ppid", "parent process"),
    ("tid", INT, "{p}.tid", "thread"),
    ("comm", TEXT, "{p}.comm", "name of the thread, at most 15 bytes"),
    ("uid", INT, "{p}.uid", "user"),
    ("gid", INT, "{p}.gid", "group"),
    ("auid", INT, "{p}.auid", "login user; AUDIT_AUID_UNSET for a process without a login session"),
    ("user", TEXT, "{p}.user", "name of the user"),
    ("group", TEXT, "{p}.group", "name of the group"),
    ("file.path", TEXT, "{p}.exe", "path of the program"),
    ("file.name", TEXT, "{p}.exe.rpartition(b'/')[2]", "base name of the program"),
    ("args", TEXT, "b' '.join({a}[1:])", "arguments without the program's name, joined by spaces"),
    ("args_truncated", BOOL, "{p}.args_truncated", "arguments are missing at the end, see below"),
    ("argv0", TEXT, "b''.join({a}[:1])", "first argument: the program's name as the caller gave it"),
)
_PROCESS_LISTS = (
    ("argv", "{a}[1:]", "arguments without the program's name"),
    (
        "args_flags",
        "args_flags({a})",
        "options without a value: `ln`, `l` and `n` of `-ln`, `version` of `--version`",
    ),
    ("args_options", "args_options({a})", "options with a value: `T=8` of `-T 8`, `width=8` of `--width=8`"),
)
# Of the process alone, not of its parent. Those of `x.live` are read from /proc when a rule needs them.
_OF_THE_PROCESS = (
    (
        "package_manager",
        TEXT,
        "x.process.package_manager",
        "package manager on whose behalf it works: apt, dnf, dpkg, flatpak, npm, pip, rpm, snapd or empty",
    ),
    (
        "incomplete",
        BOOL,
        "x.process.incomplete",
        "program, arguments or ancestors are unknown or were read too late, see below",
    ),
    ("euid", INT, "x.live.euid", "effective user, see below"),
    ("egid", INT, "x.live.egid", "effective group, see below"),
    ("cwd", TEXT, "x.live.cwd", "working directory, see below"),
    ("session", INT, "x.live.session", "session, the pid of its leader; see below"),
    ("tty_name", TEXT, "x.live.tty", "terminal, such as `pts0`; see below"),
)
# These come from the event, so they are exact even if the process cache has no entry.
_FROM_EVENT = {"pid", "ppid", "tid", "comm", "uid", "gid", "auid"}
_FROM_EVENT_ROLES = {"uid": UID, "auid": AUID}

_XATTR = (
    ("file.destination.name", TEXT, "e.name", "name of the extended attribute"),
    ("file.destination.namespace", TEXT, "e.name.partition(b'.')[0]", "namespace of the extended attribute"),
)
_NEW_MODE = (
    ("file.destination.mode", INT, "e.mode", "requested mode"),
    ("file.destination.rights", INT, "(e.mode & 0o7777)", "requested permissions"),
)
_FLAGS = (("flags", INT, "e.flags", "flags of the call"),)

# Fields of single event types, in addition to file.* and retval.
_OWN: dict[EventType, tuple[tuple[str, str, str, str], ...]] = {
    EventType.OPEN: (*_FLAGS, *_NEW_MODE),
    EventType.UNLINK: (("flags", INT, "e.flags", "always 0: removing a directory is an rmdir event"),),
    EventType.RENAME: _FLAGS,
    EventType.MKDIR: _NEW_MODE,
    EventType.MKNOD: _NEW_MODE,
    EventType.CHMOD: _NEW_MODE,
    EventType.CHOWN: (
        ("file.destination.uid", INT, "e.new_uid", "new owner; 4294967295 keeps the old one"),
        ("file.destination.gid", INT, "e.new_gid", "new group; 4294967295 keeps the old one"),
    ),
    EventType.SETXATTR: _XATTR,
    EventType.REMOVEXATTR: _XATTR,
    EventType.SYMLINK: (("target", TEXT, "e.name", "text of the link"),),
    EventType.MOUNT: (
        ("fs_type", TEXT, "e.name", "type of the file system"),
        ("source.path", TEXT, "e.source", "source of the mount"),
        *_FLAGS,
    ),
    EventType.UMOUNT: _FLAGS,
    EventType.CHATTR: (("flags", INT, "e.flags", "flags that the inode is to have, as chattr(1) sets them"),),
    EventType.EXIT: (
        ("code", INT, "exit_number(e.exit_code)", "exit status, or the signal that ended the process"),
        ("cause", INT, "exit_cause(e.exit_code)", "EXITED, COREDUMPED or SIGNALED"),
    ),
}
_MOUNTS = (EventType.MOUNT, EventType.UMOUNT)

# Operations on a name: a link in its last component is not followed.
ON_NAMES = (
    EventType.UNLINK,
    EventType.RMDIR,
    EventType.MKDIR,
    EventType.RENAME,
    EventType.LINK,
    EventType.SYMLINK,
    EventType.MKNOD,
)
# Operations whose file is a new one.
_CREATING = (EventType.MKDIR, EventType.SYMLINK, EventType.MKNOD)

# Operations on what describes a file, not on its content.
ON_ATTRIBUTES = (
    EventType.CHMOD,
    EventType.CHOWN,
    EventType.UTIMES,
    EventType.SETXATTR,
    EventType.REMOVEXATTR,
    EventType.CHATTR,
)

# The event types of `fim.write.*`. Of opens only those that may write; of renames and links both files.
WRITES = (
    EventType.OPEN,
    *ON_NAMES,
    EventType.TRUNCATE,
    *ON_ATTRIBUTES,
)


@cache
def event_types() -> dict[str, EventType]:
    """Return the event types by the first word of their fields."""
    return {kind.label: kind for kind in EventType}


_CONTAINER_ID = "id of the container; empty on the host and for a rootless container"


@cache
def common() -> dict[str, Field]:
    """Return the fields of all events: process, ancestors, container, cgroup and time."""
    table = [_process_field("process", entry, "x.process", from_event=True) for entry in _PROCESS]
    table += _process_lists("process", "x.process.args")
    table += [_process_field("process.parent", entry, "parent(x)") for entry in _PROCESS]
    table += _process_lists("process.parent", "parent(x).args")
    table += [_ancestor_field(entry) for entry in _PROCESS]
    table += [_ancestor_list(entry) for entry in _PROCESS_LISTS]
    table += [
        *(Field(f"process.{name}", kind, getter, doc) for name, kind, getter, doc in _OF_THE_PROCESS),
        Field("process.ancestors.length", INT, "len(x.process.ancestors)", "number of known ancestors"),
        Field("container.id", TEXT, "x.container.id", _CONTAINER_ID),
        Field(
            "container.runtime",
            TEXT,
            "x.container.runtime",
            "docker, containerd, cri-o, podman, lxc or systemd-nspawn",
        ),
        Field(
            "container.rootless_id",
            TEXT,
            "x.container.rootless_id",
            "unverified id of a container that an unprivileged user started",
        ),
        Field("process.container.id", TEXT, "x.container.id", _CONTAINER_ID),
        Field("cgroup.inode", INT, "e.cgroup_id", "inode of the cgroup"),
        Field("event.timestamp", INT, "e.time_ns", "nanoseconds since boot"),
    ]
    return {field.name: field for field in table}


def _process_field(
    prefix: str, entry: tuple[str, str, str, str], process: str, *, from_event: bool = False
) -> Field:
    name, kind, getter, doc = entry
    own = from_event and name in _FROM_EVENT
    source = getter.format(p="e" if own else process, a=f"{process}.args")
    role = _FROM_EVENT_ROLES.get(name, "") if own else ""
    return Field(f"{prefix}.{name}", kind, source, doc, role, path=name == "file.path")


def _process_lists(prefix: str, args: str) -> list[Field]:
    return [
        Field(f"{prefix}.{name}", TEXT, "a", doc, source=source.format(a=args))
        for name, source, doc in _PROCESS_LISTS
    ]


def _ancestor_field(entry: tuple[str, str, str, str]) -> Field:
    name, kind, getter, doc = entry
    source = "x.process.ancestors"
    return Field(
        f"process.ancestors.{name}",
        kind,
        getter.format(p="a", a="a.args"),
        doc,
        path=name == "file.path",
        source=source,
    )


def _ancestor_list(entry: tuple[str, str, str]) -> Field:
    name, source, doc = entry
    each = f"[v for p in x.process.ancestors for v in {source.format(a='p.args')}]"
    return Field(f"process.ancestors.{name}", TEXT, "a", doc, source=each)


@cache
def of_event(kind: EventType) -> dict[str, Field]:
    """Return the fields that begin with an event type's name, by full name."""
    table: list[Field] = []
    if kind in PROCESS_EVENTS:
        table += _process_event(kind)
    if kind in _MOUNTS:
        table += _file_fields("mountpoint", _FIRST, "file")
    elif kind not in (EventType.FORK, EventType.EXIT):
        table += _file_fields("file", _FIRST, "file")
    if kind in TWO_PATHS:
        table += _file_fields("file.destination", _SECOND, "file2")
    if kind is EventType.EXEC:
        text = _file_fields("script", _SECOND, "file2")[:3]
        table += [_script_field(field) for field in text]
    table += [
        Field(name, type_, getter, doc, FLAGS if name == "flags" and kind is EventType.OPEN else "")
        for name, type_, getter, doc in _OWN.get(kind, ())
    ]
    if kind not in (EventType.FORK, EventType.EXIT):
        table.append(
            Field("retval", INT, "e.retval", "0 or more on success, a negative error number on failure")
        )
    # The kernel stage decides before these have an inode.
    new: tuple[str, ...] = ("file.inode", "file.in_upper_layer") if kind in _CREATING else ()
    if kind is EventType.LINK:
        new = ("file.destination.in_upper_layer",)
    table = [field._replace(role="") if field.name in new else field for field in table]
    return {
        f"{kind.label}.{field.name}": field._replace(name=f"{kind.label}.{field.name}") for field in table
    }


def _script_field(field: Field) -> Field:
    return field._replace(doc=f"{field.doc}: of a script, as the caller gave it; `file` is its interpreter")


def _process_event(kind: EventType) -> list[Field]:
    args = "e.args" if kind is EventType.EXEC else "x.process.args"
    fields = [_process_field("", entry, "x.process", from_event=True) for entry in _PROCESS]
    fields += _process_lists("", args)
    named = [field._replace(name=field.name.lstrip(".")) for field in fields]
    if kind is EventType.EXEC:  # the event has the program's file with all attributes
        named = [field for field in named if not field.name.startswith("file.")]
        named = [field._replace(getter=field.getter.replace("x.process.args", args)) for field in named]
    return named


def _file_fields(prefix: str, file: str, slot: str) -> list[Field]:
    fields = []
    for name, kind, getter, doc in _FILE:
        role = f"{slot}.{name}" if name in ("path", "name", "inode") else ""
        if name == ANY_PATH:
            role = f"{slot}.path"
        if name == "in_upper_layer":
            role = UPPER if slot == "file" else UPPER2
        fields.append(
            Field(f"{prefix}.{name}", kind, getter.format(f=file), doc, role, path=name in ("path", ANY_PATH))
        )
    return fields


def lookup(name: str, kind: EventType) -> Field | None:
    """Return the field of a name in expressions on this event type, or None.

    A name that ends in `.length` is the length of a string field in bytes.
    """
    field = of_event(kind).get(name) or common().get(name)
    if field is None and name.endswith(".length"):
        text = lookup(name.removesuffix(".length"), kind)
        if text is not None and text.type == TEXT and not text.source and not is_any_path(text):
            return Field(name, INT, f"len({text.getter})", f"length of {text.name} in bytes")
    return field


def is_any_path(field: Field) -> bool:
    """Whether a field follows a file by any path."""
    return field.name.endswith(f".{ANY_PATH}")


def truncated(field: Field) -> Field | None:
    """Return the mark of the path that decides a field's value; None if no path of the event's files does."""
    for file in _FILES:
        if f"{file}.path" in field.getter:
            return Field(f"{field.name}.truncated", BOOL, f"({file}.flags & 1 != 0)", "")
    return None


def siblings(field: Field, kind: EventType) -> tuple[Field, Field | None, Field]:
    """Return the fields path, inode and device of the file of an `any_path`; no inode if the file is new."""
    table, prefix = of_event(kind), field.name.removesuffix(ANY_PATH)
    inode = table[f"{prefix}inode"]
    return table[f"{prefix}path"], inode if inode.role else None, table[f"{prefix}device"]


def names() -> list[str]:
    """Return all field names, for suggestions."""
    every = list(common())
    for kind in EventType:
        every += of_event(kind)
    return every + [
        name.replace("open.", "fim.write.", 1) for name in of_event(EventType.OPEN) if ".file." in name
    ]
