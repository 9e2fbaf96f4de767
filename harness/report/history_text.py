"""Writes a history as Markdown, which also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.history import History, Noise, Series, costs
from harness.text import counted, markdown

_SHOWN_RUNS = 15  # of the letters of a row
_ROWS = 200


def render(history: History, *, every: bool = False) -> str:
    """Return the text; with `every` also of tests that always were as expected."""
    return "\n".join(_lines(history, every=every)) + "\n"


def line(history: History, cell: str, test: str) -> str:
    """Return how a test of a cell ended in the last runs, as one line of plain text; "" if no run had it."""
    series = history.series(cell, test)
    if not any(series.ended):
        return ""
    parts = [f"last runs {series.letters[-_SHOWN_RUNS:]} (+ is PASS, the newest last)"]
    parts += [f"red since {series.red_since[:16].replace('T', ' ')}"] if series.red_since else []
    parts += [f"flaky {counted(series.flakes, 'time')}"] if series.flakes else []
    parts += [f"took {_seconds(series.seconds)}"] if series.seconds.middle else []
    return "; ".join(parts)


def _lines(history: History, *, every: bool) -> Iterator[str]:
    if not history.runs:
        yield "No run is known."
        return
    first, last = (markdown(run.started[:10]) for run in (history.runs[0], history.runs[-1]))
    yield f"### History: {counted(len(history.runs), 'run')}, {first} to {last}, the newest last"
    yield ""
    found = ((cell, test, history.series(cell, test)) for cell, test in history.pairs())
    rows = [row for row in found if every or row[2].red_since or row[2].flakes]
    if rows:
        yield from (
            "| cell | test | last runs | red since | flaky | seconds |",
            "|---|---|---|---|---:|---:|",
        )
        yield from (_row(*row) for row in rows[:_ROWS])
        if len(rows) > _ROWS:
            yield f"\n… and {len(rows) - _ROWS} more; history.json has them all"
    else:
        yield "Every test was as expected in each of these runs, or in the last ones without a lapse."
    yield ""
    yield from ("| cell | load | verified instructions |", "|---|---:|---:|")
    for cell, load, insns in costs(history):
        yield f"| {markdown(cell)} | {_seconds(load)} | {_count(insns)} |"


def _row(cell: str, test: str, series: Series) -> str:
    letters = series.letters[-_SHOWN_RUNS:]
    since = markdown(series.red_since[:16].replace("T", " "))
    flakes = str(series.flakes or "")
    words = (markdown(cell), markdown(test), f"`{letters}`", since, flakes, _seconds(series.seconds))
    return f"| {' | '.join(words)} |"


def _seconds(noise: Noise) -> str:
    return f"{noise.middle:.1f} ± {noise.spread:.1f} s, last {noise.last:.1f} s" if noise.middle else ""


def _count(noise: Noise) -> str:
    return f"{noise.middle:,.0f} ± {noise.spread:,.0f}, last {noise.last:,.0f}"
