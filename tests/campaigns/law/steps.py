"""A script of the generator as data: lines can be removed, and it can be written again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

BLOCKS = ("program", "fork", "thread", "repeat", "beside")
RELOAD = "# reload"
EMPTY = '""'
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:=@~")


def word(text: str | bytes) -> str:
    """Return any text as one word of a script."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if not raw:
        return EMPTY
    return "".join(chr(b) if b in _PLAIN else "%%" if b == 0x25 else f"\\x{b:02x}" for b in raw)


def text(of: str) -> str:
    """Return the text of a `word`."""
    if of == EMPTY:
        return ""
    raw = of.replace("%%", "%").encode("ascii").decode("unicode_escape").encode("latin-1")
    return raw.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Step:
    """One line; `body` holds the lines of a block."""

    words: tuple[str, ...]
    into: int | None = None
    body: tuple[Step, ...] = ()

    @property
    def call(self) -> str:
        """The word that the line begins with."""
        return self.words[0]

    def lines(self) -> Iterator[str]:
        """As they stand in a script."""
        yield " ".join(self.words) + ("" if self.into is None else f" -> ${self.into}")
        if self.call in BLOCKS:
            for step in self.body:
                yield from step.lines()
            yield "end"

    def size(self) -> int:
        """Return the number of lines with an operation."""
        return 1 + sum(step.size() for step in self.body)


def line(*words: str | int, into: int | None = None, body: Iterable[Step] = ()) -> Step:
    """Return a step of escaped words."""
    return Step(tuple(str(one) for one in words), into, tuple(body))


def render(steps: Iterable[Step]) -> str:
    """Return the script of these steps."""
    return "".join(f"{one}\n" for step in steps for one in step.lines())


def parse(script: str) -> tuple[Step, ...]:
    """Return the steps of a script; raises ValueError if its blocks do not close."""
    rows = [row for row in script.splitlines() if row.strip() and not row.startswith("#")]
    steps, rest = _parse(rows)
    if rest:
        raise ValueError(f"'{rest[0]}' ends no block")
    return steps


def _parse(rows: Sequence[str]) -> tuple[tuple[Step, ...], Sequence[str]]:
    steps: list[Step] = []
    while rows and rows[0].strip() != "end":
        words, into = _split(rows[0])
        rows = rows[1:]
        body: tuple[Step, ...] = ()
        if words[0] in BLOCKS:
            body, rows = _parse(rows)
            if not rows:
                raise ValueError(f"the block '{' '.join(words)}' has no end")
            rows = rows[1:]
        steps.append(Step(words, into, body))
    return tuple(steps), rows


def _split(row: str) -> tuple[tuple[str, ...], int | None]:
    words = row.split()
    if "->" in words:
        return tuple(words[: words.index("->")]), int(words[-1].removeprefix("$"))
    return tuple(words), None


def flat(steps: Iterable[Step], path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Return the places of all steps, blocks before their lines."""
    for number, step in enumerate(steps):
        yield (*path, number)
        yield from flat(step.body, (*path, number))


def without(steps: tuple[Step, ...], gone: frozenset[tuple[int, ...]]) -> tuple[Step, ...]:
    """Return the steps without those at these places."""

    def cut(some: tuple[Step, ...], path: tuple[int, ...]) -> tuple[Step, ...]:
        return tuple(
            replace(step, body=cut(step.body, (*path, number)))
            for number, step in enumerate(some)
            if (*path, number) not in gone
        )

    return cut(steps, ())
