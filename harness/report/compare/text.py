"""Prints a comparison as Markdown for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence

from harness.report.compare.changes import Change, Kind, fails
from harness.report.compare.comparison import Comparison, Entry, Hooks, InstructionChange, KernelMove
from harness.report.compare.noise import RATIO, Pair
from harness.report.shared.words import agent_name
from harness.report.summary import LIMIT, cut
from harness.text import markdown

SCHEMA = 1
ROWS = 25  # per table; JSON has all
CELLS = 4  # named in one row


def to_json(found: Comparison) -> str:
    """Return the whole comparison; `regressions` is the number of regressions."""
    head = {"schema": SCHEMA, "regressions": len(found.regressions), "exit_code": found.exit_code}
    agents = [agent and agent.model_dump() for agent in found.agents]
    body = dataclasses.asdict(found) | {"agents": agents, "incomparable": found.incomparable}
    return json.dumps(head | body, indent=1) + "\n"


def to_markdown(found: Comparison) -> str:
    """Return the comparison for people; a table is cut after `ROWS` rows, with a line about the rest."""
    return cut("\n".join(_lines(found)).rstrip() + "\n", LIMIT)


def _lines(found: Comparison) -> Iterator[str]:
    yield from (
        f"## {_headline(found)}",
        "",
        f"From {markdown(found.old_run)} to {markdown(found.new_run)}.",
        "",
    )
    if found.other_agent:
        yield from (
            f"The agent differs: {' to '.join(markdown(agent_name(agent)) for agent in found.agents)}.",
            "",
        )
    for kind in Kind:
        rows = [_change(change) for change in found.changes if change.kind is kind]
        yield from _table(kind.capitalize(), ("cell", "test", "was", "is", "reason"), rows)
    yield from _table("New", ("cell", "test", "verdict"), [_entry(entry) for entry in found.new])
    yield from _table("Gone", ("cell", "test", "was"), [_entry(entry) for entry in found.gone])
    moves = [_move(move) for move in found.kernels]
    yield from _table("Kernels that moved", ("kernel", "was", "is", "packages"), moves)
    changed = [(change.cell, change.event, _hooks(change.old), _hooks(change.new)) for change in found.rungs]
    yield from _table("Other hooks", ("cell", "event", "was", "is"), changed)
    states = [
        (row.cell, row.type, row.old or "not seen", row.new or "not seen") for row in found.capabilities
    ]
    yield from _table("Hook types that behave differently", ("cell", "type", "was", "is"), states)
    counts = _counts(found.instructions)
    yield from _table("Verifier instructions", ("program", "was", "is", "cells"), counts)
    times = [_time(pair) for pair in found.times]
    yield from _table("Times beyond noise", ("what", "cell", "test", "was", "is"), times)
    yield from _host(found.host_factor)


def _headline(found: Comparison) -> str:
    if found.empty:
        return "✓ Nothing changed"
    counts = [(kind.value, sum(change.kind is kind for change in found.changes)) for kind in Kind]
    counts += [("new", len(found.new)), ("gone", len(found.gone)), ("kernels moved", len(found.kernels))]
    counts += [("other hooks", len(found.rungs)), ("times moved", len(found.times))]
    summary = ", ".join(f"{count} {what}" for what, count in counts if count)
    if regressions := len(found.regressions):
        limits = f"; {found.incomparable}" if found.incomparable else ""
        return f"✗ The product regressed in {regressions}: {summary}{limits}"
    if found.incomparable:
        return f"⚠ Not comparable: {'; '.join(filter(None, (found.incomparable, summary)))}"
    return f"✓ No regression: {summary or 'details differ'}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield from (f"### {title} ({len(rows)})", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}")
    for row in rows[:ROWS]:
        yield f"| {' | '.join(markdown(word) for word in row)} |"
    if len(rows) > ROWS:
        yield f"\n… and {len(rows) - ROWS} more"
    yield ""


def _change(change: Change) -> tuple[str, ...]:
    cell, test = (change.cell, change.test or "the cell") if change.cell else ("all", "the run")
    old, new = (f" on {host}" for host in change.hosts) if change.hosts else ("", "")
    return cell, test, f"{change.old}{old}", f"{change.new}{new}", change.reason


def _entry(entry: Entry) -> tuple[str, ...]:
    verdict = f"✗ {entry.verdict}" if fails(entry.verdict) else str(entry.verdict)
    return entry.cell, entry.test or "all", verdict


def _move(move: KernelMove) -> tuple[str, ...]:
    gone = ", ".join(f"-{name} {version}" for name, version in move.gone)
    new = ", ".join(f"+{name} {version}" for name, version in move.new)
    return f"{move.kernel} {move.arch}", move.old_release, move.new_release, f"{gone} {new}".strip()


def _hooks(hooks: Hooks) -> str:
    return ", ".join(f"{kind} {point}".strip() for kind, point in hooks) or "none"


def _counts(found: Iterable[InstructionChange]) -> list[tuple[str, ...]]:
    """Return one row for each program and change, with its cells; the largest relative change first."""
    cells_of: dict[tuple[str, int, int], list[str]] = {}
    for row in found:
        cells_of.setdefault((row.program, row.old, row.new), []).append(row.cell)
    order = sorted(cells_of.items(), key=lambda entry: -abs(entry[0][2] - entry[0][1]) / max(entry[0][1], 1))
    return [
        (
            program,
            f"{old:,}",
            f"{new:,} ({new - old:+,})",
            ", ".join(cells[:CELLS]) + _more(len(cells) - CELLS),
        )
        for (program, old, new), cells in order
    ]


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def _time(pair: Pair) -> tuple[str, ...]:
    factor = pair.new_s / pair.old_s
    return pair.kind, pair.cell, pair.test, f"{pair.old_s:.1f} s", f"{pair.new_s:.1f} s (x{factor:.2f})"


def _host(factor: float | None) -> Iterator[str]:
    if factor is None:
        yield "Times are not compared: the accelerators differ."
    elif max(factor, 1 / factor) >= RATIO:
        yield f"The host took {factor:.2f} times as long to boot; the comparison allows for that."
