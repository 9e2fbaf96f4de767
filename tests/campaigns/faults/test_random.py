"""Random runs are reproducible, judged by the injected fault, and counted with bounds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.results.model import Attempt
from harness.results.verdict import Verdict
from tests.campaigns.faults import figures, judge, lies, published, table
from tests.campaigns.faults.draw import Draw, drawn, healthy
from tests.campaigns.faults.judge import Ended, Seen
from tests.campaigns.faults.kept import KEPT
from tests.campaigns.faults.kinds import GROUPS, HERE, KINDS, PHASES, right
from tests.harness.report.made_up import a_cell, a_run, a_test

STRUCK = {"before": "test", "after": "test", "problem": ""}


def test_a_draw_is_the_same_each_time() -> None:
    """A seed and a number identify a run; other numbers are other runs."""
    first = [drawn(1, number) for number in range(300)]
    assert first == [drawn(1, number) for number in range(300)]
    assert len(set(first)) == 300
    assert first != [drawn(2, number) for number in range(300)]


def test_three_hundred_draws_have_every_class_phase_and_load() -> None:
    """Each class has at least a thirtieth of them."""
    draws = [drawn(1, number) for number in range(300)]
    counts = {group: sum(draw.group == group for draw in draws) for group in GROUPS if group != "none"}
    assert min(counts.values()) >= 10
    assert {draw.phase for draw in draws} == set(HERE)
    assert {draw.busy for draw in draws} == {True, False}
    assert {healthy(1, number).busy for number in range(20)} == {True, False}


def test_the_kinds_are_valid() -> None:
    """Names are unique, each kind has one way to inject its fault, and each class has verdicts."""
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 50
    assert all(bool(kind.strike) + bool(kind.lie) + bool(kind.how) == 1 for kind in KINDS)
    assert all(right(kind, phase, cold=cold) for kind in KINDS for phase in PHASES for cold in (False, True))
    assert {kind.group for kind in KINDS} | {"none"} == set(GROUPS)


@pytest.mark.parametrize("lie", lies.LIES)
def test_a_lie_is_python(lie: str) -> None:
    """The added code compiles and has the lie: otherwise it would be noticed for a wrong reason."""
    code = compile(lies.source(lie, 1), lie, "exec")
    assert "change" in code.co_names


@pytest.mark.parametrize(
    ("kind", "verdict", "code", "phase", "outcome"),
    [
        ("panic", "CRASH", 1, "test", "right"),
        ("panic", "BOOT_FAIL", 3, "boot", "right"),
        ("panic", "BOOT_FAIL", 3, "test", "wrong"),
        ("panic", "INFRA", 3, "test", "wrong"),
        ("panic", "PASS", 0, "test", "wrong"),
        ("panic", "PASS", 0, "look", "late"),
        ("agent killed", "FLAKY", 1, "test", "right"),
        ("QEMU killed", "INFRA", 3, "test", "right"),
        ("QEMU killed", "CRASH", 1, "test", "wrong"),
        ("SIGINT", "NOT_RUN", 4, "load", "right"),
        ("SIGINT", "PASS", 0, "close", "wrong"),
        ("SIGKILL", "exit -9", -9, "load", "right"),
        ("SIGTERM", "exit -15", -15, "load", "wrong"),
        ("clock a day back", "PASS", 0, "test", "right"),
        ("clock a day back", "FAIL", 1, "test", "wrong"),
    ],
)
def test_a_run_is_judged_by_what_was_injected(
    kind: str, verdict: str, code: int, phase: str, outcome: str
) -> None:
    """In the phase in which the fault happened, and not in the drawn one."""
    draw = Draw(kind, "test", 0.5, busy=False)
    struck = {"before": phase, "after": phase, "problem": ""}
    assert judge.outcome_of(draw, Seen(code, verdict, ""), struck, "")[0] == outcome


def test_a_test_that_lost_its_machine_counts_and_not_the_tests_after_it(tmp_path: Path) -> None:
    """Those are NOT_RUN, which is worse than INFRA and no cause."""
    (tmp_path / "out").mkdir()
    lost = a_test("truth.open", Verdict.INFRA, "the connection ended")
    after = a_test("truth.exec", Verdict.NOT_RUN, f"{judge.CONSEQUENCE} INFRA in truth.open")
    cell = a_cell("6.1", tests=(lost, after))
    cell = cell.model_copy(update={"verdict": Verdict.NOT_RUN, "reason": after.reason})
    (tmp_path / "out/results.json").write_text(a_run(cell).model_dump_json(by_alias=True))
    found = judge.seen(tmp_path, 4)
    assert (found.verdict, found.reason) == ("INFRA", "the connection ended")
    assert judge.seen(tmp_path, 0).verdict == "exit 0"


def test_a_machine_counts_as_lost_only_if_another_replaced_it(tmp_path: Path) -> None:
    """The last attempt of a cell is the one that counts; a cell that kept its machine lost none."""
    (tmp_path / "out").mkdir()
    passed = Attempt(verdict=Verdict.PASS)
    infra = Attempt(verdict=Verdict.INFRA, reason="QEMU was killed")
    for attempts, lost in (((passed,), 0), ((infra, passed), 1), ((), 0)):
        cell = a_cell("6.1", tests=(a_test("truth.open"),)).model_copy(update={"attempts": attempts})
        (tmp_path / "out/results.json").write_text(a_run(cell).model_dump_json(by_alias=True))
        assert judge.seen(tmp_path, 0).lost == lost


def test_a_pass_with_a_fault_is_a_false_green() -> None:
    """Unless another machine passed and the results name the loss, or the fault did not happen."""
    green = Seen(0, "PASS", "")
    draw = Draw("QEMU killed", "test", 0.5, busy=False)
    assert judge.outcome_of(draw, green, STRUCK, "") == ("wrong", True)
    again = draw._replace(tries=2)
    assert judge.outcome_of(again, green, STRUCK, "") == ("wrong", True)
    assert judge.outcome_of(again, Seen(0, "PASS", "", lost=1), STRUCK, "") == ("right", False)
    assert judge.outcome_of(draw, green, {**STRUCK, "problem": "no agent"}, "") == ("missed", False)
    assert judge.outcome_of(draw, green, {}, "") == ("missed", False)
    boot, booted = {**STRUCK, "before": "boot", "after": "boot"}, Seen(0, "PASS", "", booted=1)
    assert judge.outcome_of(draw, booted, boot, "") == ("right", False)
    assert judge.outcome_of(draw._replace(cold=True), booted, boot, "") == ("wrong", True)


def test_a_guest_that_hangs_before_the_agent_runs_is_judged_by_how_it_started() -> None:
    """A booted machine is a boot failure; a restored one is lost, and another may replace it."""
    draw = Draw("CPU stands still", "deploy", 0.5, busy=False)
    struck = {**STRUCK, "before": "deploy", "after": "deploy"}
    for verdict, booted, outcome in (
        ("BOOT_FAIL", 1, "right"),
        ("BOOT_FAIL", 0, "wrong"),
        ("INFRA", 0, "right"),
        ("INFRA", 1, "wrong"),
    ):
        assert judge.outcome_of(draw, Seen(3, verdict, "", booted=booted), struck, "") == (outcome, False)
    replaced = Seen(0, "PASS", "", lost=1)
    assert judge.outcome_of(draw._replace(tries=2), replaced, struck, "") == ("right", False)
    assert judge.outcome_of(draw, replaced, struck, "") == ("wrong", True)


def test_a_process_that_was_left_is_wrong_with_any_verdict() -> None:
    draw = Draw("panic", "test", 0.5, busy=False)
    assert judge.outcome_of(draw, Seen(1, "CRASH", ""), STRUCK, "QEMU was left")[0] == "wrong"
    assert judge.outcome_of(healthy(1, 1), Seen(0, "PASS", ""), {}, "QEMU was left")[0] == "wrong"


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    [(0, 300, 0.009936), (0, 100, 0.029513), (1, 100, 0.046560), (0, 0, 1.0), (3, 3, 1.0)],
)
def test_bounds_are_those_of_clopper_and_pearson(failures: int, trials: int, bound: float) -> None:
    """Compared with 1 - 0.05^(1/n) without failures; with one, (1-p)^n + n p (1-p)^(n-1) = 0.05."""
    assert figures.upper_bound(failures, trials) == pytest.approx(bound, abs=2e-4)


def ended(number: int, kind: str, verdict: str, code: int, outcome: str, **more: Any) -> Ended:
    draw = Draw(kind, "test", 0.5, busy=False)
    return Ended(number, draw, verdict, code, outcome, "", 1.0, 0.0, STRUCK, "6.1", **more)


RUNS = [
    ended(0, "panic", "CRASH", 1, "right"),
    ended(1, "panic", "PASS", 0, "wrong", false_green=True),
    ended(2, "panic", "PASS", 0, "late"),
    ended(3, "clock a day back", "PASS", 0, "right"),
    ended(4, "none", "PASS", 0, "right"),
]


def test_a_run_reads_back() -> None:
    assert [judge.parsed(one.line()) for one in RUNS] == RUNS


def test_the_published_figures_are_the_counted_ones(tmp_path: Path) -> None:
    """Late faults count neither way; the parts of other kernels and the table of named faults stay."""
    page = tmp_path / "page.md"
    page.write_text("# Named\n\n")
    published.write(page, "5.10", 1, RUNS[:1])
    published.write(page, "6.1", 1, RUNS)
    text = page.read_text()
    assert text.startswith("# Named\n")
    assert text.count("### Kernel") == 2
    assert "| a fault ended green | 1 of 2 |" in text
    assert "| a fault ended in a wrong class | 1 of 3 |" in text
    assert "| guest ends | 1 | 1 |" in text
    assert "- 1: panic in test at 0.5, idle: PASS" in text


def test_named_rows_can_be_written_without_losing_random_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    table.write(page, [table.Row("a", "test", "CRASH", 1, 0.2)], ["a"])
    published.write(page, "6.1", 1, RUNS)
    before = page.read_text()
    table.write(page, [table.Row("a", "test", "CRASH", 1, 0.2)], ["a"])
    assert page.read_text() == before


def test_kept_faults_still_exist() -> None:
    """Each names a fault of the catalogue and a phase in which it can happen."""
    assert all(draw.fault and draw.phase in PHASES for draw in KEPT.values())
    assert Verdict.PASS in right(next(kind for kind in KINDS if kind.group == "overcome"), "test", cold=False)


def test_the_published_campaign_has_no_false_green() -> None:
    """And no failed healthy run; each fault in a wrong class is listed."""
    _, _, text = table.PAGE.read_text().partition(table.RANDOM)
    rows = re.findall(r"(?m)^\| (a .+) \| (\d+) of (\d+) \|", text)
    found: Counter[str] = Counter()
    for what, happened, _ in rows:
        found[what] += int(happened)
    listed = re.findall(r"(?m)^- \d+: .+ in .+ at ", text)
    assert found["a fault ended in a wrong class"] == len(listed)
    assert found["a fault ended green"] == found["a healthy run ended red"] == 0
    assert max(int(runs) for what, _, runs in rows if what == "a fault ended green") >= 240
