"""The facts of a run that the documentation's tables are made from, a few for each cell.

The results.json of a run has megabytes. These facts are small enough to be kept in docs/tables.json, where a
test can compare the tables with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import ConfigError
from harness.report.shared import hooks, words
from harness.results import results_file
from harness.results.model import CellResult, Results
from harness.results.verdict import Verdict

# A letter for each verdict; with their names the file would be several times as long.
LETTERS = {
    Verdict.PASS: "+",
    Verdict.SKIP: "s",
    Verdict.XFAIL: "x",
    Verdict.INFRA: "i",
    Verdict.BOOT_FAIL: "b",
    Verdict.NOT_RUN: "n",
    Verdict.FLAKY: "f",
    Verdict.SPLAT: "w",
    Verdict.XPASS: "X",
    Verdict.FAIL: "F",
    Verdict.TIMEOUT: "T",
    Verdict.CRASH: "C",
}
NOT_PLANNED = "."
_VERDICTS = {letter: verdict for verdict, letter in LETTERS.items()}


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellFacts(_Facts):
    """One cell; `column` is the hook set and each other property of the variant that is not the default.

    `largest` is the program with the most verified instructions. `partly` are the event types that are not
    seen whole, and `limits` describes what is not seen. `ended` has a letter for each test of the run.
    """

    id: str
    kernel: str
    release: str
    version: str
    arch: str
    column: str
    verdict: Verdict
    reason: str = ""
    boot_s: float
    start: Literal["cold", "warm"]
    load_s: float
    tests_s: float
    programs: int
    largest: tuple[str, int] | None
    capabilities: dict[str, str]
    partly: dict[str, str]
    limits: dict[str, str] = {}
    ended: Annotated[str, Field(pattern=f"^[{re.escape(''.join([*LETTERS.values(), NOT_PLANNED]))}]*$")]


class RunFacts(_Facts):
    """A run; `facts` is the version of this format, `shards` the seconds of each shard.

    `agent` has the digest and the commit of the agent. `clean` is whether its tree had no changes, None if
    that is unknown. `planned` is the number of tests in all cells, 0 in facts of an older harness.
    """

    facts: Literal[1] = 1
    id: str
    started: str
    duration_s: float
    accelerator: str
    cpus: int
    exit_code: int
    agent: str = "unknown"
    clean: bool | None = None
    harness: str = ""
    shards: dict[str, float] = {}
    planned: int = 0
    tests: tuple[str, ...]
    cells: tuple[CellFacts, ...]

    @model_validator(mode="after")
    def _whole(self) -> RunFacts:
        if any(len(cell.ended) != len(self.tests) for cell in self.cells):
            raise ValueError("a cell does not have one letter for each test")
        return self

    def ended(self, test: str, cells: Iterable[CellFacts]) -> list[tuple[CellFacts, Verdict]]:
        """Return how a test ended in each of `cells` that planned it."""
        if test not in self.tests:
            return []
        at = self.tests.index(test)
        return [(cell, _VERDICTS[cell.ended[at]]) for cell in cells if cell.ended[at] != NOT_PLANNED]

    def verdicts(self, cell: CellFacts) -> list[Verdict]:
        """Return the verdicts of a cell's planned tests."""
        return [_VERDICTS[letter] for letter in cell.ended if letter != NOT_PLANNED]

    def to_json(self) -> str:
        """Return the text of docs/tables.json, one cell a line, so that a change of a cell is one line."""
        cells = ",\n".join(f"  {cell.model_dump_json()}" for cell in self.cells)
        head = self.model_dump_json(exclude={"cells"})
        return f'{head[:-1]},\n "cells": [\n{cells}\n ]}}\n'


def of_run(results: Results) -> RunFacts:
    """Return the facts of a run."""
    run = results.run
    tests = tuple(dict.fromkeys(test.name for cell in results.cells for test in cell.tests))
    rests = words.variants(results.cells)
    return RunFacts(
        id=run.id,
        started=run.started,
        duration_s=round(run.duration_s, 1),
        accelerator=run.accelerator,
        cpus=run.host.cpus,
        exit_code=run.exit_code,
        agent=words.agent_name(run.agent),
        clean=run.agent.clean if run.agent else None,
        harness=run.harness_version,
        shards=run.shards,
        planned=sum(len(cell.tests) for cell in results.cells),
        tests=tests,
        cells=tuple(_of_cell(cell, tests, rests[cell.id]) for cell in results.cells),
    )


def _of_cell(cell: CellResult, tests: Sequence[str], rest: str) -> CellFacts:
    ended = {test.name: LETTERS[test.verdict] for test in cell.tests}
    counted = [(hook.insns or 0, hook.program) for hook in cell.hooks if hooks.in_use(hook)]
    most, program = max(counted, default=(0, ""))
    return CellFacts(
        id=cell.id,
        kernel=cell.kernel.name,
        release=cell.kernel.release,
        version=next((package.version for package in cell.kernel.packages), ""),
        arch=cell.arch,
        column=" · ".join(filter(None, (cell.hookset, rest))),
        verdict=cell.verdict,
        reason=cell.reason[:200] if cell.verdict is not Verdict.PASS else "",
        boot_s=round(cell.phases.boot_s, 1),
        start=cell.phases.start,
        load_s=round(cell.phases.load_s, 1),
        tests_s=round(cell.phases.tests_s, 1),
        programs=len(counted),
        largest=(program, most) if most else None,
        capabilities=cell.capabilities,
        limits=cell.limits,
        partly={event: state for event, state in cell.coverage.items() if state != "full"},
        ended="".join(ended.get(name, NOT_PLANNED) for name in tests),
    )


def stored(path: Path) -> RunFacts | None:
    """Return the facts in docs/tables.json; None if the file is no such facts. Raises ConfigError."""
    try:
        # Each field that results lack would cost a copy of them: gigabytes for a whole night.
        if not results_file.begins_with(path, "facts"):
            return None
        return RunFacts.model_validate_json(results_file.read_bounded(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not valid facts: {results_file.first_problem(error)}") from error
