"""Each table that has a fact about every verdict, or about every exit code of a run, is complete."""

from __future__ import annotations

import json

import pytest

from harness.report import lines
from harness.report.facts import LETTERS, NOT_PLANNED
from harness.report.shared.verdicts import MARKS, MEANING, SENTENCES
from harness.results.verdict import Verdict, worst_exit_code
from tests import ROOT

ICONS = (ROOT / "harness/report/html/templates/icons.html.j2").read_text()
SCHEMA = json.loads((ROOT / "harness/report/results.schema.json").read_text())
PAGE = (ROOT / "docs/results.md").read_text()
CODES = {verdict.exit_code for verdict in Verdict}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_can_be_reported(verdict: Verdict) -> None:
    """It has a letter, a meaning, a symbol, a word of the schema, and a row of the page."""
    assert verdict in LETTERS
    assert verdict in MEANING
    assert f'id="i-{verdict}"' in ICONS
    assert f"| {verdict} | {verdict.exit_code} |" in PAGE
    assert verdict in SCHEMA["$defs"]["Verdict"]["enum"]


def test_letters_differ() -> None:
    """Each verdict is read back from docs/tables.json."""
    assert len({*LETTERS.values(), NOT_PLANNED}) == len(Verdict) + 1


def test_every_exit_code_has_a_sign_a_sentence_a_style_and_a_rank() -> None:
    """The signs and the styles show verdicts, and the sentence ends the run."""
    assert set(MARKS) & set(SENTENCES) & set(lines.STYLES) >= CODES
    assert all(worst_exit_code([code, 99]) == 99 for code in CODES)
