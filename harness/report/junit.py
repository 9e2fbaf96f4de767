"""Renders junit.xml for CI systems: a suite for each cell, a case for each test."""

from __future__ import annotations

import io
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from harness.report.shared import evidence
from harness.report.shared.verdicts import is_worse_than_tests
from harness.results.model import CellResult, Results, TestResult
from harness.results.verdict import Verdict
from harness.text import visible


def render(results: Results, folder: Path | None = None) -> str:
    """Return the text of junit.xml; `folder` is the output folder, which has the output of suites."""
    xml = JUnitXml("harness")
    for cell in results.cells:
        # add_testsuite() compares each suite with all before it, and add_testcases() counts twice
        suite = _suite(cell, evidence.output_of(cell, folder))
        xml.append(suite)  # type: ignore[no-untyped-call]
    xml.update_statistics()  # type: ignore[no-untyped-call]
    # Jenkins' schema (junit-10.xsd) has no such attribute for the root, and rejects the file.
    del xml._elem.attrib["skipped"]
    out = io.BytesIO()
    xml.write(out)
    return out.getvalue().decode("utf-8") + "\n"


def _suite(cell: CellResult, output: str) -> TestSuite:
    suite = TestSuite(cell.id)
    facts = {
        "kernel": cell.kernel.name,
        "release": cell.kernel.release,
        "arch": cell.arch,
        "hookset": cell.hookset,
        "btf": cell.btf,
        "transport": cell.transport,
        "verdict": cell.verdict,
        "start": cell.phases.start,
    }
    for name, value in facts.items():
        suite.add_property(name, visible(value))
    cases = [_case(cell, test, output) for test in cell.tests]
    if is_worse_than_tests(cell):
        # JUnit has no verdict of a suite, so the cell's verdict is a case beside the tests.
        own = TestResult(name="cell", verdict=cell.verdict, reason=cell.reason)
        cases.append(_case(cell, own, name="(the cell)"))  # no test has such a name
    suite.extend(cases)  # type: ignore[no-untyped-call]
    return suite


def _case(cell: CellResult, test: TestResult, output: str = "", name: str = "") -> TestCase:
    case = TestCase(name or test.name, classname=cell.id, time=round(test.duration_s, 3))
    if outcome := _outcome(test):
        case.result = outcome
    lines = []
    if len(test.attempts) > 1:
        attempts = enumerate(test.attempts, 1)
        lines = [f"attempt {n}: {attempt.verdict} {attempt.reason}" for n, attempt in attempts]
    if output and not test.verdict.expected:
        lines.append(output)
    if lines:
        case.system_out = visible("\n".join(lines))
    return case


def _outcome(test: TestResult) -> list[FinalResult]:
    reason = visible(test.reason)
    if test.verdict is Verdict.PASS:
        return []
    if test.verdict.expected:
        return [Skipped(reason, test.verdict)]
    kind = Failure if test.verdict.exit_code == 1 else Error
    outcome = kind(reason, test.verdict)
    failed = (row for row in test.assertions if not row.ok)
    outcome.text = visible(
        "\n".join(f"{row.name}: expected {row.expected!r}, got {row.got!r}" for row in failed)
    )
    return [outcome]
