"""The faults have different names, and the written results name only these."""

from __future__ import annotations

from pathlib import Path

from harness.results.verdict import Verdict
from tests.campaigns.faults import report, table
from tests.campaigns.faults.__main__ import NAMES
from tests.campaigns.faults.catalogue import FAULTS
from tests.campaigns.faults.table import Row

BY_NAME = {fault.name: fault for fault in FAULTS}
PHASES = {"before", "booting", "ready", "deployed", "load", "test", "between", "end"}


def test_names_are_unique_and_valid() -> None:
    """None breaks the table, and each fault has an existing moment."""
    assert len(set(NAMES)) == len(NAMES) >= 30
    assert not [name for name in NAMES if "|" in name]
    assert {fault.phase for fault in FAULTS} == PHASES


def test_the_table_reads_back(tmp_path: Path) -> None:
    """In the order of the catalogue; rows of another run stay, and those of deleted faults do not."""
    page = tmp_path / "page.md"
    first, gone, second = (
        Row("a", "test", "CRASH", 1, 0.2),
        Row("b", "test", "FAIL", 1, 3.0),
        Row("c c", "before", "INFRA", 3, 45.1),
    )
    table.write(page, [second, gone], ["c c", "b"])
    table.write(page, [first], ["a", "c c"])
    assert list(table.read(page).values()) == [first, second]


def test_a_results_file_that_was_cut_is_refused() -> None:
    """Its reader returns no verdict."""
    row, refused = report.cut_results()
    assert refused
    assert row.exit == 2


def test_the_written_table_is_of_these_faults() -> None:
    """Each has its row with the expected class, and only a fault that was overcome exits 0."""
    rows = table.read(table.PAGE)
    assert list(rows) == list(NAMES)
    assert {name: rows[name].verdict for name in BY_NAME} == {
        name: fault.expected for name, fault in BY_NAME.items()
    }
    assert {row.fault for row in rows.values() if row.exit == 0} == {
        name for name, fault in BY_NAME.items() if fault.expected is Verdict.PASS
    }
