"""The corpus: the rules of each entry load, and both evaluators match its events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.events.model import Event, EventType, File, FileFlags
from agent.rules import load
from agent.selftest import corpus
from agent.selftest.catalogue import CATALOGUE
from tests.campaigns.law import entries, naive
from tests.campaigns.law.case import Case
from tests.campaigns.law.judge import Difference, Kind
from tests.campaigns.law.played import Record
from tests.campaigns.law.policies import rendered
from tests.campaigns.law.programs import Program
from tests.campaigns.law.truth import Key

NAMES = corpus.names()


def test_each_entry_is_a_scenario() -> None:
    assert [f"law.{name}" for name in NAMES] == sorted(one.name for one in CATALOGUE if one.family == "law")


@pytest.mark.parametrize("name", NAMES)
def test_both_evaluators_match_the_events(name: str) -> None:
    """Neither matches the same event with another path and result."""
    entry = corpus.load(name, "/w/tmp")
    engine = load.loads(rendered(entries.case(name).rules).decode())
    for rule, expected in entry.arrives.items():
        kind, path, retval = expected["type"], expected["path"], expected["retval"]
        for where, ret, wanted in ((path, retval, True), ("/elsewhere", 0, False)):
            fields = {
                f"{kind}.file.path": where,
                f"{kind}.file.name": where.rpartition("/")[2],
                f"{kind}.retval": ret,
            }
            rights, detached = expected.get("rights", 0), expected.get("detached", False)
            fields |= {f"{kind}.file.rights": rights, f"{kind}.file.detached": detached}
            fields[f"{kind}.file.destination.rights"] = expected.get("asked", 0)
            flags = FileFlags.DETACHED if detached else FileFlags.NONE
            file = File(where.encode(), mode=rights, flags=flags)
            event = Event(EventType[kind.upper()], retval=ret, mode=expected.get("asked", 0), file=file)
            assert naive.matches(entry.rules[rule], fields) is wanted
            assert (rule in engine.evaluate(event)) is wanted


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_a_case_to_replay(name: str) -> None:
    """Its script is the same after writing and reading."""
    case = entries.case(name)
    assert Case.from_json(case.to_json()) == case
    assert corpus.load(name, "/w/tmp").script.strip().splitlines()[0] in case.script


def test_a_shrunk_case_becomes_an_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the campaign drafts from an entry's own case has the same rules, script, refusals and events."""
    name = "refused_by_owner"
    case = entries.case(name)
    entry = corpus.load(name, entries.BASE)
    path = entry.arrives["watched"]["path"]
    key = Key(0, "watched", "open", path, None, -13, 10, 10)
    found = Difference(
        Kind("missing", "both", "open", "open", "tmpfs", "plain", "EACCES"), name, "", "", key=key
    )
    words = ("open", path, "O_RDONLY")
    line = case.script.splitlines().index(" ".join(words)) + 1
    refused = Record(name, line, "open", words, 10, 10, 1, 1000, 1000, -13, failed=1)
    drafted = entries.draft(case, found, [refused])
    assert drafted
    assert entries.BASE not in drafted
    (tmp_path / "new.yaml").write_text(drafted)
    monkeypatch.setattr(corpus, "_HERE", tmp_path)
    again = corpus.load("new", entries.BASE)
    assert again.rules == entry.rules
    assert (again.setup, again.script) == (entry.setup, entry.script)
    assert again.refused == entry.refused
    assert again.difference == entry.difference
    assert again.arrives["watched"] == {"type": "open", "path": path, "retval": -13}
    two = replace(case, programs=(*case.programs, Program("other", ())))
    assert entries.draft(two, found, [refused]) is None
