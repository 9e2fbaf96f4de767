"""docs/cost.md is what `harness bench` makes of the measurements beside it."""

from __future__ import annotations

from pathlib import Path

from harness.bench import model, page
from tests import ROOT

DOCS = ROOT / "docs"
MEASURED = sorted(DOCS.glob("cost-*.json"))


def test_the_page_and_its_charts_are_made_from_the_measurements(tmp_path: Path) -> None:
    """Run the command that docs/cost.md names in its first lines."""
    assert MEASURED
    benches = page.joined([model.load(path) for path in MEASURED])
    page.write(benches, tmp_path / "cost.md")
    for path in tmp_path.iterdir():
        assert path.read_text() == (DOCS / path.name).read_text(), path.name
