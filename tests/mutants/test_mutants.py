"""The suite can fail: every deliberate fault is caught by the test that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.selftest.catalogue import by_name
from tests.mutants import workshop
from tests.mutants.catalogue import MUTANTS, Mutant

KERNEL = "6.1"


def each(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", MUTANTS, ids=each)
def test_the_fault_still_fits_the_code(mutant: Mutant) -> None:
    assert workshop.patched(mutant, workshop.ROOT).count(mutant.new) == 1
    assert all(by_name(test) for test in mutant.caught_by)


def test_a_fault_that_does_not_fit_is_told() -> None:
    moved = MUTANTS[0]._replace(old="no such line")
    with pytest.raises(ValueError, match="has its line 0 times"):
        workshop.patched(moved, workshop.ROOT)


@pytest.mark.guest
@pytest.mark.parametrize("mutant", MUTANTS, ids=each)
def test_the_fault_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    workshop.build(mutant, tmp_path)
    found = workshop.verdicts(tmp_path, KERNEL, mutant.caught_by)
    assert found == dict.fromkeys(mutant.caught_by, "FAIL")
