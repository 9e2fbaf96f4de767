"""`agent explain RULES`: what the kernel's filter makes of the rules, and which rule stands in its way."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from agent.events.model import EventType
from agent.filters import wants
from agent.filters.approvers import Approvers, Mode, Reason, derive
from agent.filters.wants import Want
from agent.rules.constants import OPEN_FLAGS, table
from agent.rules.engine import Ruleset
from agent.rules.load import load
from agent.rules.problems import clean

WIDTH = 79
_SHOWN = 4  # values of one kind
_SHORT = {wants.BASENAME: "names", wants.PATH: "paths", wants.PREFIX: "below"}
_LONG = {
    wants.BASENAME: ("name", "names"),
    wants.PATH: ("path", "paths"),
    wants.PREFIX: ("directory", "directories"),
    wants.ANY_FLAG: ("set of flags", "sets of flags"),
    wants.USER: ("user", "users"),
    wants.LOGIN: ("login", "logins"),
}
_ORDER = (
    wants.PATH,
    wants.BASENAME,
    wants.PREFIX,
    wants.ANY_FLAG,
    wants.RDONLY,
    wants.USER,
    wants.LOGIN,
    wants.UPPER,
)


def command(paths: Sequence[str]) -> int:
    """Print the explanation for rule files and return the exit code. Raises what `load` raises."""
    for line in explain(load(paths)):
        sys.stdout.write(f"{line}\n")
    return 0


def explain(ruleset: Ruleset) -> Iterator[str]:
    """Lines for people: for each event type what the kernel forwards, and for each rule what serves it."""
    filters = derive(ruleset)
    silent = [kind.label for kind, found in filters.items() if not found.reasons]
    for kind, found in filters.items():
        if found.reasons:
            yield from _event_type(kind, found)
            yield ""
    yield from _folded("No rule asks for, and the kernel forwards nothing of: ", silent)


def _event_type(kind: EventType, found: Approvers) -> Iterator[str]:
    if found.mode is Mode.FORWARD_ALL:
        names = [reason.rule for reason in found.refusals]
        yield from _folded(f"{kind.label}: the kernel forwards EVERYTHING, because of ", names)
    elif found.mode is Mode.REJECT_ALL:
        yield f"{kind.label}: the kernel forwards nothing"
    else:
        yield f"{kind.label}: the kernel forwards what fits one of"
        yield from _values({want for reason in found.reasons for want in reason.wants})
        if found.looks_at_paths:
            yield f"    and {_uncertain(found)} whose path the kernel cannot be sure of"
    for reason in found.reasons:
        yield from _rule(reason)


def _uncertain(found: Approvers) -> str:
    return "events" if found.looks_at_paths_of_reads else "opens for writing"


def _rule(reason: Reason) -> Iterator[str]:
    if reason.refusal:
        yield from _folded(f"  {reason.rule}: no approver: ", [clean(reason.refusal)])
    elif not reason.wants:
        yield f"  {reason.rule}: can never match"
    else:
        only = ", of opens that write" if all(want.writes for want in reason.wants) else ""
        yield f"  {reason.rule}: {', '.join(_counts(reason.wants))}{only}"


def _counts(found: Iterable[Want]) -> Iterator[str]:
    kinds = [want.kind for want in found]
    for kind in _ORDER:
        count = kinds.count(kind)
        if count and kind in _LONG:
            yield f"{count} {_LONG[kind][count > 1]}"
        elif count:
            yield kind


def _values(found: set[Want]) -> Iterator[str]:
    for kind in _ORDER:
        values = sorted({value(want) for want in found if want.kind == kind})
        if values:
            more = [f"... {len(values) - _SHOWN} more"] if len(values) > _SHOWN else []
            yield from _folded(f"    {_SHORT.get(kind, kind)}: ", values[:_SHOWN] + more)


def value(want: Want) -> str:
    """A value for people: a path as text, flags by name."""
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
    """Items after a head, folded at the width of a terminal; what follows is indented."""
    line = head
    for number, item in enumerate(items):
        text = item + (", " if number < len(items) - 1 else "")
        if len(line) + len(text.rstrip()) > WIDTH and line.strip():
            yield line.rstrip()
            line = " " * (len(head) - len(head.lstrip()) + 4)
        line += text
    if items:
        yield line.rstrip()
