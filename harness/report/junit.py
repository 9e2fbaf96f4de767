"""junit.xml: a suite a cell, a case a test, for CI systems that show such files."""

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
    """The text of junit.xml; `folder` is the output folder, for what the commands of suites printed."""
    xml = JUnitXml("harness")
    for cell in results.cells:
        xml.add_testsuite(_suite(cell, evidence.output_of(cell, folder)))
    xml.update_statistics()  # type: ignore[no-untyped-call]
    # Jenkins' schema (junit-10.xsd) knows no such attribute of the whole, and refuses the file.
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
    suite.add_testcases([_case(cell, test, output) for test in cell.tests])
    if is_worse_than_tests(cell):
        # JUnit knows no trouble of a suite: it is a case beside the tests.
        beside = TestResult(name="cell", verdict=cell.verdict, reason=cell.reason)
        suite.add_testcases([_case(cell, beside, name="(the cell)")])  # no test has such a name
    return suite


def _case(cell: CellResult, test: TestResult, output: str = "", name: str = "") -> TestCase:
    case = TestCase(name or test.name, classname=cell.id, time=round(test.duration_s, 3))
    case.result = _outcome(test)
    said = []
    if len(test.attempts) > 1:
        said = [f"attempt {n}: {one.verdict} {one.reason}" for n, one in enumerate(test.attempts, 1)]
    if output and not test.verdict.expected:
        said.append(output)
    if said:
        case.system_out = visible("\n".join(said))
    return case


def _outcome(test: TestResult) -> list[FinalResult]:
    reason = visible(test.reason)
    if test.verdict is Verdict.PASS:
        return []
    if test.verdict.expected:
        return [Skipped(reason, test.verdict)]
    kind = Failure if test.verdict.exit_code == 1 else Error
    outcome = kind(reason, test.verdict)
    outcome.text = visible("\n".join(_evidence(test)))
    return [outcome]


def _evidence(test: TestResult) -> list[str]:
    return [
        f"{row.name}: expected {row.expected!r}, got {row.got!r}" for row in test.assertions if not row.ok
    ]
