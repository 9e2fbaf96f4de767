"""Entries of the corpus as cases: earlier findings, played again in the arena."""

from __future__ import annotations

import yaml

from agent.selftest import corpus
from tests import ROOT
from tests.campaigns.law.case import Case
from tests.campaigns.law.policies import WRITE, Rule
from tests.campaigns.law.programs import SETUP, Program
from tests.campaigns.law.steps import parse
from tests.campaigns.law.world import World

BASE = "/w/tmp"


def case(name: str) -> Case:
    """Return an entry on a tmpfs of the first world. Raises KeyError for an incomplete entry."""
    entry = corpus.load(name, BASE)
    rules = tuple(Rule(id_, _kind(text), text) for id_, text in entry.rules.items())
    programs = (Program(SETUP, parse(entry.setup)), Program(name, parse(entry.script)))
    return Case(World.from_seed(1), rules, programs)


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
