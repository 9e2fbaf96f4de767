"""The models of bench.json: what each trial of a bench measured, in ns of the guest's clock."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError
from harness.host import private
from harness.text import one_line
from harness.vm.domain import INSTRUCTION_NS

NAME = "bench.json"
SCHEMA = 1
MAX_BYTES = 64 << 20

Clock = Literal["instructions", "time"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Measured(_Model):
    """One workload beside one monitor.

    `cpu_ns` is the CPU time of the workload, `others_ns` that of all other threads until the last line.
    `seen` is the number of lines that report its watched opens, None if that was not counted. A latency is
    -1 if no line came. `unable` is the reason if it did not run, and the others are 0.
    """

    wall_ns: int = 0
    cpu_ns: int = 0
    others_ns: int = 0
    seen: int | None = None
    latency_ns: tuple[int, ...] = ()
    unable: str = ""


class Trial(_Model):
    """One monitor in one new machine.

    `start_ns` is the CPU time until it reported its first event, `kernel_kib` the kernel's memory that this
    took, `pss_kib` its own memory after the workloads. `unable` is the reason if it cannot run.
    """

    round: int
    monitor: str
    unable: str = ""
    start_ns: int = 0
    kernel_kib: int = 0
    pss_kib: int = 0
    workloads: dict[str, Measured] = {}


class Workload(_Model):
    """What the figures of a workload are divided by, and how many events it generates."""

    about: str
    operations: int
    generated: int


class Bench(_Model):
    """All trials on one kernel. With the clock "instructions" a guest's ns are half its instructions."""

    schema_number: int = SCHEMA
    kernel: str
    release: str
    arch: str
    accelerator: str
    clock: Clock
    commit: str
    argv: tuple[str, ...]
    started: str
    seconds: float = 0
    monitors: dict[str, str]
    workloads: dict[str, Workload]
    trials: tuple[Trial, ...] = ()

    @property
    def unit_ns(self) -> int:
        """The nanoseconds of one unit that is printed: an instruction, or a nanosecond."""
        return INSTRUCTION_NS if self.clock == "instructions" else 1

    @property
    def rounds(self) -> int:
        """How many rounds were completed."""
        return max((trial.round for trial in self.trials), default=0)


def save(bench: Bench, folder: Path) -> None:
    """Write bench.json."""
    private.write(folder / NAME, bench.model_dump_json(indent=1).encode() + b"\n")


def load(path: Path) -> Bench:
    """Read bench.json. Raises ConfigError."""
    path = path / NAME if path.is_dir() else path
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is longer than {MAX_BYTES >> 20} MiB")
        bench = Bench.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="`harness bench` writes bench.json") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is no bench.json: {one_line(where)}: {one_line(first['msg'])}") from error
    if bench.schema_number != SCHEMA:
        raise ConfigError(f"{path} has schema {bench.schema_number}, this harness reads {SCHEMA}")
    return bench
