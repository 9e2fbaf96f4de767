"""Resolves names in an expression: fields of its event type, constants, macros and variables."""

from __future__ import annotations

from typing import NamedTuple

from agent.errors import did_you_mean
from agent.events.model import EventType
from agent.rules import constants, fields
from agent.rules.fields import Field
from agent.rules.followed import Followed
from agent.rules.syntax import Node

# Only Datadog's agent has these: the error says that they are unsupported, not that they are misspelled.
FOREIGN_EVENTS = frozenset(
    constants.words(
        "accept bind bpf capabilities capset cgroup_write chdir connect create_file delete_file dns imds "
        "load_module mmap mprotect network network_flow_monitor packet prctl ptrace rename_file selinux "
        "setgid setrlimit setsockopt setuid signal splice sysctl unload_module write"
    )
)
_FOREIGN_FIELDS = frozenset(
    constants.words(
        "async cap_effective cap_permitted caps_attempted caps_used change_time cmdline "
        "cookie created_at device_path egid egroup envp envs envs_truncated epoch euid euser filesystem "
        "fsgid fsgroup fsuid fsuser group hashes hostname interpreter is_exec is_kworker is_thread "
        "modification_time mount_detached mount_visible origin os package release root rule scope "
        "service source syscall tags tty_name user user_session version"
    )
)
_CUTOFF = 0.75  # names of fields are alike: suggest only a close one
_COMMON = ("process", "container", "cgroup", "event")
_FIRST, _SECOND = "rename.file.", "rename.file.destination."


class Macro(NamedTuple):
    """A macro's name and its expression."""

    name: str
    node: Node


class Variable(NamedTuple):
    """A variable that actions set: its type, and whether it collects several values."""

    name: str
    type: str
    many: bool


class Fault(NamedTuple):
    """An error in an expression; `at` and `end` are offsets in its text."""

    message: str
    at: int
    end: int
    hint: str = ""


class Scope(NamedTuple):
    """The names that an expression on one event type can use.

    `slot` is the file that `fim.write.file` stands for: "file" or "file.destination". With `swapped`
    the fields of each file of a rename stand for those of the other one.
    """

    kind: EventType
    macros: dict[str, Macro]
    variables: dict[str, Variable]
    followed: Followed
    slot: str = "file"
    swapped: bool = False

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        if name.startswith("fim.write.file."):
            name = f"{self.kind.label}.{self.slot}.{name.removeprefix('fim.write.file.')}"
        elif self.swapped:
            name = _of_other_file(name)
        return fields.lookup(name, self.kind)

    def constant(self, name: str) -> int | None:
        """Return the value of a constant, or None."""
        return constants.table().get(name)

    def elsewhere(self, name: str) -> bool:
        """Whether a name belongs to another event type than this expression's."""
        return belongs_to(name) not in ("", "fim", self.kind.label)

    def complain(self, name: str) -> tuple[str, str]:
        """Return message and hint for an unknown name."""
        if "[" in name:
            return f"registers are not supported: `{name}`", "leave out the brackets: any ancestor may match"
        if set(name.split(".")[1:]) & _FOREIGN_FIELDS and "." in name:
            return f"field `{name}` of Datadog's agent is not supported", _similar(name, self.kind)
        what = "field" if "." in name else "name"
        return f"unknown {what} `{name}`", self._similar(name)

    def _similar(self, name: str) -> str:
        if "." in name:
            return _similar(name, self.kind)
        return did_you_mean(name, [*constants.table(), *self.macros], _CUTOFF)


def _of_other_file(name: str) -> str:
    """Return the name of the field that a field of one file of a rename has for the other file."""
    for own, other in ((_SECOND, _FIRST), (_FIRST, _SECOND)):
        if name.startswith(own):
            return f"{other}{name.removeprefix(own)}"
    return name


def supported_events() -> str:
    """Return a hint that lists the event types."""
    return "event types: " + ", ".join(sorted(fields.event_types()))


def belongs_to(name: str) -> str:
    """Return the event type that a field's name begins with, "" for common fields and other names."""
    first, dot, _ = name.partition(".")
    return "" if not dot or first in _COMMON else first


def unknown_event(name: str) -> tuple[str, str]:
    """Return message and hint for a field whose first word is not an event type."""
    first = name.partition(".")[0]
    if first in FOREIGN_EVENTS:
        return f"events of type `{first}` are not supported", supported_events()
    near = did_you_mean(first, [*fields.event_types(), *_COMMON, "fim"], _CUTOFF)
    return f"unknown field `{name}`", near or supported_events()


def _similar(name: str, kind: EventType) -> str:
    return did_you_mean(name, [*fields.of_event(kind), *fields.common()], _CUTOFF)
