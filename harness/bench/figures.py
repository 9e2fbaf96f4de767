"""Computes the figures of a bench from its trials: one row for each monitor and workload."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.bench.model import Bench, Measured, Trial
from harness.bench.monitors import NONE

# Quantiles of Student's distribution for 95 %, by degrees of freedom from 1.
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
_NORMAL = 1.96
_KIB = 1024


@dataclass(frozen=True)
class Row:
    """What one workload costs beside one monitor, for each operation, in units of the bench's clock.

    `program` is the CPU time of the workload itself, `own` that of everything else beyond what it is without
    a monitor, `total` both. `times_*` are multiples of the same figure without a monitor, NaN without one.
    `spread` is the range of `total` in percent of its median, and `margin` half of the 95 % confidence
    interval of `times_total`; both are NaN with one round. `lost` is what was not reported of `generated`.
    """

    monitor: str
    wall: float = math.nan
    program: float = math.nan
    own: float = math.nan
    total: float = math.nan
    times_wall: float = math.nan
    times_program: float = math.nan
    times_total: float = math.nan
    spread: float = math.nan
    margin: float = math.nan
    generated: int = 0
    lost: int | None = None
    unable: str = ""


@dataclass(frozen=True)
class Delay:
    """The time from an event to its line in ms, infinite if no line came; `lost` of `generated` had none."""

    monitor: str
    median: float = math.inf
    p99: float = math.inf
    generated: int = 0
    lost: int = 0
    unable: str = ""


@dataclass(frozen=True)
class Upkeep:
    """What a monitor costs whatever runs beside it: its start in units, its memory in MiB."""

    monitor: str
    start: float = math.nan
    memory: float = math.nan
    kernel: float = math.nan
    unable: str = ""


def rows(bench: Bench, workload: str) -> list[Row]:
    """Return the rows of one workload, in the order of the monitors."""
    return [_row(bench, workload, monitor) for monitor in bench.monitors]


def upkeep(bench: Bench) -> list[Upkeep]:
    """Return a row for each monitor; the memory is the median of the rounds."""
    found = []
    for monitor in bench.monitors:
        trials = [trial for trial in bench.trials if trial.monitor == monitor]
        if reason := next((trial.unable for trial in trials if trial.unable), ""):
            found.append(Upkeep(monitor, unable=reason))
        elif trials and monitor != NONE:
            found.append(
                Upkeep(
                    monitor,
                    statistics.median(trial.start_ns for trial in trials) / bench.unit_ns or math.nan,
                    statistics.median(trial.pss_kib for trial in trials) / _KIB or math.nan,
                    statistics.median(trial.kernel_kib for trial in trials) / _KIB,
                )
            )
    return found


def _row(bench: Bench, workload: str, monitor: str) -> Row:
    reason = _unable(bench, workload, monitor)
    pairs = _pairs(bench, workload, monitor)
    if reason or not pairs:
        return Row(monitor, unable=reason or "not measured")
    about = bench.workloads[workload]
    each = bench.unit_ns * about.operations
    mine = [own for own, _ in pairs]
    plain = [none for _, none in pairs]
    totals = [_total(one) for one in mine]
    ratios = [_total(one) / _total(none) for one, none in pairs] if monitor != NONE else []
    total = statistics.median(totals)
    seen = [one.seen for one in mine if one.seen is not None]
    return Row(
        monitor,
        wall=statistics.median(one.wall_ns for one in mine) / each,
        program=statistics.median(one.cpu_ns for one in mine) / each,
        own=0.0
        if monitor == NONE
        else (_median(mine, lambda one: one.others_ns) - _median(plain, lambda one: one.others_ns)) / each,
        total=total / each,
        times_wall=_times(pairs, lambda one: one.wall_ns),
        times_program=_times(pairs, lambda one: one.cpu_ns),
        times_total=statistics.median(ratios) if ratios else 1.0,
        spread=(max(totals) - min(totals)) / total * 100 if len(totals) > 1 else math.nan,
        margin=_margin(ratios),
        generated=about.generated * len(seen),
        lost=sum(max(0, about.generated - count) for count in seen) if seen else None,
    )


def _unable(bench: Bench, workload: str, monitor: str) -> str:
    trials = [trial for trial in bench.trials if trial.monitor == monitor]
    reasons = [trial.unable for trial in trials]
    reasons += [trial.workloads[workload].unable for trial in trials if workload in trial.workloads]
    return next(filter(None, reasons), "")


def _pairs(bench: Bench, workload: str, monitor: str) -> list[tuple[Measured, Measured]]:
    """Return the measurement beside a monitor and the one without any, of each round that has both."""
    plain = {trial.round: trial for trial in bench.trials if trial.monitor == NONE}
    pairs = []
    for trial in bench.trials:
        if trial.monitor == monitor and trial.round in plain:
            both = (_of(trial, workload), _of(plain[trial.round], workload))
            if both[0] and both[1]:
                pairs.append((both[0], both[1]))
    return pairs


def _of(trial: Trial, workload: str) -> Measured | None:
    found = trial.workloads.get(workload)
    return None if found is None or found.unable else found


def _total(one: Measured) -> int:
    return one.cpu_ns + one.others_ns


def _median(many: Sequence[Measured], value: Callable[[Measured], int]) -> float:
    return statistics.median(map(value, many))


def _times(pairs: Sequence[tuple[Measured, Measured]], value: Callable[[Measured], int]) -> float:
    return statistics.median(value(mine) / max(1, value(none)) for mine, none in pairs)


def _margin(ratios: Sequence[float]) -> float:
    """Return half of the 95 % confidence interval of the mean."""
    count = len(ratios)
    if count < 2:
        return math.nan
    student = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else _NORMAL
    return student * statistics.stdev(ratios) / math.sqrt(count)


def delays(bench: Bench, workload: str) -> list[Delay]:
    """Return a row for each monitor of a workload that waits for lines."""
    found = []
    for monitor in bench.monitors:
        trials = [trial for trial in bench.trials if trial.monitor == monitor]
        times = sorted(
            math.inf if ns < 0 else ns / 1e6
            for trial in trials
            if workload in trial.workloads
            for ns in trial.workloads[workload].latency_ns
        )
        if times:
            last = times[math.ceil(len(times) * 0.99) - 1]
            found.append(Delay(monitor, times[len(times) // 2], last, len(times), times.count(math.inf)))
        elif monitor != NONE:
            found.append(Delay(monitor, unable=_unable(bench, workload, monitor) or "not measured"))
    return found
