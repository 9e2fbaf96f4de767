"""Entries of the corpus: earlier findings as cases for the arena, and a shrunk case as a new entry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import yaml

from agent.selftest import corpus
from tests import ROOT
from tests.campaigns.law.case import Case
from tests.campaigns.law.judge import Difference
from tests.campaigns.law.played import Record
from tests.campaigns.law.policies import WRITE, Rule
from tests.campaigns.law.programs import SETUP, Program
from tests.campaigns.law.steps import parse, render
from tests.campaigns.law.world import World

BASE = "/w/tmp"


def case(name: str) -> Case:
    """Return an entry on a tmpfs of the first world. Raises KeyError for an incomplete entry."""
    entry = corpus.load(name, BASE)
    rules = tuple(Rule(id_, _kind(text), text) for id_, text in entry.rules.items())
    programs = (Program(SETUP, parse(entry.setup)), Program(name, parse(entry.script)))
    return Case(World.from_seed(1), rules, programs)


def draft(case: Case, found: Difference, records: Sequence[Record]) -> str | None:
    """Return a shrunk case as the text of an entry, for a missing match; `records` are those of its play.

    None if an entry cannot have it: more than one program beside the set-up, a reload, or paths outside of
    the place where the match is missing.
    """
    key, programs = found.key, [one for one in case.programs if not one.makes]
    if key is None or key.path is None or case.reload is not None or len(programs) != 1:
        return None
    path = key.path
    inside = [one.path for one in case.world.places if path.startswith(f"{one.path}/")]
    if not inside:
        return None
    data = {
        "difference": str(found.kind),
        "kernels": ["5.10", "6.1", "7.3"],
        "rules": {rule.id: rule.expression for rule in case.rules},
        "setup": render(step for one in case.programs if one.makes for step in one.steps),
        "script": render(programs[0].steps),
        "refused": _refused(case, programs[0], records),
        "arrives": {key.rule: {"type": key.type, "path": path, "retval": key.retval}},
    }
    base = max(inside, key=len)
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)
    text = re.sub(rf"{re.escape(base)}(?![\w.])", "{base}", text)
    others = (one.path for one in case.world.places)
    return None if any(re.search(rf"{re.escape(one)}(?![\w.])", text) for one in others) else text


def _refused(case: Case, program: Program, records: Iterable[Record]) -> dict[str, int]:
    """Return the refusals of a program's lines in the form of `Outcome.failures`."""
    first = case.script.splitlines().index(f"program {program.name}") + 1
    return {
        f"{one.call}:{one.line - first} errno {-one.ret}": 1
        for one in records
        if one.program == program.name and one.ret < 0 and one.call != "look"
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def known() -> frozenset[tuple[str, ...]]:
    """The kinds, as `Kind.coarse`, of the entries whose failure is expected.

    What is reported by another path can be missing for one rule, and be too much for another.
    """
    expected = yaml.safe_load((ROOT / "expectations.yaml").read_text())["expected_failures"] or ()
    tests = {entry["test"] for entry in expected}
    kinds = [
        kind.split()
        for name in corpus.names()
        if f"law.{name}" in tests
        for kind in corpus.load(name, BASE).difference.split(",")
    ]
    return frozenset(
        (check, lacks, event, words[-1])
        for _, lacks, event, *words in kinds
        for check in ("path", "missing", "extra")
    )


def _kind(expression: str) -> str:
    return WRITE if expression.startswith(f"{WRITE}.") else expression.partition(".")[0]
