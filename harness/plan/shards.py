"""Divides a plan among hosts: no machine is split, and every shard takes about as long.

Sharding depends only on the plan and on the times beside the matrix, so every host with the same files
computes the same shards. What a host remembers of its own runs is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import ConfigError, IncompleteError
from harness.plan.cost import longest_first, machine_seconds
from harness.plan.plan import Omitted, Plan
from harness.text import counted

ELSEWHERE = "in another shard"  # why a shard leaves a cell out
_SHARD = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})", re.ASCII)


def number(word: str) -> int:
    """The number of shards that `word` asks for. Raises ValueError."""
    if not (match := _SHARD.fullmatch(f"1/{word}")):
        raise ValueError(f"invalid number of shards {word!r} (use 1 to 9999)")
    return int(match[2])


def split(plan: Plan, parts: int, known: Mapping[str, float]) -> list[Plan]:
    """The plan in `parts` shards, each in plan order. Some are empty if the plan has fewer machines.

    `known` has the seconds of cells and tests, see `harness.plan.cost`; {} means that none is known.
    """
    machines = plan.machines()
    cost = [0.0] * parts
    chosen: list[set[str]] = [set() for _ in range(parts)]
    for name in longest_first(plan, known):
        lightest = cost.index(min(cost))
        chosen[lightest].add(name)
        cost[lightest] += machine_seconds(machines[name], known)
    return [_only(plan, names) for names in chosen]


def part(plan: Plan, shard: str, known: Mapping[str, float]) -> Plan:
    """The shard named `shard`, such as "2/3". Raises ConfigError for an invalid name or an empty shard."""
    match = _SHARD.fullmatch(shard)
    if not match or int(match[1]) > int(match[2]):
        raise ConfigError(f"--shard {shard}: invalid shard", hint="use --shard 2/3 for the second of three")
    chosen = split(plan, int(match[2]), known)[int(match[1]) - 1]
    if not chosen.cells:
        raise ConfigError(
            f"--shard {shard}: the shard is empty: the plan has {counted(len(plan.machines()), 'machine')}",
            hint=f"list the shards with `harness plan --shards {match[2]}`",
        )
    return chosen.model_copy(update={"shard": shard})


def _only(plan: Plan, machines: set[str]) -> Plan:
    cells = tuple(cell for cell in plan.cells if cell.machine in machines)
    others = (cell for cell in plan.cells if cell.machine not in machines)
    omitted = (*plan.omitted, *(Omitted(id=cell.id, reason=ELSEWHERE) for cell in others))
    return plan.model_copy(update={"cells": cells, "omitted": omitted})


def _check_selected(parts: Mapping[str, Plan]) -> None:
    """Raise IncompleteError if not all shards have the tests that they have by one selection."""
    hint = "run all shards with the same --kernel, --hookset, --test, --arch and --tag, and without -k"
    requiring = {plan.exercise: folder for folder, plan in parts.items()}
    smaller = [folder for folder, plan in parts.items() if plan.narrower]
    if len(requiring) > 1:  # plans of an older harness do not say that they are narrower
        smaller.append(requiring[min(requiring)])
    if smaller:
        raise IncompleteError(f"{smaller[0]}: not all tests of that shard were selected", hint=hint)
    selected = {_selection(plan): folder for folder, plan in parts.items()}
    if len(selected) > 1:
        raise IncompleteError(f"shards of different selections: {' and '.join(selected.values())}", hint=hint)


def _selection(plan: Plan) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(words) for _option, words in plan.selectors)


def absent(parts: Mapping[str, Plan]) -> list[str]:
    """A line for each cell, or each shard, that is in none of `parts`, plans by folder.

    Raises IncompleteError for shards of runs that were divided or selected differently, and for one that the
    user made smaller, by -k for example.
    """
    folders = {plan.shard: folder for folder, plan in parts.items() if plan.shard}
    totals = {shard.partition("/")[2]: f"{folder} is {shard}" for shard, folder in folders.items()}
    if len(totals) > 1:
        raise IncompleteError(
            f"shards of different divisions: {' and '.join(totals.values())}",
            hint="run all shards with one N of --shard I/N",
        )
    _check_selected({folder: plan for folder, plan in parts.items() if plan.shard})
    here = {cell.id for plan in parts.values() for cell in plan.cells}
    omitted = [entry for plan in parts.values() for entry in plan.omitted if entry.reason == ELSEWHERE]
    if omitted:
        lost = dict.fromkeys(entry.id for entry in omitted if entry.id not in here)
        return [f"{name}: in another shard, and in none of these" for name in lost]
    # Plans of an older harness do not list the cells of other shards.
    return [
        f"shard {index}/{total}: not among these folders"
        for total in totals
        for index in range(1, int(total) + 1)
        if f"{index}/{total}" not in folders
    ]
