"""`agent explain RULES`: print which events the kernel forwards for these rules, and why."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence

from agent.commands import described
from agent.events.model import EventType
from agent.filters import wants
from agent.filters.approvers import Approvers, Mode, Reason, derive
from agent.filters.wants import Want
from agent.rules.constants import OPEN_FLAGS, table
from agent.rules.engine import Ruleset
from agent.rules.load import load
from agent.rules.problems import clean

WIDTH = 79  # columns
_MAX_VALUES = 4  # of one kind; the rest is counted
_VALUE_HEADS = {wants.BASENAME: "names", wants.PATH: "paths", wants.PREFIX: "below", wants.INODE: "inodes"}
_NOUNS = {
    wants.BASENAME: ("name", "names"),
    wants.PATH: ("path", "paths"),
    wants.PREFIX: ("directory", "directories"),
    wants.ANY_FLAG: ("set of flags", "sets of flags"),
    wants.INODE: ("inode", "inodes"),
    wants.USER: ("user", "users"),
    wants.LOGIN: ("login", "logins"),
}
_ORDER = (
    wants.PATH,
    wants.BASENAME,
    wants.PREFIX,
    wants.INODE,
    wants.ANY_FLAG,
    wants.RDONLY,
    wants.USER,
    wants.LOGIN,
    wants.UPPER,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("rules", nargs="+", metavar="RULES", help="policy files, or folders of them")
    about = f"say at which stage an event is dropped, and which rules match; {described.FORM}"
    parser.add_argument("--event", action="append", default=[], metavar="EVENT", help=about)


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation and return 0. Raises what `load` raises, and UsageError for an invalid event."""
    ruleset = load(arguments.rules)
    lines = [line for text in arguments.event for line in described.describe(ruleset, text, WIDTH)]
    sys.stdout.writelines(f"{line}\n" for line in lines or explain(ruleset))
    return 0


def explain(ruleset: Ruleset) -> Iterator[str]:
    """Yield lines: for each event type what the kernel forwards, and which approvers each rule has."""
    filters = derive(ruleset)
    for event_type, approvers in filters.items():
        if approvers.reasons:
            yield from _event_type(event_type, approvers)
            yield ""
    unused = [event_type.label for event_type, approvers in filters.items() if not approvers.reasons]
    yield from _folded("No rule uses these event types, and the kernel forwards none of them: ", unused)
    for note in ruleset.notes:
        yield from textwrap.wrap(
            f"note: {note}", WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )


def _event_type(event_type: EventType, approvers: Approvers) -> Iterator[str]:
    if approvers.mode is Mode.FORWARD_ALL:
        names = [reason.rule for reason in approvers.refusals]
        yield from _folded(f"{event_type.label}: the kernel forwards EVERYTHING, because of ", names)
    elif approvers.mode is Mode.REJECT_ALL:
        yield f"{event_type.label}: the kernel forwards nothing"
    else:
        yield f"{event_type.label}: the kernel forwards events that match one of"
        yield from _values({want for reason in approvers.reasons for want in reason.wants})
        if approvers.looks_at_paths:
            events = "events" if approvers.looks_at_paths_of_reads else "opens for writing"
            yield f"    and {events} whose path the kernel cannot be sure of"
    for reason in approvers.reasons:
        yield from _rule(reason)


def _rule(reason: Reason) -> Iterator[str]:
    if reason.refusal:
        yield from _folded(f"  {reason.rule}: no approver: ", [clean(reason.refusal)])
    elif not reason.wants:
        yield f"  {reason.rule}: can never match"
    else:
        only = ", of opens that write" if all(want.writes for want in reason.wants) else ""
        yield f"  {reason.rule}: {', '.join(_counts(reason.wants))}{only}"


def _counts(wanted: Sequence[Want]) -> Iterator[str]:
    kinds = [want.kind for want in wanted]
    for kind in _ORDER:
        count = kinds.count(kind)
        if count and kind in _NOUNS:
            yield f"{count} {_NOUNS[kind][count > 1]}"
        elif count:
            yield kind


def _values(wanted: Collection[Want]) -> Iterator[str]:
    for kind in _ORDER:
        values = sorted({value(want) for want in wanted if want.kind == kind})
        if values:
            more = [f"... {len(values) - _MAX_VALUES} more"] if len(values) > _MAX_VALUES else []
            yield from _folded(f"    {_VALUE_HEADS.get(kind, kind)}: ", values[:_MAX_VALUES] + more)


def value(want: Want) -> str:
    """Return a value in readable form: a path as text, flags by name."""
    if isinstance(want.value, bytes):
        return clean(want.value.decode("utf-8", "backslashreplace"))
    if want.kind == wants.ANY_FLAG:
        return " or ".join(_flag_names(want.value))
    if want.kind == wants.RDONLY:
        return "every open for reading"
    return "files of the upper layer" if want.kind == wants.UPPER else str(want.value)


def _flag_names(mask: int) -> Iterator[str]:
    names = table()
    for name in OPEN_FLAGS:
        bits = names[name]
        if bits and bits & mask == bits and name not in ("O_ACCMODE", "O_NDELAY", "O_RSYNC"):
            yield name
            mask &= ~bits
    if mask:
        yield hex(mask)


def _folded(head: str, items: Sequence[str]) -> Iterator[str]:
    """Yield the head and the items, folded at WIDTH; later lines are indented. Nothing without items."""
    line = head
    for number, item in enumerate(items):
        text = item + (", " if number < len(items) - 1 else "")
        if len(line) + len(text.rstrip()) > WIDTH and line.strip():
            yield line.rstrip()
            line = " " * (len(head) - len(head.lstrip()) + 4)
        line += text
    if items:
        yield line.rstrip()
