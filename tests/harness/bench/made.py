"""Benches with known figures."""

from __future__ import annotations

from typing import Any

from harness.bench.model import Bench, Measured, Trial, Workload


def measured(cpu: int, others: int = 0, **more: Any) -> Measured:
    """A workload that took so many ns of CPU; twice that on the wall."""
    return Measured(wall_ns=2 * cpu, cpu_ns=cpu, others_ns=others, **more)


def trial(number: int, monitor: str, **workloads: Measured) -> Trial:
    """A trial with a start and memory."""
    return Trial(
        round=number,
        monitor=monitor,
        start_ns=4_000_000_000,
        kernel_kib=2048,
        pss_kib=1024,
        workloads=workloads,
    )


def bench(*trials: Trial, **changes: Any) -> Bench:
    """A bench of the workload `open`, with ten operations that generate ten events."""
    return Bench(
        kernel="6.1",
        release="6.1.0-1-cloud-amd64",
        arch="amd64",
        accelerator="tcg",
        clock="instructions",
        commit="0123456789abcdef",
        argv=("harness", "bench", "--kernel", "6.1"),
        started="2026-01-01T00:00:00+00:00",
        monitors={one.monitor: f"about {one.monitor}" for one in trials},
        workloads={"open": Workload(about="open and close", operations=10, generated=10)},
        trials=trials,
    ).model_copy(update=changes)
