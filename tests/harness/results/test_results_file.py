"""Reading and writing results.json: cell by cell, whole or not at all, and in little memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.results import results_file
from harness.results.model import Assertion, Results
from tests.harness.report.made_up import a_cell, a_run, a_test, every_verdict


def written(folder: Path, results: Results) -> Path:
    results_file.write(results, folder)
    return folder / results_file.FILE


def of_cells(number: int) -> Results:
    """Cells of 20 tests, each with assertions of 16 kB."""
    values = [{"generated": row * 7} for row in range(200)]
    rows = [Assertion(name=f"row {n}", ok=True, expected=it, got=it) for n, it in enumerate(values)]
    tests = tuple(a_test(f"truth.test{test}", assertions=rows) for test in range(20))
    return a_run(*(a_cell("6.1", id=f"cell{cell}", tests=tests) for cell in range(number)))


def test_a_cell_is_a_line(tmp_path: Path) -> None:
    """The file is one JSON document; its first line has all but the cells, and the last one closes it."""
    path = written(tmp_path, every_verdict())
    first, *cells, last = path.read_text().splitlines()
    assert json.loads(first + last)["cells"] == []
    names = [json.loads(line.removesuffix(","))["id"] for line in cells]
    assert names == [cell.id for cell in every_verdict().cells]
    assert results_file.load(path) == every_verdict()


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_of_an_older_harness_is_read(tmp_path: Path, indent: int | None) -> None:
    """Any layout of the same JSON, with the keys in any order."""
    path = written(tmp_path, every_verdict())
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({name: plain[name] for name in sorted(plain)}, indent=indent) + "\n")
    assert results_file.load(path) == every_verdict()


@pytest.mark.parametrize("kept", [1, 2, -1])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, kept: int) -> None:
    """Also where each line that it has is whole."""
    path = written(tmp_path, every_verdict())
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    with pytest.raises(ConfigError, match="not a results file: it ends after"):
        results_file.load(path)


def test_text_after_the_end_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, every_verdict())
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(ConfigError, match="not a results file: cells"):
        results_file.load(path)


def test_an_invalid_row_is_named_by_its_place(tmp_path: Path) -> None:
    """Also one inside of evidence that is packed."""
    path = written(tmp_path, a_run(a_cell("5.10"), a_cell("6.1")))
    head, first, second, end = path.read_text().splitlines()
    path.write_text("\n".join((head, first, second.replace('"ok":true', '"ok":7', 1), end)) + "\n")
    with pytest.raises(ConfigError, match=r"cells\.1\.tests\.0\.assertions\.0\.ok"):
        results_file.load(path)


def test_a_pass_with_a_failed_assertion_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, a_run(a_cell("6.1")))
    path.write_text(path.read_text().replace('"ok":true', '"ok":false', 1))
    with pytest.raises(ConfigError, match="one of its assertions failed"):
        results_file.load(path)


def test_memory_grows_with_a_fraction_of_the_text(tmp_path: Path) -> None:
    """What a cell leaves in memory is small, and what reading it needs is freed before the next cell."""
    kept, passing, sizes = [], [], []
    for number in (1, 4, 16):  # the first builds what is built once
        path = written(tmp_path, of_cells(number))
        sizes.append(path.stat().st_size)
        tracemalloc.start()
        results = results_file.load(path)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(results.cells) == number
        kept.append(now)
        passing.append(peak - now)
    assert kept[2] - kept[1] < (sizes[2] - sizes[1]) / 2
    assert passing[2] < 1.5 * passing[1]


def test_writing_needs_the_memory_of_one_cell(tmp_path: Path) -> None:
    peaks = []
    for number in (1, 4, 16):
        results = of_cells(number)
        tracemalloc.start()
        results_file.write(results, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
