"""Rewrite the generated sections of documentation pages: `python packaging/pages.py FILE...`.

A section is the text between `<!-- begin: NAME -->` and `<!-- end: NAME -->`. The sections named in SECTIONS
are generated from the agent's tables of rules, hooks and scenarios. Everything else on a page stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.events.model import EventType
from agent.hooks import needs, points, sets
from agent.rules import (
    actions,
    builder,
    constants,
    fields,
    literals,
    load,
    operands,
    parser,
    policy,
    problems,
    regex,
    source,
)
from agent.rules.fields import Field
from agent.selftest.catalogue import CATALOGUE

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
_APPROVER_ROLES = (
    *(fields.FLAGS, fields.UID, fields.AUID, fields.UPPER, fields.UPPER2),
    *(fields.FILE_INODE, fields.FILE2_INODE),
)
_PATH_ROLES = (fields.FILE_PATH, fields.FILE_NAME, fields.FILE2_PATH, fields.FILE2_NAME)


def render(page: str) -> str:
    """Return the page with the sections named in SECTIONS generated again."""

    def section(match: re.Match[str]) -> str:
        generate = SECTIONS.get(match[2])
        return match[1] + "\n".join(generate()) + "\n" + match[3] if generate else match[0]

    return _SECTION.sub(section, page)


def grammar() -> Iterator[str]:
    """Yield the grammar of rule expressions."""
    yield "```lark"
    yield parser.GRAMMAR.read_text().rstrip()
    yield "```"


def field_tables() -> Iterator[str]:
    """Yield one table of the fields that all events have, and one for each event type."""
    yield "### All events\n"
    yield from _field_table(fields.common().values())
    for event_type in EventType:
        own = fields.of_event(event_type)
        if own:
            yield f"\n### {event_type.label}\n"
            yield from _field_table(own.values())


def _field_table(table: Iterable[Field]) -> Iterator[str]:
    yield from _head("field", "type", "meaning", "in the kernel")
    for field in table:
        type_name = f"list of {field.type}s" if field.source else field.type
        yield _row(f"`{field.name}`", type_name, field.doc, _kernel_use(field))


def _kernel_use(field: Field) -> str:
    if field.role in _PATH_ROLES:
        return "approvers, discarders"
    return "approvers" if field.role in _APPROVER_ROLES else ""


def constant_names() -> Iterator[str]:
    """Yield the table of constants, one group a row."""
    yield from _head("constants", "names")
    for heading, names in constants.groups():
        yield _row(heading, _code(names))


def rule_limits() -> Iterator[str]:
    """Yield the table of bounds on rule files."""
    yield from _head("what", "at most", "because")
    yaml = "a file is data from outside, read before its rules are checked; 4,000 simple rules have 0.4 MB"
    yield _row("bytes of a file", f"{source.MAX_BYTES:,}", yaml)
    yield _row("values of a file, aliases expanded", f"{source.MAX_VALUES:,}", "aliases can multiply values")
    yield _row("nesting levels of a file", f"{source.MAX_DEPTH}", "the reader is recursive")
    entries = "a file that large is generated; more rules go into more files"
    yield _row("rules of a file, macros of a file", f"{policy.MAX_ENTRIES:,}", entries)
    yield _row("characters of an expression", f"{parser.MAX_LENGTH:,}", "longer ones belong into macros")
    nesting = "checks and evaluation are recursive"
    yield _row("nesting levels of an expression, macros expanded", f"{parser.MAX_DEPTH}", nesting)
    yield _row("items of a list", f"{builder.MAX_ITEMS:,}", "an error in a list is shown with its place")
    yield _row("nested macros", f"{operands.MAX_MACROS}", "a macro can use itself")
    work = "nested macros grow exponentially"
    yield _row("parts of an expression, macros expanded", f"{operands.MAX_WORK:,}", work)
    yield _row("parts of all expressions, macros expanded", f"{load.MAX_TOTAL_WORK:,}", "memory")
    yield _row("bits of a number", f"{literals.MAX_NUMBER.bit_length()}", "no field has more")
    yield _row("bytes of a pattern", f"{regex.MAX_PATTERN:,}", "its automaton grows with it")
    yield _row(
        "symbols of a pattern, repeats expanded", f"{regex.MAX_POSITIONS:,}", "so does `(a{100}){100}`"
    )
    yield _row("values that a variable collects", f"{actions.MAX_COLLECTED:,}", "events decide how many come")
    faults = f"{operands.MAX_FAULTS}, {problems.MAX_PROBLEMS}"
    yield _row(
        "errors reported, of one expression, of all files", faults, "the rest follows from the first ones"
    )


def hook_sets() -> Iterator[str]:
    """Yield one row for each hook set: the program type that it uses for each phase."""
    phases = list(dict.fromkeys(phase for kinds in sets.SETS.values() for phase in kinds))
    yield from _head("hook set", *phases)
    for name, kinds in sets.SETS.items():
        yield _row(f"`{name}`", *(kinds.get(phase, "") for phase in phases))


def event_types() -> Iterator[str]:
    """Yield one row for each event type: the hooks it requires, wants and can use in addition."""
    yield from _head("event type", "not seen without", "not whole without", "with")
    for event, hooks in needs.EVENTS.items():
        parts = (hooks.minimum, hooks.wanted, hooks.extra)
        yield _row(f"`{event.label}`", *(_code(needs.names(part)) for part in parts))


def hook_points() -> Iterator[str]:
    """Yield one row for each hook point: the names of its function, and the LSM hook that sees its object."""
    yield from _head("point", "functions, the newest name first", "LSM hook")
    for name, functions in {**points.POINTS, **points.GIVEN, **points.ONCE}.items():
        resolve = points.RESOLVES.get(name)
        yield _row(f"`{name}`", _code(functions), _code(resolve.lsm) if resolve else "")


def catalogue() -> Iterator[str]:
    """Yield one row for each self-test scenario: what it proves, and its tags."""
    yield from _head("scenario", "proves", "tags")
    for scenario in CATALOGUE:
        yield _row(f"`{scenario.name}`", scenario.proves, " ".join(scenario.tags))


SECTIONS: dict[str, Callable[[], Iterable[str]]] = {
    "grammar": grammar,
    "fields": field_tables,
    "constants": constant_names,
    "rule_limits": rule_limits,
    "sets": hook_sets,
    "events": event_types,
    "points": hook_points,
    "catalogue": catalogue,
}


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> int:
    """Update the pages named on the command line in place and return the exit status."""
    if not arguments:
        sys.stderr.write("usage: python packaging/pages.py FILE...\n")
        return 2
    for path in map(Path, arguments):
        path.write_text(render(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
