"""The deliberate faults fit the code, and the written table is of these faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.selftest.catalogue import by_name
from tests import ROOT
from tests.campaigns.mutants import table, warm, workshop
from tests.campaigns.mutants.catalogue import MUTANTS
from tests.campaigns.mutants.model import Mutant


def each(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", MUTANTS, ids=each)
def test_the_fault_still_fits_the_code(mutant: Mutant) -> None:
    """Its line exists once, and so do the tests that must notice."""
    assert workshop.patched(mutant, ROOT).count(mutant.new) >= 1
    assert all(by_name(test) or unit_test(test) for test in mutant.caught_by)


def unit_test(test: str) -> bool:
    file, _, name = test.partition("::")
    return f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_a_fault_that_does_not_fit_is_an_error() -> None:
    """It counts neither as noticed nor as unnoticed."""
    moved = MUTANTS[0]._replace(old="no such line")
    with pytest.raises(workshop.MisfitError, match="has its line 0 times"):
        workshop.patched(moved, ROOT)


def test_a_fault_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next fault is put into correct code, also if this one did not compile."""
    monkeypatch.setattr(workshop, "_BUILD", ("false",))
    (tmp_path / "file").write_text("sound")
    mutant = Mutant("m", "file", "sound", "broken", ())
    with pytest.raises(workshop.MisfitError, match="does not compile"), workshop.mutated(tmp_path, mutant):
        pass
    assert (tmp_path / "file").read_text() == "sound"


def test_the_written_table_is_of_these_faults() -> None:
    """Each has its row, and no row has an unnoticed fault."""
    rows = table.read(table.PAGE)
    assert set(rows) == {mutant.name for mutant in MUTANTS}
    assert {verdict for found in rows.values() for verdict in found.values()} == {"FAIL"}
    assert all(set(rows[mutant.name]) == set(mutant.caught_by) for mutant in MUTANTS)


def test_the_table_reads_back(tmp_path: Path) -> None:
    """Rows of another run stay, and those of deleted faults do not."""
    page = tmp_path / "page.md"
    first, second = MUTANTS[0].name, MUTANTS[1].name
    table.write(page, {first: {"truth.open": "FAIL"}, "gone": {"truth.open": "FAIL"}})
    table.write(page, {second: {"truth.open": "PASS", "truth.exec": "FAIL"}})
    assert table.read(page) == {
        first: {"truth.open": "FAIL"},
        second: {"truth.open": "PASS", "truth.exec": "FAIL"},
    }


@pytest.mark.parametrize(
    ("body", "verdict"), [("pass", "PASS"), ("assert 0", "FAIL"), ("pytest.skip('no BPF')", "NOT_RUN")]
)
def test_the_verdict_of_a_unit_test(tmp_path: Path, body: str, verdict: str) -> None:
    """One that is skipped does not notice a fault."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    assert warm._on_this_host(tmp_path, "test_it.py::test_it").split()[0] == verdict
