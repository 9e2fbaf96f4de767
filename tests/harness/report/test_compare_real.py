"""`harness compare` of two real runs, before and after a hook was broken on purpose.

In the second run the discarders of one kernel and one family of programs outlived the move of a directory.
The files hold two cells of each run, without assertions and ledgers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness import cli
from tests import ROOT

DATA = Path(__file__).parent / "data/broken-hook"
PAGE = ROOT / "docs/results.md"
BEFORE, AFTER = str(DATA / "before.json"), str(DATA / "after.json")


def test_a_broken_hook_is_a_regression(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The command exits 1 and names the new failures, and the documentation has exactly this output."""
    assert cli.main(["compare", BEFORE, AFTER, "--output", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    kept = re.findall(r"```markdown\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert shown in kept
    assert shown == (tmp_path / "compare.md").read_text()
    found = json.loads((tmp_path / "compare.json").read_text())
    names = [change["test"] for change in found["changes"] if change["regression"]]
    assert names == [
        "discarders.rename_parent",
        "discarders.rename_grandparent",
        "discarders.rename_great_grandparent",
    ]
    assert {change["cell"] for change in found["changes"]} == {"6.1-kprobe"}


def test_a_repaired_hook_is_no_regression(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", AFTER, BEFORE]) == 0
    assert "✓ No regression: 3 fixed" in capsys.readouterr().out


def test_a_run_equals_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", BEFORE, BEFORE]) == 0
    assert "✓ Nothing changed" in capsys.readouterr().out
