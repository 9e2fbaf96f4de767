"""summary.md as GitHub shows it: never too long, and its links lead somewhere."""

from __future__ import annotations

import re

import pytest

from harness import cli
from harness.report import html, summary
from harness.results.verdict import Verdict
from tests.report.made_up import a_cell, a_run, a_test, every_verdict


def test_a_big_run_fits_a_job_summary() -> None:
    """A hundred cells of two hundred tests that fail at length are cut below 1 MiB, and say so."""
    tests = tuple(a_test(f"family.test{n}", Verdict.FAIL, f"{n} " + "x" * 400) for n in range(200))
    text = summary.render(a_run(*(a_cell(f"6.{n}", tests=tests) for n in range(100))))
    assert len(text.encode()) <= 1 << 20
    assert text.endswith("… cut here; results.json has the rest\n")


def test_cells_link_to_their_panels() -> None:
    """Every link of the summary is an anchor of the report beside it."""
    found = every_verdict()
    links = set(re.findall(r"\]\(report\.html#([^)]+)\)", summary.render(found)))
    assert len(links) == len(found.cells)
    page = html.render(found)
    assert all(f'id="{anchor}"' in page for anchor in links)


def test_a_job_links_to_the_archive() -> None:
    text = summary.render(every_verdict(), "https://archive.example/1")
    assert re.findall(r"\]\(([^)]+)\)", text) == ["https://archive.example/1"]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://plain.example/", "https://a.example/) [x](y"]
)
def test_what_is_no_address_of_an_archive(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "--artifact", address])
    assert ended.value.code == 2
    assert "is no https address" in capsys.readouterr().err
