"""Pages of the documentation with sections that are made.

What stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is made anew; the rest is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def filled(page: str, sections: Mapping[str, Callable[[], Iterable[str]]]) -> str:
    """The page with its sections of these names, as lines; those of other names stay as they are."""

    def made(match: re.Match[str]) -> str:
        make = sections.get(match[2])
        return match[1] + "\n".join(make()) + "\n" + match[3] if make else match[0]

    return _SECTION.sub(made, page)


def update(program: str, render: Callable[[str], str], arguments: list[str]) -> int:
    """Bring the page named on the command line up to date; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {program} FILE\n")
        return 2
    page = Path(arguments[0])
    page.write_text(render(page.read_text()))
    return 0
