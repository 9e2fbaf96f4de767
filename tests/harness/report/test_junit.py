"""junit.xml keeps to what CI systems read: the elements and attributes of Jenkins' schema, junit-10.xsd.

The table below is what that schema asks of the elements that are written here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import TestSuite

from harness.report import junit
from harness.results.model import Results
from tests.harness.report.made_up import every_verdict
from tests.harness.report.test_html import HOSTILE, hostile_run

TIME = re.compile(r"[0-9]+(\.[0-9]*)?")  # of `SUREFIRE_TIME`, without groups of thousands


class Shape(NamedTuple):
    """Required attributes, optional attributes, child elements, and whether text is allowed."""

    must: str
    may: str
    within: str
    text: bool = False


SHAPES = {
    "testsuites": Shape("", "name time tests failures errors", "testsuite"),
    "testsuite": Shape(
        "name tests failures errors",
        "group time skipped timestamp hostname id package file log url",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": Shape("", "", "property"),
    "property": Shape("name value", "", ""),
    "testcase": Shape("name", "time classname group", "skipped error failure system-out system-err"),
    "skipped": Shape("", "type message", "", text=True),
    "error": Shape("", "type message", "", text=True),
    "failure": Shape("", "type message", "", text=True),
    "system-out": Shape("", "", "", text=True),
    "system-err": Shape("", "", "", text=True),
}


def wrong(element: ET.Element) -> list[str]:
    """Return each violation of the schema as a line."""
    shape = SHAPES[element.tag]
    names = set(element.attrib)
    found = [f"{element.tag}: no {name}" for name in set(shape.must.split()) - names]
    found += [f"{element.tag}: {name}" for name in names - set(f"{shape.must} {shape.may}".split())]
    if not TIME.fullmatch(element.get("time", "0")):
        found.append(f"{element.tag}: time {element.get('time')}")
    if not shape.text and (element.text or "").strip():
        found.append(f"{element.tag}: text")
    for child in element:
        found += wrong(child) if child.tag in shape.within.split() else [f"{element.tag}: {child.tag} in it"]
    return found


def read(found: Results) -> ET.Element:
    return ET.fromstring(junit.render(found).encode())


def test_a_failed_command_shows_what_it_printed(tmp_path: Path) -> None:
    """A failure has the last whole lines of the output, a pass has none; no link is followed."""
    found = every_verdict()
    for number, cell in enumerate(found.cells):
        folder = tmp_path / "cells" / cell.id
        folder.mkdir(parents=True)
        (folder / "command.log").write_text(f"first\n{'x' * 70}\n" * 500 + f"last of {number} \x1b[2J\n")
    cases = ET.fromstring(junit.render(found, tmp_path)).findall("testsuite/testcase")
    for case in cases:
        bad = case.find("failure") is not None or case.find("error") is not None
        output = case.findtext("system-out") or ""
        assert ("last of" in output and "bytes before this are in command.log" in output) == bad
        assert len(output) < 10_000
        assert "\x1b" not in output
    (folder / "command.log").unlink()
    (folder / "command.log").symlink_to("/etc/passwd")
    assert "root:" not in junit.render(found, tmp_path)


def test_a_run_with_every_verdict_is_valid() -> None:
    root = read(every_verdict())
    assert root.tag == "testsuites"
    assert wrong(root) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_leaves_it_valid(text: str) -> None:
    assert wrong(read(hostile_run(text))) == []


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_leaves_it_valid(text: str) -> None:
    assert wrong(read(hostile_run(text or "nothing"))) == []


def test_a_suite_names_its_kernel_and_hook_set() -> None:
    suite = next(iter(read(every_verdict()).iter("testsuite")))
    properties = {row.get("name"): row.get("value") for row in suite.iter("property")}
    assert properties["kernel"] == "5.10"
    assert properties["hookset"] == "auto"
    assert str(properties["release"]).startswith("5.10.0-")


def test_attempts_are_reported() -> None:
    """A test that passed the second time has the output of the first attempt."""
    outputs = [row.text or "" for row in read(every_verdict()).iter("system-out")]
    assert any("attempt 1: FAIL 4 of 25,000" in text and "attempt 2: PASS" in text for text in outputs)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('<testsuites skipped="1"/>', "testsuites: skipped"),
        ('<testsuites><testsuite name="a" tests="1" failures="0"/></testsuites>', "testsuite: no errors"),
        ('<testsuites time="1e-05"/>', "testsuites: time 1e-05"),
        ("<testsuites><testcase/></testsuites>", "testsuites: testcase in it"),
    ],
)
def test_invalid_xml_is_found(text: str, error: str) -> None:
    """The check itself can fail."""
    assert wrong(ET.fromstring(text)) == [error]


def test_cells_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library compares a suite with all others, which took two thirds of the time for 1,000 cells."""
    monkeypatch.setattr(TestSuite, "__eq__", None)
    assert junit.render(every_verdict()).count("<testsuite ") == 15
