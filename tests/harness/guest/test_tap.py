"""TAP by the rules of its specification: versions 13 and 14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest import tap


def _judged(text: str) -> tuple[str, str]:
    report = tap.judge(text)
    return report.verdict, report.reason


@pytest.mark.parametrize(
    "text",
    [
        "1..2\nok 1\nok 2\n",
        "TAP version 14\nok 1 - a\nok - b\n1..2\n",
        "1..3\r\nok 2\r\nok 3\r\nok 1\r\n",
        "1..2\nok 1\nnot ok 2 # TODO later\n",
        "1..2\nok 1\nok 2 # SKIP no hook\n",
        "1..1 # of many\nok 1 not skipped: https://example.org/page#skip\n",
        "noise\n1..1\n# a comment\nokay\npragma +strict\nok 1\n",
        "1..1\nok 1 - a\n  ---\n  Bail out! is only data\n  not ok: 1\n  ...\n",
        "# Subtest: a\n    1..1\n    not ok 1 - x # TODO y\nok 1 - a\n1..1\n",
        "1..1\nok 1 # TODO works by now\n",
    ],
)
def test_output_that_passes(text: str) -> None:
    assert _judged(text) == ("PASS", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1..0 # SKIP no hardware\n", "no hardware"),
        ("1..0 # Skipped: no hardware\n", "no hardware"),
        ("1..0 # no hardware\n", "no hardware"),
        ("1..0 # SKIP\n", "no reason given"),
        ("1..1\nok 1 # SKIP nope\n", "nope"),
        ("1..3\nok 1 # skip a\nok 2 # SkIp b\nnot ok 3 # skip a\n", "a; b"),
        ("1..2\nok 1 # skip a\nnot ok 2 - x # TODO later\n", "a; todo: later"),
    ],
)
def test_output_that_is_a_skip(text: str, reason: str) -> None:
    """A suite in which no point passed has proved nothing, so it is no PASS."""
    assert _judged(text) == ("SKIP", reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1..0\n", "nothing was tested: the TAP plan is 1..0 and gives no reason"),
        ("1..0 # SKIP x\nok 1\n", "test 1 is not in the TAP plan 1..0"),
        ("1..2\nok 1\nok 1\n", "test 1 was reported 2 times, missing of the TAP plan 1..2: test 2"),
        (
            "1..3\nok 1\nok 2\nok 5\n",
            "test 5 is not in the TAP plan 1..3, missing of the TAP plan 1..3: test 3",
        ),
        ("1..1\nok 1\nBail out! gone\n", "Bail out! gone"),
        ("1..9\nok 1\n    BAIL OUT! in a subtest\n", "Bail out! in a subtest"),
        ("Bail out!\n", "Bail out! without a reason"),
        ("1..2\nok 1\n", "missing of the TAP plan 1..2: test 2"),
        ("1..1000000\nok 1\n", "missing of the TAP plan 1..1000000: test 2, 3, 4, 5, 6 and 999994 more"),
        ("ok 1\n", "no TAP plan"),
        ("", "no TAP plan"),
        ("1..1\nok 1\n1..1\n", "more than one TAP plan"),
        ("ok 1\n1..2\nok 2\n", "the TAP plan is between test points"),
        ("1..2\nok 1\nnot ok 2 - counts\n", "not ok: counts"),
        ("1..1\nnot ok 1 - a \\\\\\# SKIP\n", "not ok: a \\# SKIP"),
        ("1..1\nnot ok 1 - a # because # TODO\n", "not ok: a # because # TODO"),
        ("1..1\nnot ok 1 - see page#todo\n", "not ok: see page#todo"),
        ("1..1\nok 1 - a\n  ---\nnot ok 2 - behind an open block\n", "test 2 is not in the TAP plan 1..1"),
        ("1..2\nok 1 - a\u2028ok 2\n", "missing of the TAP plan 1..2: test 2"),
        ("\ufeffnot ok 1\n1..1\nok 1\n", "the TAP plan is between test points, test 1 was reported"),
        ("1..2\nok 1\nnot ok 2 - fix # todoist\n", "not ok: fix # todoist"),
    ],
)
def test_output_that_fails(text: str, reason: str) -> None:
    """The reason names what is missing, or repeats the program's reason."""
    verdict, found = _judged(text)
    assert verdict == "FAIL"
    assert found.startswith(reason)


def test_a_backslash_before_a_directive_is_no_escape_of_it() -> None:
    """An escaped backslash does not escape what follows it."""
    (point,) = tap.read(["ok 5 - hello \\\\# todo hash \\# character"]).points
    assert (point.description, point.directive, point.reason) == ("hello \\", "todo", "hash # character")


def test_rows_are_bounded_and_failures_come_first() -> None:
    """A suite of a million points does not fill results.json, and its failures are in the file."""
    text = "".join(f"ok {number}\n" for number in range(1, 2000)) + "not ok 2000 - last\n1..2000\n"
    report = tap.judge(text)
    assert len(report.rows) == tap.MAX_ROWS + 1
    assert report.rows[0] == {"name": "last", "ok": False}
    assert report.rows[-1]["got"] == 2000


LINES = st.sampled_from(
    ["1..1", "1..2", "1..0", "ok 1", "not ok 2", "ok", "  ---", "  ...", "Bail out!", "ok 1 # SKIP", "x"]
)


@given(st.lists(LINES, max_size=12))
def test_a_pass_needs_a_point_that_passed(lines: list[str]) -> None:
    """Every planned number occurs once, none failed, and at least one was not skipped."""
    report = tap.judge("\n".join(lines))
    if report.verdict == "PASS":
        points = [line for line in lines if line.startswith(("ok", "not ok"))]
        assert "Bail out!" not in lines
        assert any(line in ("ok", "ok 1") for line in points)
        assert all(row["ok"] for row in report.rows)
    else:
        assert report.reason
