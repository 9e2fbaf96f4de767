"""Formats variants, durations, counts and values the same way in every report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from harness.results.model import Agent, CellResult

_DEFAULTS = {
    "arch": "amd64",
    "btf": "kernel",
    "transport": "ringbuf",
    "cmdline": "",
    "sysctl": "",
    "world": "",
}
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]")


def agent_name(agent: Agent | None) -> str:
    """Return the digest and the commit of an agent, both short, and whether its tree had changes."""
    if agent is None:
        return "unknown"
    commit = ", ".join(one[:12] for one in agent.commit.split(", ")) or "unknown"
    return f"bundle {agent.bundle[:12]} (commit {commit}{' with changes' if agent.clean is False else ''})"


def variant_key(cell: CellResult) -> tuple[str, ...]:
    """Return what cells of one matrix column share: their properties, and the end of their ids.

    Two cells of a kernel can have equal properties, such as one command line by two names.
    """
    settings = cell.cmdline, cell.sysctl, cell.world
    return cell.hookset, cell.arch, cell.btf, cell.transport, *settings, _end_of_id(cell)


def variants(cells: Iterable[CellResult]) -> dict[str, str]:
    """Return by id the text of `variant_rest`, with a name for cells of two columns that have one text."""
    listed = list(cells)
    ends: dict[tuple[str, str], set[str]] = {}
    for cell in listed:
        ends.setdefault((cell.hookset, variant_rest(cell)), set()).add(_end_of_id(cell))
    return {
        cell.id: f"{rest} ({_end_of_id(cell).removeprefix(f'{cell.hookset}-')})"
        if len(ends[cell.hookset, rest]) > 1
        else rest
        for cell in listed
        for rest in [variant_rest(cell)]
    }


def _end_of_id(cell: CellResult) -> str:
    return cell.id.removeprefix(f"{cell.kernel.name}-")


def variant_rest(cell: CellResult) -> str:
    """Return the properties of a variant, besides its hook set, that are not the default."""
    parts = {
        "arch": cell.arch,
        "btf": f"BTF {cell.btf}",
        "transport": cell.transport,
        "cmdline": cell.cmdline,
        "sysctl": cell.sysctl,
        "world": cell.world,
    }
    return " · ".join(word for name, word in parts.items() if getattr(cell, name) != _DEFAULTS[name])


def anchor(cell_id: str) -> str:
    """Return the HTML id of a cell's panel."""
    return f"cell-{_NOT_IN_AN_ID.sub('_', cell_id[:128])}"


def seconds(value: float) -> str:
    """Return a duration for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(count: int, word: str) -> str:
    """Return a count with its noun: `1 cell`, `2 cells`, `1,024 cells`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def value_text(value: Any) -> str:
    """Return an expected or actual value: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
