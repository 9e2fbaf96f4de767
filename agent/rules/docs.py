"""Writes the parts of docs/rules.md that follow from the code: `python -m agent.rules.docs docs/rules.md`.

What stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is made here; the rest of the page is
written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from agent import pages
from agent.events.model import EventType
from agent.rules import actions, builder, constants, fields, operands, parser, policy, regex, source
from agent.rules.fields import Field

_BITS = (fields.FLAGS, fields.UID, fields.AUID, fields.UPPER, fields.UPPER2)
_PATHS = (fields.FILE_PATH, fields.FILE_NAME, fields.FILE2_PATH, fields.FILE2_NAME)


def render(page: str) -> str:
    """The page with its generated parts made anew."""
    return pages.filled(page, {"grammar": grammar, "fields": tables, "constants": names, "limits": limits})


def grammar() -> Iterator[str]:
    """The grammar as it is."""
    yield "```lark"
    yield parser.GRAMMAR.read_text().rstrip()
    yield "```"


def tables() -> Iterator[str]:
    """A table of fields for all events, and one for each type of event."""
    yield "### All events\n"
    yield from _table(list(fields.common().values()))
    for kind in EventType:
        found = list(fields.of_event(kind).values())
        if found:
            yield f"\n### {kind.label}\n"
            yield from _table(found)


def _table(found: list[Field]) -> Iterator[str]:
    yield "| field | type | meaning | in the kernel |"
    yield "|---|---|---|---|"
    for field in found:
        kind = f"list of {field.type}s" if field.source else field.type
        yield f"| `{field.name}` | {kind} | {field.doc} | {_served(field)} |"


def _served(field: Field) -> str:
    if field.role in _PATHS:
        return "approvers, discarders"
    return "approvers" if field.role in _BITS else ""


def names() -> Iterator[str]:
    """The constants, by group."""
    yield "| constants | names |"
    yield "|---|---|"
    for heading, members in constants.groups():
        yield f"| {heading} | {' '.join(f'`{name}`' for name in members)} |"


def limits() -> Iterator[str]:
    """What bounds a rule file."""
    yield "| what | at most |"
    yield "|---|---|"
    yield f"| bytes of a file | {source.MAX_BYTES:,} |"
    yield f"| values of a file, aliases written out | {source.MAX_VALUES:,} |"
    yield f"| levels of a file | {source.MAX_DEPTH} |"
    yield f"| rules of a file, macros of a file | {policy.MAX_ENTRIES:,} |"
    yield f"| characters of an expression | {parser.MAX_LENGTH:,} |"
    yield f"| levels of an expression | {parser.MAX_DEPTH} |"
    yield f"| items of a list | {builder.MAX_ITEMS:,} |"
    yield f"| macros within macros | {operands.MAX_MACROS} |"
    yield f"| parts of an expression, macros written out | {operands.MAX_WORK:,} |"
    yield f"| bytes of a pattern | {regex.MAX_PATTERN:,} |"
    yield f"| symbols of a pattern, repeats written out | {regex.MAX_POSITIONS:,} |"
    yield f"| values that a variable collects | {actions.MAX_COLLECTED:,} |"


def main(arguments: list[str]) -> int:
    """Bring the page named on the command line up to date."""
    return pages.update("agent.rules.docs", render, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
