"""Entries of the corpus as cases: earlier findings, played again in the arena."""

from __future__ import annotations

from agent.selftest import corpus
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


def _kind(expression: str) -> str:
    return WRITE if expression.startswith(f"{WRITE}.") else expression.partition(".")[0]
