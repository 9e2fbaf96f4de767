"""report.html: one file that needs no network, made from results.json and the folders of its cells.

What a guest printed is hostile. Three things keep it text: every expression of every template goes through
`_Ink` (control characters spelled out, length bounded) and then through Jinja's escaping; the style and the
script are the only ones that the page's own Content-Security-Policy lets in, by hash; nothing is ever loaded.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from harness.report.page import attention, bars, drift, evidence, flows, hooks, matrix, proof, tests, words
from harness.report.summary import SENTENCES
from harness.results import ledger
from harness.results.model import CellResult, Results, TestResult
from harness.results.verdict import Verdict
from harness.text import visible

TEXT_LIMIT = 2000  # characters of one text
SHORT_LIMIT = 100  # characters of one text when the page has had enough
PAGE_LIMIT = 16 << 20  # characters of text in the whole page

_ASSETS = Path(__file__).with_name("assets")
_STYLES = ("base.css", "matrix.css", "panel.css", "views.css", "print.css")
_SCRIPT = "report.js"


def render(results: Results, folder: Path | None = None) -> str:
    """The text of report.html; `folder` is the output folder, for consoles and for links to files."""
    style = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _STYLES)
    script = (_ASSETS / _SCRIPT).read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            ink=_Ink(PAGE_LIMIT),
            policy=_policy(style, script),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            **_content(results, folder),
        )
    )


def _content(results: Results, folder: Path | None) -> dict[str, Any]:
    return {
        "run": results.run,
        "cells": results.cells,
        "totals": matrix.counts(test.verdict for cell in results.cells for test in cell.tests),
        "cell_totals": matrix.counts(cell.verdict for cell in results.cells),
        "sentence": SENTENCES.get(results.run.exit_code, "The run did not end as it should."),
        "findings": attention.findings(results),
        "grid": matrix.grid(results),
        "tests": tests.rows(results),
        "drift": drift.tables(results),
        "flows": flows.flows(results),
        "events": _events(results),
        "evidence": {cell.id: evidence.gather(cell, folder) for cell in results.cells},
    }


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(verdicts=list(Verdict), flow_kinds=bars.FLOW)
    return environment


@pass_context
def _written(context: Context, value: Any) -> Any:
    """What Jinja does with every expression before it escapes it."""
    return context["ink"](value)


class _Ink:
    """Bounds and spells out every text that a template writes; markup of our own passes as it is."""

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
    """A policy that lets only this style and this script be used, and nothing be loaded from anywhere."""
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


def _events(results: Results) -> list[str]:
    """Every event type that a ledger or a hook speaks of."""
    return list(dict.fromkeys(event for cell in results.cells for event in _events_of(cell)))


def _events_of(cell: CellResult) -> list[str]:
    spoken_of = [event for test in cell.tests for event in _test_events(test)]
    return list(dict.fromkeys([*hooks.events(cell), *spoken_of]))


def _test_events(test: TestResult) -> list[str]:
    """The event types in a test's ledger, and those it needs: a test that was not run has no ledger."""
    return list(dict.fromkeys([*test.ledger, *tests.needs(test.name)]))


def _row_events(row: tests.TestRow) -> list[str]:
    return list(dict.fromkeys(event for outcome in row.outcomes for event in _test_events(outcome.test)))


_FILTERS: dict[str, Callable[..., Any]] = {
    "accounts": ledger.accounts,
    "anchor": words.anchor,
    "capability": drift.capability,
    "counts": lambda verdicts: matrix.counts(verdicts),
    "equation": ledger.equation,
    "events_of": _events_of,
    "evidence_of": proof.evidence,
    "failed": proof.failed,
    "held": proof.held,
    "phase": hooks.phase,
    "point": hooks.point,
    "surprising": hooks.surprising,
    "used": hooks.used,
    "worst_first": tests.worst_first,
    "extra": lambda row, key: (row.model_extra or {}).get(key, ""),
    "family": words.family,
    "flow_bar": bars.flow,
    "limits": lambda cell: hooks.limits(cell.limits),
    "meaning": words.meaning,
    "phase_bar": bars.phases,
    "plural": words.plural,
    "proves": tests.proves,
    "row_events": _row_events,
    "seconds": words.seconds,
    "test_events": _test_events,
    "value": words.value_text,
    "variant_rest": words.variant_rest,
    "what": attention.what,
    "verdict_bar": bars.verdicts,
}
