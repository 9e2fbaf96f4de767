"""Rules for the code of all scenarios, checked on its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from agent.selftest import scenarios
from agent.selftest.catalogue import CATALOGUE, Scenario

FAMILIES = sorted({scenario.family for scenario in CATALOGUE})
# Those of shapes.* only load programs and attach none, so that no event can arrive.
PLAYED = [scenario for scenario in CATALOGUE if scenario.family != "shapes"]
FOLDER = Path(scenarios.__file__).parent

# Endings of names of numbers that are no counts: times, sizes, and numbers that the kernel defines.
MEASURES: tuple[str, ...] = (
    "LONGEST",
    "_S",
    "_NS",
    "_BYTES",
    "SECONDS",
    "REPORTED",
    "FULL_NAME",
    "STATUS",
    "HELD",
    "_WORKERS",
    "_FLAG",
    "LAYERS",
    "COMPONENTS",
    "NOBODY",
    "ATTEMPTS",
    "MOST_CPUS",
    "DEEP",
    "COPIED",
    "AUID",
    "LOGIN",
    "USER",
)

# Names in an assertion that stand for events that arrived.
ARRIVALS = {"matches", "of", "arrives_once", "counts", "judged"}


def functions(family: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((FOLDER / f"{family}.py").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def body(scenario: Scenario) -> list[ast.FunctionDef]:
    """The scenario's function and all functions of its module that it uses."""
    known = functions(scenario.family)
    found: dict[str, ast.FunctionDef] = {}
    pending = [scenario.name.replace(".", "_")]
    while pending:
        name = pending.pop()
        if name in known and name not in found:
            found[name] = known[name]
            pending += [node.id for node in ast.walk(known[name]) if isinstance(node, ast.Name)]
    return list(found.values())


def calls(scenario: Scenario) -> Iterator[ast.Call]:
    for function in body(scenario):
        yield from (node for node in ast.walk(function) if isinstance(node, ast.Call))


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def asserted(scenario: Scenario) -> Iterator[ast.Call]:
    return (node for node in calls(scenario) if called(node) in ("equal", "record") and len(node.args) > 2)


def claims_absence(node: ast.Call) -> bool:
    """Return whether a scenario expects no event, or events that did not arrive."""
    expected = node.args[1]
    return isinstance(expected, ast.Constant) and expected.value == 0


def prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))


@pytest.mark.parametrize("scenario", PLAYED, ids=lambda scenario: scenario.name)
def test_scripts_are_played_between_sentinels(scenario: Scenario) -> None:
    """`Bench.play` plays one before and one after."""
    assert "play" in {called(node) for node in calls(scenario)}


@pytest.mark.parametrize("scenario", PLAYED, ids=lambda scenario: scenario.name)
def test_each_scenario_expects_an_event(scenario: Scenario) -> None:
    """The absence of events proves nothing without a control that arrives."""
    words = {called(node) for node in calls(scenario)}
    read = {node.attr for one in body(scenario) for node in ast.walk(one) if isinstance(node, ast.Attribute)}
    assert (words | read) & ARRIVALS
    controls = [node for node in asserted(scenario) if not claims_absence(node)]
    assert controls or "arrives_once" in words


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_primes(family: str) -> None:
    """With prime numbers two losses do not add up to a round number, and no factor hides a repetition."""
    module = import_module(f"agent.selftest.scenarios.{family}")
    counts = {
        name: value
        for name, one in vars(module).items()
        if name.isupper() and not name.endswith(MEASURES)
        for value in (one if isinstance(one, tuple) else (one,))
        if type(value) is int
    }
    assert {name: value for name, value in counts.items() if not prime(value)} == {}


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_no_scenario_sleeps(scenario: Scenario) -> None:
    """Only one function sleeps, and it checks a condition until a deadline."""
    sleeps = [node for node in calls(scenario) if called(node) == "sleep"]
    assert not sleeps or "_until" in {function.name for function in body(scenario)}


def test_each_scenario_without_loss_has_one_that_must_lose() -> None:
    """The same load with a ring buffer that is too small must lose events and count them."""
    twins = [scenario for scenario in CATALOGUE if scenario.ring_bytes]
    assert [scenario.name for scenario in twins] == ["loss.small_ring", "loss.stopped_small", "fairness.ring"]
    for scenario in twins:
        words = [ast.unparse(node) for node in asserted(scenario)]
        assert any("is lost" in text for text in words)
        assert any("ring_full" in text for text in words)
