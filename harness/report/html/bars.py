"""Computes stacked bars for SVG: the offset and width of each part in thousandths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.report.shared import verdicts as marks
from harness.report.shared import words
from harness.results.ledger import Account
from harness.results.model import Phases
from harness.results.verdict import Verdict

WIDTH = 1000
_THINNEST = 4  # so that a small part is visible

# The ends of an event: the kind, which gives a part its colour, and its label.
FLOW = {
    "matched": "matched",
    "unmatched": "unmatched",
    "rejected": "rejected by approvers",
    "discarded": "discarded",
    "lost": "lost",
    "missing": "unaccounted for",
}


@dataclass(frozen=True)
class Part:
    """One part of a bar; `kind` gives its colour, `text` is its size in words."""

    kind: str
    label: str
    text: str
    x: int
    width: int


def verdicts(counts: Iterable[tuple[Verdict, int]]) -> list[Part]:
    """Return a part for each verdict and its count."""
    return _bar([(marks.family(verdict), verdict, count, str(count)) for verdict, count in counts])


def phases(spent: Phases) -> list[Part]:
    """Return a part for each phase of a cell."""
    named = (
        ("fetch", "fetch", spent.fetch_s),
        ("image", "image", spent.image_s),
        ("boot", f"boot ({spent.start})", spent.boot_s),
        ("deploy", "deploy", spent.deploy_s),
        ("load", "load", spent.load_s),
        ("tests", "tests", spent.tests_s),
        ("close", "close", spent.close_s),
    )
    return _bar([(kind, label, value, words.seconds(value)) for kind, label, value in named])


def flow(account: Account) -> list[Part]:
    """Return a part for each end of the events of one type."""
    counts = (
        account.matched,
        account.unmatched,
        account.approver_rejected,
        account.discarded,
        account.lost,
        max(0, account.unaccounted),
    )
    named = zip(FLOW.items(), counts, strict=True)
    return _bar([(kind, label, value, f"{value:,}") for (kind, label), value in named])


def _bar(sized: Iterable[tuple[str, str, float, str]]) -> list[Part]:
    shown = [entry for entry in sized if entry[2] > 0]
    whole = sum(entry[2] for entry in shown)
    room = WIDTH - _THINNEST * len(shown)
    parts: list[Part] = []
    x = 0
    for kind, label, value, text in shown:
        width = _THINNEST + round(room * value / whole)
        parts.append(Part(kind, label, text, x, width))
        x += width
    return parts
