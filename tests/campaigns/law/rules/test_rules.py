"""A small part of the rule fuzzer with fixed seeds, its corpus, and faults that it must find."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.filters import wants
from agent.filters.discarders import Known
from agent.rules import check, engine, load, matching, regex, tree
from agent.rules.engine import Ruleset
from agent.rules.problems import Problem
from tests.campaigns.law.rules import __main__ as program
from tests.campaigns.law.rules import cases, evaluation, filters, minimise, mutations

CORPUS: list[dict[str, Any]] = yaml.load(
    Path(__file__).with_name("corpus.yaml").read_text(encoding="utf-8"), Loader=yaml.SafeLoader
)


def test_fixed_seeds_have_no_difference() -> None:
    """About ten thousand pairs, a few universes and policies; all kinds of answers occur."""
    counts: Counter[str] = Counter()
    found = [each for at in range(10) for each in evaluation.batch(f"fixed:{at}", counts)]
    found += [each for at in range(15) for each in filters.universe(f"fixed:{at}", counts)]
    found += [each for at in range(40) for each in mutations.files(f"fixed:{at}", counts)]
    assert found == []
    shares = [counts[name] for name in ("matches", "no matches", "refused", "discards", "policies that load")]
    assert min(shares) > 0
    assert counts["matches"] + counts["no matches"] > 5_000


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry["expression"][:60])
def test_corpus(entry: dict[str, Any]) -> None:
    """The engine gives the answer of the entry; the page gives the same or leaves it open."""
    text, event, expected = entry["expression"], entry["event"], entry["expect"]
    engine = cases.by_engine(text, event)
    page = cases.by_page(text, cases.naive_facts(event))
    assert (cases.REFUSED if isinstance(engine, str) else engine) == expected
    assert (page.split(":")[0] if isinstance(page, str) else page) == entry.get("page", expected)


def test_the_files_of_the_mutations_load() -> None:
    """Without a mutation no file is refused."""
    files = [(name, (mutations.FOLDER / name).read_bytes()) for name in mutations.NAMES]
    assert load.link(files, mutations.FACTS).rules


def _one_item(condition: tree.Any) -> wants.Wants:
    return wants.wants(condition.items[0])


def _names_below(self: Known, leaf: tree.Condition) -> bool | None:
    if isinstance(leaf, tree.Match) and leaf.field.role == f"{self.slot}.name":
        return leaf.matcher.matches(self.path.rpartition(b"/")[2])
    return ASK(self, leaf)


def _crossing(pattern: bytes, *, path: bool) -> regex.Tree:
    return GLOB(pattern, path=False)


def _opposite(condition: tree.Condition) -> tree.Condition:
    return tree.Not(condition) if not isinstance(condition, tree.Compare) else condition


ASK, GLOB = Known.ask, regex.glob
FAULTS = {
    "a glob crosses components": (regex, "glob", _crossing, evaluation.batch),
    "an inverted comparison is not inverted": (check, "_invert", _opposite, evaluation.batch),
    "the order of numbers is lost": (check, "_MIRROR", {}, evaluation.batch),
    "a truncated path is compared as it is": (engine, "is_truncated", lambda _: False, evaluation.batch),
    "one operand of || gives the approvers": (wants, "_any", _one_item, filters.universe),
    "a name is judged for a directory": (Known, "ask", _names_below, filters.universe),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in each layer shows within a hundred rounds."""
    owner, attribute, value, rounds = FAULTS[name]
    monkeypatch.setattr(owner, attribute, value)
    monkeypatch.setattr(evaluation, "shrunk", lambda each: each)
    monkeypatch.setattr(filters, "_shrunk", lambda each, *_: each)
    matching._cached.cache_clear()
    found = next((each for at in range(100) for each in rounds(f"planted:{at}", Counter())), None)
    assert found is not None


def test_the_program_writes_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each difference, then the summary; it ends with 1 if there are differences."""
    monkeypatch.setattr(program, "limit_memory", lambda: None)
    difference = cases.Difference("value", "open.retval == 1", {"type": "open"}, "True", "False")

    def batch(_seed: str, counts: Counter[str]) -> list[cases.Difference]:
        counts["matches"] += 10
        return [difference]

    monkeypatch.setattr(program, "ROUNDS", {"batch": batch})
    monkeypatch.setattr(program, "TIMES", {"batch": 2})
    log = tmp_path / "log"
    assert program.main(["--pairs", "30", "--seed", "7", "--log", str(log)]) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["expression"] for line in lines[:-1]] == [difference.expression] * 4
    assert lines[-1]["seed"] == "7"
    assert lines[-1]["summary"]["kinds"] == [{"kind": "value", "count": 4}]


def test_a_round_that_no_case_explains_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of many expressions together is reported with the seed of its round."""
    load_one = cases.load

    def fragile(expressions: Sequence[str]) -> tuple[Ruleset | None, dict[int, Problem]]:
        if len(expressions) > 1:
            raise RecursionError("too many rules")
        return load_one(expressions)

    monkeypatch.setattr(cases, "load", fragile)
    monkeypatch.setattr(program, "ROUNDS", {"batch": evaluation.batch})
    monkeypatch.setattr(program, "TIMES", {"batch": 1})
    monkeypatch.setattr(program, "KEPT", 1)
    found, _ = program.campaign("7", 1)
    assert [(each.kind, each.engine, each.seed) for each in found] == [
        ("crash", "RecursionError: too many rules", "7:batch:0")
    ]


def test_a_difference_is_shrunk() -> None:
    """Conditions, tokens, characters and keys of the event that are not needed are removed."""
    text = (
        '(open.retval == 1 || (open.file.name == "abc" and not (open.flags > 0))) && open.file.uid in [1, 2]'
    )
    assert minimise.expression(text, lambda left: "open.flags" in left) == "open.flags"
    assert minimise.sample(
        {"type": "open", "file": {"path": "/a", "uid": 1}}, lambda event: "file" in event
    ) == {
        "type": "open",
        "file": {},
    }
