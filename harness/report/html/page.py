"""Renders report.html: one file that needs no network, from results.json and the folders of its cells.

Guest output is hostile. Three measures keep it plain text: each expression of each template passes `_Ink`,
which replaces control characters and bounds the length, and then Jinja's escaping; the page's
Content-Security-Policy allows only its own style and script, by hash; the page loads nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context
from markupsafe import Markup

from harness.report import history, history_text
from harness.report.html import bars, by_test, drift, flows, matrix, shown
from harness.report.shared import attention, evidence, hooks, proof, verdicts, words
from harness.results import ledger
from harness.results.model import Results
from harness.results.verdict import Verdict
from harness.text import counted, visible

TEXT_LIMIT = 2000  # characters of one text
SHORT_LIMIT = 100  # characters of one text once the page holds PAGE_LIMIT
PAGE_LIMIT = 4 << 20  # characters of text in the whole page

TEST_LIMIT = 200_000  # tests in the whole page

_IMPLIED = re.compile(r"</(?:td|th|tr|li|dt|dd)>")
_QUOTED_WORD = re.compile(r'="([\w-]+)"(?=[ >])')

_ASSETS = Path(__file__).with_name("assets")
_STYLES = ("base.css", "matrix.css", "panel.css", "views.css", "print.css")
_SCRIPT = "report.js"


def render(results: Results, folder: Path | None = None) -> str:
    """Return the text of report.html; `folder` is the output folder, for consoles and links to files.

    A page of more than TEST_LIMIT tests leaves out cells, those that ended as expected first, and says so.
    """
    results = _within_limit(results)
    style = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _STYLES)
    script = (_ASSETS / _SCRIPT).read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            ink=_Ink(PAGE_LIMIT),
            policy=_policy(style, script),
            style=Markup(style),  # noqa: S704 - a file of this package
            script=Markup(script),  # noqa: S704 - a file of this package
            **_content(results, folder),
        )
    )


def _within_limit(results: Results) -> Results:
    """Return results with the cells that fit on a page, in their order, and a note about the others."""
    kept, left = set(), TEST_LIMIT
    for cell in sorted(results.cells, key=lambda cell: cell.verdict.expected):
        left -= len(cell.tests)
        if left >= 0:
            kept.add(cell.id)
    if len(kept) == len(results.cells):
        return results
    missing = counted(len(results.cells) - len(kept), "cell")
    note = f"{missing} of {len(results.cells):,} did not fit on this page; results.json has all of them"
    run = results.run.model_copy(update={"notes": (note, *results.run.notes)})
    cells = tuple(cell for cell in results.cells if cell.id in kept)
    return results.model_copy(update={"run": run, "cells": cells})


def _content(results: Results, folder: Path | None) -> dict[str, Any]:
    by_cell, of_tests = by_test.events(results)
    return {
        "past": functools.partial(history_text.line, history.beside(folder) if folder else history.History()),
        "run": results.run,
        "cells": results.cells,
        "totals": verdicts.counts(test.verdict for cell in results.cells for test in cell.tests),
        "cell_totals": verdicts.counts(cell.verdict for cell in results.cells),
        "sentence": verdicts.sentence(results),
        "findings": attention.findings(results),
        "grid": matrix.grid(results),
        "tests": by_test.rows(results),
        "drift": drift.tables(results),
        "flows": flows.flows(results),
        "events": list(dict.fromkeys(event for events in by_cell.values() for event in events)),
        "cell_events": by_cell,
        "cell_counts": {
            cell.id: verdicts.counts(test.verdict for test in cell.tests) for cell in results.cells
        },
        "row_events": of_tests,
        "scenarios": results.scenarios,
        "shown": shown.Shown(results),
        "chips": shown.CHIPS,
        "evidence": {cell.id: evidence.gather(cell, folder) for cell in results.cells},
    }


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report.html"),
        extensions=[_Compact],
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_bounded,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(verdicts=Verdict, flow_kinds=bars.FLOW)
    return environment


class _Compact(Extension):
    """Removes indentation, end tags and quotes that HTML does not need, a fifth of a page; not of values."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002 - Jinja's
        """Return the source of a template without these."""
        lines = "\n".join(line.lstrip() for line in source.splitlines()) + "\n"
        return _QUOTED_WORD.sub(r"=\1", _IMPLIED.sub("", lines))


@pass_context
def _bounded(context: Context, value: Any) -> Any:
    """Pass an expression of a template through the page's ink; Jinja escapes it afterwards."""
    return context["ink"](value)


class _Ink:
    """Makes each text visible and bounds it; markup of the templates passes unchanged."""

    def __init__(self, budget: int) -> None:
        self.left = budget

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        limit = TEXT_LIMIT if self.left > 0 else SHORT_LIMIT
        cut = len(value) - limit
        text = visible(value[:limit]) + (f"… ({cut:,} more characters)" if cut > 0 else "")
        self.left -= len(text)
        return text


def _policy(style: str, script: str) -> str:
    """Return a policy that allows this style and this script, and loads nothing."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_FILTERS: dict[str, Callable[..., Any]] = {
    "accounts": ledger.accounts,
    "anchor": words.anchor,
    "capability": drift.capability,
    "counts": verdicts.counts,
    "equation": ledger.equation,
    "evidence_of": proof.evidence,
    "failed": proof.failed,
    "held": proof.held,
    "phase": hooks.phase,
    "point": hooks.point,
    "surprising": hooks.surprising,
    "used": hooks.used,
    "extra": lambda row, key: (row.model_extra or {}).get(key, ""),
    "family": verdicts.family,
    "flow_bar": bars.flow,
    "limits": lambda cell: hooks.limits(cell.limits),
    "meaning": verdicts.meaning,
    "phase_bar": bars.phases,
    "plural": words.plural,
    "seconds": words.seconds,
    "test_events": by_test.events_of_test,
    "value": words.value_text,
    "variant_rest": words.variant_rest,
    "name_of": attention.name_of,
    "verdict_bar": bars.verdicts,
}
