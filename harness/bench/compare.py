"""Compares the costs of the agent in two benches: a figure that grew by more than LIMIT is a regression."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from harness.bench import figures, table
from harness.bench.model import Bench
from harness.bench.monitors import AGENT, NONE
from harness.errors import ConfigError

LIMIT = 0.01  # counted instructions differ by less between two machines; time does not
NOISY_LIMIT = 0.25  # where time was measured


@dataclass(frozen=True)
class Change:
    """One figure of one monitor; `grew` is 0.1 for 10 % more. The figures are units of the clock, or MiB."""

    monitor: str
    figure: str
    old: float
    new: float

    @property
    def grew(self) -> float:
        """How much it grew, as a share of the old value."""
        return self.new / self.old - 1 if self.old else math.inf if self.new > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """All figures that both benches have; `gone` has what only the old one measured."""

    kernel: str
    limit: float
    changes: tuple[Change, ...]
    gone: tuple[str, ...]

    @property
    def regressions(self) -> list[Change]:
        """The figures that grew by more than the limit, the worst first."""
        return sorted((one for one in self.changes if one.grew > self.limit), key=lambda one: -one.grew)

    @property
    def exit_code(self) -> int:
        """1 for a regression, 4 if a figure of the agent is gone, else 0."""
        return 1 if self.regressions else 4 if self.gone else 0


def compare(old: Bench, new: Bench) -> Comparison:
    """Compare two benches of one kernel with one clock. Raises ConfigError for others."""
    for name in ("kernel", "arch", "clock"):
        if getattr(old, name) != getattr(new, name):
            raise ConfigError(
                f"the benches differ in {name}: {getattr(old, name)} and {getattr(new, name)}",
                hint="compare benches of one kernel that were measured with one clock",
            )
    before, after = dict(_figures(old)), dict(_figures(new))
    changes = tuple(Change(*key, value, after[key]) for key, value in before.items() if key in after)
    gone = tuple(f"{monitor}: {figure}" for monitor, figure in before if (monitor, figure) not in after)
    return Comparison(new.kernel, LIMIT if new.clock == "instructions" else NOISY_LIMIT, changes, gone)


def _figures(bench: Bench) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield what the agent adds to each workload for an operation, its start and its memory."""
    for workload in bench.workloads:
        found = figures.rows(bench, workload)
        plain = next((row.total for row in found if row.monitor == NONE), math.nan)
        for row in found:
            if row.monitor.startswith(AGENT) and not row.unable:
                yield (row.monitor, workload), row.total - plain
    for kept in figures.upkeep(bench):
        if kept.monitor.startswith(AGENT) and not kept.unable:
            yield (kept.monitor, "start"), kept.start
            yield (kept.monitor, "memory, MiB"), kept.memory


def markdown(found: Comparison) -> str:
    """Return the comparison as a section of Markdown: regressions first, then every figure."""
    count = len(found.regressions)
    verdict = f"{count} {'figure' if count == 1 else 'figures'} grew by more than {found.limit:.0%}"
    rows = [("monitor", "figure", "before", "now", "change")]
    ordered = [*found.regressions, *(one for one in found.changes if one not in found.regressions)]
    rows += [
        (one.monitor, one.figure, table.number(one.old), table.number(one.new), f"{one.grew:+.2%}")
        for one in ordered
    ]
    gone = "".join(f"- not measured any more: {name}\n" for name in found.gone)
    return f"## Cost on {found.kernel}: {verdict}\n\n{table.markdown(rows)}\n{gone}"


def to_json(found: Comparison) -> str:
    """Return the comparison as JSON."""
    rows = [{**asdict(one), "grew": one.grew if math.isfinite(one.grew) else None} for one in found.changes]
    regressions = [[one.monitor, one.figure] for one in found.regressions]
    made = {"kernel": found.kernel, "limit": found.limit, "changes": rows, "regressions": regressions}
    return json.dumps({**made, "gone": found.gone}, indent=1) + "\n"
