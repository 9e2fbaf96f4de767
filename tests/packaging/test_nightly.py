"""What a nightly run has to report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.packaging.nights import FINE, GOOD, cell, nightly, results


def found(now: dict[str, Any] | None, before: dict[str, Any] | None, **jobs: str) -> list[str]:
    ended = FINE | {name.replace("_", " "): word for name, word in jobs.items()}
    return [one.key for one in nightly.findings(nightly.Night(ended, now), before)]


def test_a_good_night_has_no_findings() -> None:
    assert found(GOOD, GOOD) == []
    assert found(GOOD, None) == []


def test_a_first_night_that_fails_is_found() -> None:
    """Without an earlier night to compare with it is a failure all the same."""
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    assert found(bad, None, report="failure") == ["6.1-auto truth.open FAIL"]


def test_a_new_kernel_that_fails_is_found() -> None:
    """From its first night, although the night before has no such cell."""
    bad = results(*GOOD["cells"], cell("8.0-auto", "CRASH", open="CRASH"), code=1)
    assert found(bad, GOOD) == ["8.0-auto truth.open CRASH"]


def test_a_known_failure_is_found_again() -> None:
    """Its issue stays open, without a new comment."""
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    assert found(bad, bad) == ["6.1-auto truth.open FAIL"]


@pytest.mark.parametrize("verdict", ["INFRA", "BOOT_FAIL"])
def test_the_infrastructure_is_forgiven_for_one_night(verdict: str) -> None:
    """If the cell was as expected the night before; a second night in a row, or a first night, is found."""
    lost = results(cell("6.1-auto", verdict, open=verdict), cell("7.3-auto", "PASS", open="PASS"), code=3)
    assert found(lost, GOOD, report="failure") == []
    assert found(lost, lost) == [f"6.1-auto {verdict}"]
    assert found(lost, None) == [f"6.1-auto {verdict}"]


def test_a_failure_is_not_forgotten_because_its_machine_was_lost() -> None:
    """Nothing shows that the cell would pass now, so the issue must stay open."""
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), cell("7.3-auto", "PASS", open="PASS"), code=1)
    lost = results(cell("6.1-auto", "INFRA", open="INFRA"), cell("7.3-auto", "PASS", open="PASS"), code=3)
    assert found(lost, bad) == ["6.1-auto INFRA"]


@pytest.mark.parametrize("code", [1, 4])
def test_a_lost_machine_forgives_no_other_exit_code(code: int) -> None:
    """The run failed for a reason that no cell shows, such as a hook set that no cell exercised."""
    lost = results(cell("6.1-auto", "INFRA", open="INFRA"), cell("7.3-auto", "PASS", open="PASS"), code=code)
    lost["run"]["notes"] = ["hook set lsm: no cell exercised it"]
    night = nightly.Night(FINE | {"report": "failure"}, lost)
    (one,) = nightly.findings(night, GOOD)
    assert one.key == "run"
    assert f"exits with {code}" in one.text
    assert "hook set lsm: no cell exercised it" in one.text


def test_a_lost_machine_forgives_no_failure_of_the_harness() -> None:
    """The exit code is that of the infrastructure either way."""
    lost = results(cell("6.1-auto", "INFRA", open="INFRA"), cell("7.3-auto", "PASS", open="PASS"), code=3)
    lost["run"]["failures"] = [{"what": "cleaning up failed: an `unexpected` error", "unexpected": True}]
    night = nightly.Night(FINE | {"report": "failure"}, lost)
    (one,) = nightly.findings(night, GOOD)
    assert one.key == "run"
    assert one.text == "the harness itself failed: cleaning up failed: an 'unexpected' error"
    lost["run"]["failures"] = [{"what": 7}]
    assert "results" in found(lost, GOOD)


@pytest.mark.parametrize("verdict", ["INFRA", "BOOT_FAIL", "SKIP"])
def test_a_night_that_proved_nothing_is_found(verdict: str) -> None:
    """Every machine was lost or every test was skipped, also if it was so the night before."""
    code = 0 if verdict == "SKIP" else 3
    none = results(
        cell("6.1-auto", verdict, open=verdict), cell("7.3-auto", verdict, open=verdict), code=code
    )
    good = results(cell("6.1-auto", "PASS", open="PASS"), cell("7.3-auto", "PASS", open="PASS"))
    assert "nothing" in found(none, good)
    assert "nothing" in found(none, none)


def test_a_night_without_cells_or_jobs_is_found() -> None:
    assert found(results(), None) == ["run", "nothing"]
    assert found(results(code=4), None) == ["nothing"]
    assert [one.key for one in nightly.findings(nightly.Night({}, GOOD), GOOD)] == ["jobs"]


def test_a_cell_or_test_that_is_no_longer_planned_is_found() -> None:
    """One row for a cell, and one for a test of any number of cells."""
    both = {"open": "PASS", "read": "PASS"}
    before = results(*(cell(f"{n}-auto", "PASS", **both) for n in range(6)))
    now = results(*(cell(f"{n}-auto", "PASS", open="PASS") for n in range(5)))
    rows = nightly.findings(nightly.Night(FINE, now), before)
    assert [one.key for one in rows] == ["5-auto gone", "truth.read gone"]
    assert rows[1].text == "`truth.read` is no longer planned in `0-auto, 1-auto, 2-auto` and 2 more"
    assert nightly.findings(nightly.Night(FINE, before), now) == []


def test_a_cell_that_newly_skips_most_of_its_tests_is_found() -> None:
    """Half of them is no finding: a test may need a fast CPU. Tests that were skipped before do not count."""
    other = cell("7.3-auto", "PASS", open="PASS")
    before = cell("6.1-auto", "PASS", a="PASS", b="XFAIL", c="SKIP", d="SKIP")
    half = cell("6.1-auto", "PASS", a="PASS", b="SKIP", c="SKIP", d="SKIP")
    whole = cell("6.1-auto", "SKIP", a="SKIP", b="SKIP", c="SKIP", d="SKIP")
    assert found(results(half, other), results(before, other)) == []
    assert found(results(whole, other), results(before, other)) == ["6.1-auto SKIP"]
    assert found(results(whole, other), results(whole, other)) == []


DAMAGED = {
    "empty": {},
    "no cells": {"run": {"exit_code": 0}},
    "verdict": results(cell("6.1-auto", "GOOD", open="PASS")),
    "verdict of a test": results(cell("6.1-auto", "PASS", open="GOOD")),
    "exit code": results(cell("6.1-auto", "PASS", open="PASS"), code=7),
    "exit code of another type": GOOD | {"run": {"exit_code": False}},
    "run": GOOD | {"run": None},
    "cells": GOOD | {"cells": [None]},
    "id": results(cell("6.1-auto", "PASS", open="PASS") | {"id": 5}),
    "tests": results(cell("6.1-auto", "PASS") | {"tests": None}),
    "schema": GOOD | {"schema": 2},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_results_are_found(content: dict[str, Any]) -> None:
    """As any night without results; a damaged night before does not change how this night is judged."""
    night = nightly.Night(FINE | {"report": "failure"}, content)
    rows = nightly.findings(night, GOOD)
    assert [one.key for one in rows] == ["job report", "results"]
    assert rows[1].text.startswith("results.json is damaged: ")
    assert found(GOOD, content) == []
    lost = results(cell("6.1-auto", "INFRA", open="INFRA"), cell("7.3-auto", "PASS", open="PASS"), code=3)
    assert found(lost, content) == ["6.1-auto INFRA"]


def test_a_job_that_is_skipped_for_no_failure_is_found() -> None:
    """Each job of the nightly runs unless one that it needs failed."""
    assert found(GOOD, GOOD, report="skipped") == ["job report"]
    assert found(GOOD, GOOD, plan="failure", report="skipped") == ["job plan"]


def test_verdicts_explain_as_many_failed_shards_as_there_are_cells() -> None:
    """A cell belongs to one shard; a shard that was ended failed for another reason than its cells."""
    lost = results(cell("6.1-auto", "INFRA", open="INFRA"), cell("7.3-auto", "PASS", open="PASS"), code=3)
    one = {"shard (1/2)": "failure", "report": "failure"}
    assert [row.key for row in nightly.findings(nightly.Night(FINE | one, lost), GOOD)] == []
    both = one | {"shard (2/2)": "failure"}
    keys = [row.key for row in nightly.findings(nightly.Night(FINE | both, lost), GOOD)]
    assert keys == ["job shard (1/2)", "job shard (2/2)"]
    ended = one | {"shard (1/2)": "timed_out"}
    keys = [row.key for row in nightly.findings(nightly.Night(FINE | ended, lost), GOOD)]
    assert keys == ["job shard (1/2)"]


def test_a_missing_shard_is_found() -> None:
    """A shard without results is no pass."""
    absent = results(
        cell("6.1-auto", "NOT_RUN", open="NOT_RUN"), cell("7.3-auto", "PASS", open="PASS"), code=4
    )
    assert found(absent, GOOD) == ["6.1-auto NOT_RUN"]


def test_a_cell_that_failed_outside_of_its_tests_is_found() -> None:
    left = results(cell("6.1-auto", "FAIL", open="PASS"), code=1)
    assert found(left, GOOD) == ["6.1-auto FAIL"]
    left = results(cell("6.1-auto", "CRASH", open="FLAKY"), code=1)
    assert found(left, GOOD) == ["6.1-auto CRASH", "6.1-auto truth.open FLAKY"]


def test_a_run_that_fails_for_no_cell_is_found() -> None:
    """For example because no cell could run a scenario."""
    unused = GOOD | {"run": {"exit_code": 1, "notes": ["doors.mmap: no cell ran it"]}}
    assert found(unused, GOOD) == ["run"]


@pytest.mark.parametrize("job", ["plan", "suite (mutants)", "suite (faults)"])
@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out"])
def test_a_job_that_fails_is_found(job: str, conclusion: str) -> None:
    """A lock that could not be written, a mutant that survived, a fault in the wrong class."""
    night = nightly.Night(FINE | {job: conclusion}, GOOD)
    assert [one.key for one in nightly.findings(night, GOOD)] == [f"job {job}"]


def test_differences_of_the_law_are_found_by_kind() -> None:
    """The job that exits 1 because of them is no further finding; without a log it is one."""
    jobs = FINE | {
        "law (6.1)": "failure",
        "law (rules)": "failure",
        "law (7.3)": "failure",
        "law (5.10)": "success",
    }
    night = nightly.Night(jobs, GOOD, law={"6.1": {"filter open": 3}, "rules": {"value": 1}, "5.10": {}})
    assert [one.key for one in nightly.findings(night, GOOD)] == [
        "job law (7.3)",
        "law 6.1: filter open",
        "law rules: value",
    ]


def test_a_campaign_that_was_cut_off_is_found_beside_its_differences() -> None:
    night = nightly.Night(FINE | {"law (6.1)": "timed_out"}, GOOD, law={"6.1": {"filter open": 3}})
    assert [one.key for one in nightly.findings(night, GOOD)] == ["job law (6.1)", "law 6.1: filter open"]


def test_missing_results_are_found() -> None:
    assert found(None, GOOD, report="failure") == ["job report", "results"]


def test_a_shard_is_a_finding_only_without_a_verdict() -> None:
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    shard = {"shard (1/2)": "failure"}
    assert [one.key for one in nightly.findings(nightly.Night(FINE | shard, bad), GOOD)] == [
        "6.1-auto truth.open FAIL"
    ]
    assert [one.key for one in nightly.findings(nightly.Night(FINE | shard, GOOD), GOOD)] == [
        "job shard (1/2)"
    ]


def test_a_night_that_does_not_compare_is_found_once_and_with_the_reason() -> None:
    """`harness compare` then exits 4, which fails the job `report`."""
    night = nightly.Night(FINE | {"report": "failure"}, GOOD, "60 of 97 tests of the old run are gone")
    (one,) = nightly.findings(night, GOOD)
    assert one.key == "comparison"
    assert "60 of 97 tests of the old run are gone" in one.text
    other = nightly.Night(FINE | {"report": "failure", "shard (1/2)": "failure"}, GOOD, "other tests")
    assert [one.key for one in nightly.findings(other, GOOD)] == ["job shard (1/2)", "comparison"]


def test_a_run_that_failed_as_a_whole_is_found_with_its_notes() -> None:
    """No cell shows the reason, and the comparison does not have the notes."""
    bad = results(cell("6.1-auto", "PASS", open="PASS"), code=1)
    bad["run"]["notes"] = ["hook set lsm: no cell exercised it"]
    night = nightly.Night(FINE | {"report": "failure"}, bad, "the new run has exit code 1")
    rows = nightly.findings(night, GOOD)
    assert [one.key for one in rows] == ["run", "comparison"]
    assert "hook set lsm: no cell exercised it" in rows[0].text


def test_text_of_a_guest_stays_text() -> None:
    """No backtick ends the code span, no line break starts a heading, and GitHub's limit is kept."""
    rows = [cell(f"c{n}", "FAIL", **{f"t`{n}": "FAIL"}) for n in range(300)]
    for row in rows:
        row["tests"][0]["reason"] = "`@everyone`\n# heading" + "x" * 900
    found = nightly.findings(nightly.Night(FINE, results(*rows, code=1)), None)
    text = nightly.body(found, [], "https://example/1", "")
    assert len(text) <= 65_536
    assert "\n# heading" not in text
    assert "`@everyone`" not in text
    assert "and 200 more" in text
