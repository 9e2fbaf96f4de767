"""Writes the figures of benches as tables, in Markdown or for a terminal, and as a page with a chart."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from harness.bench import figures
from harness.bench.figures import Row, Upkeep
from harness.bench.model import Bench
from harness.bench.monitors import NONE
from harness.text import counted

UNKNOWN = "-"
Table = Sequence[Sequence[str]]

_HEAD = ("monitor", "program", "÷ none", "monitor's own", "all ÷ none", "wall ÷ none", "lost", "spread")
_LATENCY = ("monitor", "median", "p99", "lost")
_UPKEEP = ("monitor", "start", "memory", "kernel's memory")
_GIGA, _MEGA, _KILO = 1e9, 1e6, 1e3


def number(value: float) -> str:
    """Format a number of instructions or ns in three digits."""
    if math.isnan(value):
        return UNKNOWN
    for factor, letter in ((_GIGA, "G"), (_MEGA, "M")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:,.0f}"


def times(value: float) -> str:
    """Format a ratio."""
    return UNKNOWN if math.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def costs(bench: Bench, workload: str) -> Table:
    """Return the table of one workload."""
    return [_HEAD, *(_cost(row, bench) for row in figures.rows(bench, workload))]


def _cost(row: Row, bench: Bench) -> Sequence[str]:
    if row.unable:
        return (row.monitor, f"does not run: {row.unable}", *[""] * (len(_HEAD) - 2))
    total = times(row.times_total)
    if bench.clock == "time" and not math.isnan(row.margin):
        total += f" ± {row.margin:.2f}"
    return (
        row.monitor,
        number(row.program),
        times(row.times_program),
        "" if row.monitor == NONE else number(row.own),
        total,
        times(row.times_wall),
        "" if row.lost is None else f"{row.lost:,} of {row.generated:,}",
        UNKNOWN if math.isnan(row.spread) else f"{row.spread:.2f} %",
    )


def latencies(bench: Bench, workload: str) -> Table:
    """Return the table of a workload that measures the time from event to line."""
    found: list[Sequence[str]] = [_LATENCY]
    for row in figures.delays(bench, workload):
        if row.unable:
            found.append((row.monitor, f"does not run: {row.unable}", "", ""))
        else:
            found.append((row.monitor, _ms(row.median), _ms(row.p99), f"{row.lost} of {row.generated}"))
    return found


def _ms(value: float) -> str:
    return UNKNOWN if math.isinf(value) else f"{value:.1f} ms"


def upkeep(bench: Bench) -> Table:
    """Return the table of starts and memory."""
    return [_UPKEEP, *(_kept(row) for row in figures.upkeep(bench))]


def _kept(row: Upkeep) -> Sequence[str]:
    if row.unable:
        return (row.monitor, f"does not run: {row.unable}", "", "")
    return (row.monitor, number(row.start), *(f"{value:.1f} MiB" for value in (row.memory, row.kernel)))


def has_latency(bench: Bench, workload: str) -> bool:
    """Whether a workload measures the time from event to line."""
    return any(one.workloads[workload].latency_ns for one in bench.trials if workload in one.workloads)


def tables(bench: Bench) -> list[tuple[str, Table]]:
    """Return every table of a bench with its title."""
    found = []
    for name, workload in bench.workloads.items():
        if has_latency(bench, name):
            found.append((f"{name}: {workload.about}", latencies(bench, name)))
        else:
            found.append((f"{name}: {workload.about}", costs(bench, name)))
    return [*found, ("start and memory", upkeep(bench))]


def markdown(table: Table) -> str:
    """Return a table of Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    rule = "|---|" + "---:|" * (len(table[0]) - 1)
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def plain(table: Table) -> str:
    """Return a table for a terminal; a long last cell is not aligned."""
    widths = [max(len(row[at]) for row in table if row[-1] or at == 0) for at in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += (
            [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            if row[-1]
            else row[1:]
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def conditions(bench: Bench) -> str:
    """Return a paragraph on how a bench was measured."""
    unit = "instructions of the guest" if bench.clock == "instructions" else "nanoseconds of CPU time"
    rounds = counted(bench.rounds, "round")
    return (
        f"Kernel {bench.release}, {bench.arch}, {bench.accelerator}, {rounds}, commit "
        f"{bench.commit[:12] or 'unknown'}, {bench.started}. Figures are {unit} for each operation.\n\n"
        f"    {shlex.join(bench.argv)}\n"
    )
