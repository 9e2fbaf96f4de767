r"""Parses the Test Anything Protocol, versions 13 and 14, by the rules of its specification for consumers.

tap.py on PyPI parses lines and leaves the rules to its caller; it also reads `not ok 1 - a \# SKIP` as a
skip, which version 14 forbids because it turns a failure into a pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MAX_ROWS = 500  # test points that are listed in results; failures come first
_NAMED = 5  # examples of each mistake in a reason

_POINT = re.compile(r"(not )?ok\b(?:[ \t]+(\d{1,9})\b)?(.*)", re.ASCII)
_PLAN = re.compile(r"1\.\.(\d{1,9})[ \t]*(?:#[ \t]*(.*))?", re.ASCII)
_BAIL = re.compile(r"(?: {4})*bail out!\s*(.*)", re.IGNORECASE)
_YAML_BEGINS, _YAML_ENDS = re.compile(r"\s+---\s*"), re.compile(r"\s+\.\.\.\s*")
_DIRECTIVE = re.compile(r"#\s*(skip|todo(?=\s|:|$))\S*\s*(.*)", re.IGNORECASE)
_NEWLINE = re.compile(r"\r\n|\r|\n")  # str.splitlines() takes more, such as U+2028 in a description
_SKIP_WORD = re.compile(r"skip\S*\s*", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\\#])")
_HASHES = re.compile(r"\\[\\#]|(?P<bare>#)")


@dataclass(frozen=True)
class Point:
    """One test point. `directive` is "skip", "todo" or ""; `reason` is the text behind it."""

    number: int
    ok: bool
    description: str
    directive: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        """The name in the results."""
        return self.description or f"test {self.number}"

    @property
    def failed(self) -> bool:
        """Whether the point is a failure: a skip or a todo never is."""
        return not self.ok and not self.directive


@dataclass
class Document:
    """A parsed TAP stream, without its indented lines: those belong to subtests or YAML blocks."""

    points: list[Point] = field(default_factory=list)
    plans: list[tuple[int, str | None]] = field(
        default_factory=list
    )  # tests, and the comment if there is one
    bail_out: str | None = None
    split: bool = False  # the plan is between test points
    _at_plan: int = 0


@dataclass(frozen=True)
class Report:
    """The verdict PASS, FAIL or SKIP, its reason ("" for PASS), and the test points as rows of results."""

    verdict: str
    reason: str
    rows: tuple[dict[str, Any], ...]
    bailed: bool = False  # whether the program printed "Bail out!"


def judge(text: str) -> Report:
    """Return the verdict of a program that printed `text`."""
    document = read(_NEWLINE.split(text.removeprefix("\ufeff")))
    rows = _rows(document)
    if wrong := [*_violations(document), *(f"not ok: {point.name}" for point in _failed(document))]:
        bailed = document.bail_out is not None
        return Report("FAIL", ", ".join(_first(wrong, 2 * _NAMED)), rows, bailed)
    comment = document.plans[0][1]
    if document.plans[0][0] == 0:
        reason = _unescaped(_SKIP_WORD.sub("", comment or "", count=1))
        return Report("SKIP", reason or "no reason given", rows)
    if not any(point.ok and point.directive != "skip" for point in document.points):
        return Report("SKIP", "; ".join(_first(_excuses(document.points), _NAMED)), rows)
    return Report("PASS", "", rows)


def read(lines: Iterable[str]) -> Document:
    """Parse a stream; lines that are no TAP are ignored, as the specification allows."""
    document, number = Document(), 0
    for line in _outside_of_yaml(lines):
        if found := _BAIL.fullmatch(line):
            document.bail_out = document.bail_out or _unescaped(found[1]) or "without a reason"
        elif found := _POINT.fullmatch(line):
            number = int(found[2]) if found[2] else number + 1
            document.points.append(Point(number, not found[1], *_described(found[3])))
            document.split |= bool(document.plans) and 0 < document._at_plan < len(document.points)
        elif found := _PLAN.fullmatch(line):
            document.plans.append((int(found[1]), found[2]))
            document._at_plan = len(document.points)
    return document


def _outside_of_yaml(lines: Iterable[str]) -> Iterator[str]:
    within = False
    for line in lines:
        if within and line[:1].isspace():
            within = not _YAML_ENDS.fullmatch(line)
            continue
        within = bool(_YAML_BEGINS.fullmatch(line))
        if not within:
            yield line.rstrip()


def _described(text: str) -> tuple[str, str, str]:
    """Return description, directive and reason of a test point."""
    text = text.strip()
    for found in _HASHES.finditer(text):
        at = found.start()
        if not found["bare"] or not (at == 0 or text[at - 1] in " \t\\"):
            continue
        if directive := _DIRECTIVE.fullmatch(text, at):
            return _title(text[:at]), directive[1].lower(), _unescaped(directive[2])
        if text[at + 1 : at + 2].isspace():
            break  # an unknown directive; later ones do not count
    return _title(text), "", ""


def _title(text: str) -> str:
    return _unescaped(re.sub(r"^-\s*", "", text.strip()))


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text.strip())


def _failed(document: Document) -> list[Point]:
    return [point for point in document.points if point.failed]


def _excuses(points: Sequence[Point]) -> list[str]:
    """Return the reasons why no test passed, each once."""
    words = (
        point.reason or "no reason given"
        if point.directive == "skip"
        else f"todo: {point.reason or point.name}"
        for point in points
    )
    return list(dict.fromkeys(words))


def _violations(document: Document) -> Iterator[str]:
    """Yield the mistakes of the stream as a whole."""
    if document.bail_out is not None:
        yield f"Bail out! {document.bail_out}"
        return  # the program stopped early, so further mistakes are expected
    if not document.plans:
        yield "no TAP plan"
        return
    if len(document.plans) > 1:
        yield "more than one TAP plan"
    if document.split:
        yield "the TAP plan is between test points"
    planned, comment = document.plans[0]
    if planned == 0 and comment is None and not document.points:
        yield "nothing was tested: the TAP plan is 1..0 and gives no reason"
    yield from _misnumbered(planned, Counter(point.number for point in document.points))


def _misnumbered(planned: int, seen: Counter[int]) -> Iterator[str]:
    twice = [
        f"test {number} was reported {count} times" for number, count in sorted(seen.items()) if count > 1
    ]
    beyond = [number for number in sorted(seen) if not 1 <= number <= planned]
    yield from _first(twice, _NAMED)
    yield from _first([f"test {number} is not in the TAP plan 1..{planned}" for number in beyond], _NAMED)
    missing = planned - (len(seen) - len(beyond))
    if missing:
        named = islice((number for number in range(1, planned + 1) if number not in seen), _NAMED)
        more = f" and {missing - _NAMED} more" if missing > _NAMED else ""
        yield f"missing of the TAP plan 1..{planned}: test {', '.join(map(str, named))}{more}"


def _first(words: Sequence[str], count: int) -> list[str]:
    more = len(words) - count
    return [*words[:count], *([f"and {more} more"] if more > 0 else [])]


def _rows(document: Document) -> tuple[dict[str, Any], ...]:
    """Return a row for each test point, of too many the failures first, and one for the plan."""
    points = document.points
    if len(points) > MAX_ROWS:
        points = sorted(points, key=lambda point: not point.failed)[:MAX_ROWS]
    rows: list[dict[str, Any]] = [{"name": _row_name(point), "ok": not point.failed} for point in points]
    planned = document.plans[0][0] if document.plans else None
    plan = {
        "name": "TAP plan",
        "ok": not list(_violations(document)),
        "expected": planned,
        "got": len(document.points),
    }
    return (*rows, plan)


def _row_name(point: Point) -> str:
    if not point.directive:
        return point.name
    return f"{point.name} # {point.directive.upper()} {point.reason}".rstrip()
