from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from agent.selftest.protocol import Ran
from harness import expectations
from harness.cell import CellRun, Keeper
from harness.errors import ConfigError
from harness.expansion import Cell
from harness.expectations import Expectations
from harness.fakes import FakeBench
from harness.judge import result_of
from harness.plan import Plan
from harness.results import CellReport, TestResult
from harness.verdict import Verdict


def _live(cell: Cell, folder: Path, script: dict[str, str]) -> tuple[list[TestResult], CellReport, list[str]]:
    log = folder.with_name("log")
    bench = FakeBench(script, log)
    keeper = Keeper(lambda wanted: bench.machine(wanted, bench.prepare(_plan(cell), "tcg", print), folder))
    run = CellRun(cell, keeper, folder)
    run.open()
    results = [run.test(name) for name in cell.tests]
    report = run.close()
    keeper.discard()
    return results, report, [line.split(" ", 1)[1] for line in log.read_text().splitlines()]


def _plan(cell: Cell) -> Plan:
    return Plan(schema=1, cells=(cell,))


def _verdicts(results: list[TestResult]) -> str:
    return " ".join(result.verdict for result in results)


@pytest.mark.parametrize(
    ("script", "verdicts"),
    [
        ({}, "PASS PASS PASS"),
        ({"*::truth.unlink": "fail"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "skip"}, "PASS SKIP PASS"),
        ({"*::truth.unlink": "refuse"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "malformed"}, "PASS FAIL PASS"),
        ({"*::truth.unlink": "crash"}, "PASS CRASH NOT_RUN"),
        ({"*::truth.unlink": "hang"}, "PASS TIMEOUT NOT_RUN"),
        ({"*::truth.unlink": "qemu-dies"}, "PASS INFRA NOT_RUN"),
        ({"*::truth.unlink": "lost"}, "PASS INFRA NOT_RUN"),
        ({"*::boot": "crash"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::boot": "hang"}, "BOOT_FAIL BOOT_FAIL BOOT_FAIL"),
        ({"*::boot": "qemu-dies"}, "INFRA INFRA INFRA"),
        ({"*::boot": "lost"}, "INFRA INFRA INFRA"),
        ({"*::load": "refuse"}, "FAIL FAIL FAIL"),
        ({"*::load": "crash"}, "CRASH CRASH CRASH"),
        ({"*::load": "hang"}, "TIMEOUT TIMEOUT TIMEOUT"),
    ],
)
def test_what_happens_has_one_verdict(
    cell: Cell, folder: Path, script: dict[str, str], verdicts: str
) -> None:
    results, _, events = _live(cell, folder, script)
    assert _verdicts(results) == verdicts
    assert events[-1].startswith("destroy")


def test_a_cell_leaves_its_evidence(cell: Cell, folder: Path) -> None:
    _, report, _ = _live(cell, folder, {"*::load": "refuse"})
    assert (folder / "verifier.log").read_text() == "verifier says no"
    assert {path.name for path in folder.iterdir()} == {"verifier.log", "console.log", "agent.log"}
    assert report.cause
    assert report.cause.reason == "load refused"


def test_what_was_loaded_is_in_the_report(cell: Cell, folder: Path) -> None:
    _, report, _ = _live(cell, folder, {})
    assert report.capabilities == {"lsm": "fires"}
    assert report.hooks[0].runs == 3
    assert report.cause is None


def test_a_test_that_is_lost_says_with_what(cell: Cell, folder: Path) -> None:
    results, _, _ = _live(cell, folder, {"*::truth.open": "crash"})
    assert results[1].reason == "not run: the machine was given up after CRASH in truth.open"


def _ran(**changes: object) -> Ran:
    fields: dict[str, object] = {
        "id": 1,
        "name": "a",
        "verdict": "PASS",
        "assertions": [{"name": "x", "ok": True}],
    }
    return Ran(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ran", "reason"),
    [
        (_ran(assertions=[]), "said PASS and asserted nothing"),
        (_ran(assertions=[{"name": "x", "ok": False}]), "said PASS, but x is not as expected"),
        (_ran(name="b"), "the agent answered for 'b'"),
        (_ran(ledger={"open": {"generated": "many"}}), "malformed answer: ledger.open.generated: "),
        (_ran(assertions=["x"]), "malformed answer: assertions.0: "),
        (_ran(verdict="FAIL"), "FAIL without a reason"),
        (
            _ran(ledger={"open": {"generated": 2, "delivered": 1, "matched": 1}}),
            "the ledger of open does not",
        ),
        (_ran(ledger={"open": {"generated": 1, "delivered": 1}}), "the ledger of open does not close"),
    ],
)
def test_an_answer_that_contradicts_itself_is_a_failure(ran: Ran, reason: str) -> None:
    result = result_of("a", ran)
    assert result.verdict is Verdict.FAIL
    assert result.reason.startswith(reason)


def test_hostile_words_become_plain_ones() -> None:
    row = {"name": "x", "ok": False, "got": "\ud800"}
    result = result_of("a", _ran(verdict="FAIL", reason="\x1b[2J\ud800\n" * 400, assertions=[row]))
    assert result.assertions[0].got == "?"
    assert result.reason.isprintable()
    assert len(result.reason) <= 500
    assert result.model_dump_json()


KNOWN = """
expected_failures:
  - test: truth.*
    when: {since: "5.10", before: "6.1", capability: {lsm: silent}}
    reason: attaches and never fires
    link: a page
    until: 2026-12-31
"""
BEFORE, AFTER = datetime.date(2026, 12, 31), datetime.date(2027, 1, 1)


def _known(tmp_path: Path, text: str = KNOWN) -> Expectations:
    path = tmp_path / "expectations.yaml"
    path.write_text(text)
    return expectations.load(path)


@pytest.mark.parametrize(
    ("verdict", "lsm", "day", "seen"),
    [
        ("FAIL", "silent", BEFORE, "XFAIL"),
        ("PASS", "silent", BEFORE, "XPASS"),
        ("FAIL", "silent", AFTER, "FAIL"),
        ("PASS", "silent", AFTER, "XPASS"),
        ("FAIL", "fires", BEFORE, "FAIL"),
        ("CRASH", "silent", BEFORE, "CRASH"),
    ],
)
def test_known_failures(
    tmp_path: Path, cell: Cell, verdict: str, lsm: str, day: datetime.date, seen: str
) -> None:
    report = CellReport(id=cell.id, capabilities={"lsm": lsm})
    result = TestResult(name="truth.open", verdict=Verdict(verdict), reason="because")
    judged = expectations.apply(_known(tmp_path), cell, report, result, day)
    assert judged.verdict == seen
    assert judged.reason


def test_an_expectation_that_fits_nothing_is_said(tmp_path: Path, cell: Cell) -> None:
    judged = [(cell, CellReport(id=cell.id), "truth.open")]
    lines = expectations.unmatched(_known(tmp_path), judged)
    assert lines == ["expectations.yaml: truth.* (attaches and never fires) fits no test of this run"]


def test_a_date_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expectations.yaml:7: expected_failures.until: .*date"):
        _known(tmp_path, KNOWN.replace("2026-12-31", "soon"))
