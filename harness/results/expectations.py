"""Applies expectations.yaml, which lists known failures, each with a reason, a link and a last day.

There are two kinds: tests that fail, and complaints of the kernel that the agent does not cause. Expectations
are strict: a test that passes although it is expected to fail is XPASS, and an entry that matches nothing in
a whole run is reported.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from harness.plan import yaml
from harness.plan.cells import Cell, fits
from harness.plan.matrix import Globs, Text, close_to, validate
from harness.results.model import CellReport, Splat, TestResult
from harness.results.verdict import Verdict

NAME = "expectations.yaml"  # beside the matrix
ALL_TESTS = "*"


class When(BaseModel):
    """Facts of a cell, all of which must hold; `since` and `before` bound the kernel's series."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kernel: Globs = ("*",)
    since: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = "0.0"
    before: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = "9999.0"
    arch: Globs = ("*",)
    hookset: Globs = ("*",)
    capability: dict[str, str] = {}

    def holds(self, cell: Cell, report: CellReport) -> bool:
        """Whether the facts hold for `cell`, in which `report` was observed."""
        words = (
            (cell.kernel.name, self.kernel),
            (cell.arch, self.arch),
            (cell.hookset, self.hookset),
        )
        capable = all(report.capabilities.get(name) == state for name, state in self.capability.items())
        series = _version(cell.kernel.series or report.uname)
        ranged = _version(self.since) <= series < _version(self.before)
        return capable and ranged and all(fits(word, globs) for word, globs in words)


class _Known(BaseModel):
    """A fact that is valid up to the day `until`; `when` selects cells."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    when: When = When()
    reason: Text
    link: Text
    until: Annotated[datetime.date, BeforeValidator(str)]


class Expectation(_Known):
    """One known failure."""

    test: Globs

    def matches(self, cell: Cell, report: CellReport, test: str) -> bool:
        """Whether this entry applies to `test` in `cell`."""
        return fits(test, self.test) and self.when.holds(cell, report)


class AllowedSplat(_Known):
    """A complaint of the kernel that does not fail a test or cell.

    `splat` is literal text that is searched in the kernel's line and in the fingerprint.
    """

    splat: Text

    def matches(self, cell: Cell, report: CellReport, splat: Splat) -> bool:
        """Whether this entry applies to `splat` in `cell`."""
        has_text = self.splat in splat.line or self.splat in splat.fingerprint
        return has_text and self.when.holds(cell, report)


class Expectations(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    expected_failures: tuple[Expectation, ...] = ()
    allowed_splats: tuple[AllowedSplat, ...] = ()


def load(path: Path) -> Expectations:
    """Read expectations.yaml; a file that does not exist has no entries. Raises ConfigError."""
    return validate(Expectations, yaml.read(path)) if path.exists() else Expectations()


def apply(
    known: Expectations,
    cell: Cell,
    report: CellReport,
    result: TestResult,
    today: datetime.date,
    *,
    ran: bool = True,
) -> TestResult:
    """The `result` after expectations: a known failure becomes XFAIL; if it passes, XPASS.

    A test that did not run, because its cell was given up, is expected to fail only by an entry for all
    tests: what a single test is known for was not seen.
    """
    for entry in known.expected_failures:
        if entry.matches(cell, report, result.name) and (ran or ALL_TESTS in entry.test):
            return _as_expected(entry, result, today)
    return result


def allowed(known: Expectations, cell: Cell, report: CellReport, splat: Splat, today: datetime.date) -> str:
    """The reason why a complaint of the kernel is allowed in `cell`; "" if it is not allowed today."""
    for entry in known.allowed_splats:
        if today <= entry.until and entry.matches(cell, report, splat):
            return f"{entry.reason} ({entry.link}), until {entry.until}"
    return ""


def unknown(known: Expectations, names: list[str]) -> list[str]:
    """A line for each test of an entry that is not among `names`, which are all tests that exist."""
    return [
        f"expectations.yaml: {glob}: no such test{close_to(glob, names)}"
        for entry in known.expected_failures
        for glob in entry.test
        if not any(fits(name, (glob,)) for name in names)
    ]


def unmatched(known: Expectations, judged: list[tuple[Cell, CellReport, TestResult]]) -> list[str]:
    """A line for each entry that matches nothing in `judged`, which has all tests of a whole run."""
    lines = [
        f"expectations.yaml: {', '.join(entry.test)} ({entry.reason}) matches no test of this run"
        for entry in known.expected_failures
        if not any(entry.matches(cell, report, test.name) for cell, report, test in judged)
    ]
    return lines + [
        f"expectations.yaml: the complaint {entry.splat!r} ({entry.reason}) did not occur in this run"
        for entry in known.allowed_splats
        if not any(
            entry.matches(cell, report, splat)
            for cell, report, test in judged
            for splat in (*report.splats, *test.splats)
        )
    ]


def _as_expected(entry: Expectation, result: TestResult, today: datetime.date) -> TestResult:
    source = f"{entry.reason} ({entry.link})"
    complained = any(not splat.allowed for splat in result.splats)
    if result.verdict is Verdict.PASS:
        change = {"verdict": Verdict.XPASS, "reason": f"passed, but was expected to fail: {source}"}
    elif result.verdict is not Verdict.FAIL:
        return result
    elif complained:  # that is a second failure, which the entry does not know
        change = {"reason": f"the kernel complained, and nothing expects that: {result.reason}"}
    elif today > entry.until:
        change = {"reason": f"{result.reason}; expected only until {entry.until}: {source}"}
    else:
        change = {"verdict": Verdict.XFAIL, "reason": f"{source}: {result.reason}"}
    return result.model_copy(update=change)


def _version(series: str) -> tuple[int, ...]:
    """The first two numbers of a series or release."""
    match = re.match(r"(\d+)\.(\d+)", series, re.ASCII)
    return (int(match[1]), int(match[2])) if match else ()
