"""Writes the tables of hooks in a page of the documentation: `python -m agent.hooks.docs docs/tables.md`.

What stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is made from the tables of hooks; the
rest of the page, and sections of other names, stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from agent import pages
from agent.hooks import points as hooks


def render(page: str) -> str:
    """The page with the sections that are made here made anew."""
    return pages.filled(page, SECTIONS)


def sets() -> Iterator[str]:
    """Hook set by phase: the program type that serves it."""
    phases = list(dict.fromkeys(phase for kinds in hooks.SETS.values() for phase in kinds))
    yield from _head("hook set", *phases)
    for name, kinds in hooks.SETS.items():
        yield _row(f"`{name}`", *(kinds.get(phase, "") for phase in phases))


def events() -> Iterator[str]:
    """Event type by need: the hooks without which it is not seen, or not whole, and those that add to it."""
    yield from _head("event type", "not seen without", "not whole without", "with")
    for event, needs in hooks.EVENTS.items():
        told = (_code(hooks.names(part)) for part in (needs.minimum, needs.wanted, needs.extra))
        yield _row(f"`{event.label}`", *told)


def points() -> Iterator[str]:
    """Point: the names that its function has had, the newest first, and where its object becomes known."""
    yield from _head("point", "functions, the newest name first", "LSM hook")
    for name, functions in {**hooks.POINTS, **hooks.GIVEN, **hooks.ONCE}.items():
        resolve = hooks.RESOLVES.get(name)
        yield _row(f"`{name}`", _code(functions), f"`{resolve.lsm}`" if resolve else "")


SECTIONS: dict[str, Callable[[], Iterable[str]]] = {made.__name__: made for made in (sets, events, points)}


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*words: str) -> str:
    return f"| {' | '.join(words)} |"


def main(arguments: list[str]) -> int:
    """Bring the page named on the command line up to date."""
    return pages.update("agent.hooks.docs", render, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
