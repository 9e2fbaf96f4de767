"""summary.md fits the limits of GitHub, and its links have targets."""

from __future__ import annotations

import re

import pytest

from harness import cli
from harness.report import html, summary
from harness.results.verdict import Verdict
from tests.harness.report.made_up import a_cell, a_run, a_test, every_verdict


def test_a_big_run_fits_a_job_summary() -> None:
    """2,000 cells with 60 failed tests each: tables end with a whole row and the number of further rows."""
    tests = tuple(a_test(f"family.test{n}", Verdict.FAIL, f"{n} " + "x" * 400) for n in range(60))
    text = summary.render(a_run(*(a_cell(f"6.{n}", tests=tests) for n in range(2000))))
    assert len(text.encode()) < 1 << 20
    assert "… and 119800 more that are not PASS; report.html has them all\n" in text
    assert text.endswith("… and 1940 more cells; report.html has them all\n")


def test_the_worst_cells_are_shown() -> None:
    """A failure is in the table, however many passes come before it."""
    passing = (a_cell(f"6.{n}", tests=(a_test("a.b"),)) for n in range(100))
    text = summary.render(a_run(*passing, a_cell("7.3", tests=(a_test("a.b", Verdict.FAIL),))))
    assert "[7.3-auto](" in text.splitlines()[4]


@pytest.mark.parametrize("verdict", [Verdict.SKIP, Verdict.XFAIL])
def test_a_tick_stands_only_where_something_passed(verdict: Verdict) -> None:
    """In the table and in the headline."""
    text = summary.render(a_run(a_cell("6.1", tests=(a_test("a.b", verdict),))))
    assert text.startswith("## ○ Nothing failed, and nothing passed.")
    assert "✓" not in text


def test_a_text_beyond_the_limit_is_cut_at_a_line() -> None:
    """The last line says that text was cut."""
    assert summary.cut("a line\n" * 100, 100).endswith("a line\n… cut here; results.json has the rest\n")


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
def test_an_invalid_address_is_no_link(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "--artifact", address])
    assert ended.value.code == 2
    assert "(use https://...)" in capsys.readouterr().err
