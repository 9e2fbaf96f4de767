"""What the last runs found: verdicts, durations and verified instructions of each cell and test.

A history is a small file, history.json, made from results.json files and from an earlier history, so that a
night needs only the history of the night before.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import ConfigError
from harness.plan.cells import Cell, PlainName
from harness.plan.cost import key_of_test
from harness.report.facts import LETTERS, NOT_PLANNED
from harness.report.shared import hooks
from harness.results import results_file
from harness.results.model import CellResult, Results, Word
from harness.results.verdict import Verdict

FILE = "history.json"
RUNS = 30  # that a history keeps
_CLOCKS_DIFFER = datetime.timedelta(days=1)  # at most, on the hosts of the runs
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
# Sums of what results may have.
_Seconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=1 << 80)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellEntry(_Entry):
    """A cell in one run: `own_s` is its time without tests, `insns` all its verified instructions."""

    verdict: Verdict
    own_s: _Seconds
    load_s: _Seconds
    insns: _Count
    tests: dict[PlainName, tuple[Verdict, _Seconds]]


class RunEntry(_Entry):
    """One run; `started` is ISO 8601 in UTC, `parts` the ids of the runs that a merge joins."""

    id: Word
    started: Word
    accelerator: Word
    parts: tuple[Word, ...] = ()
    cells: dict[PlainName, CellEntry]

    @property
    def counted(self) -> frozenset[str]:
        """The ids of the runs whose results this one has."""
        return frozenset(self.parts or (self.id,))


class History(_Entry):
    """The last runs, oldest first; `history` is the version of this format."""

    history: Literal[1] = 1
    runs: tuple[RunEntry, ...] = ()

    def series(self, cell: str, test: str) -> Series:
        """Return how a test of a cell ended in each run."""
        entries = (run.cells.get(cell) for run in self.runs)
        ended = [entry.tests.get(test) if entry else None for entry in entries]
        return Series(tuple(run.started for run in self.runs), tuple(ended))

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (cell, test) of any run, those of the newest run first."""
        newest = reversed(self.runs)
        return list(
            dict.fromkeys(
                (c, test) for run in newest for c, entry in run.cells.items() for test in entry.tests
            )
        )


class Noise(NamedTuple):
    """The middle of some values, and how far they usually lie from it: a robust standard deviation."""

    middle: float
    spread: float
    last: float


class Series(NamedTuple):
    """How one test of one cell ended in each run: verdict and seconds, None if it was not planned."""

    started: tuple[str, ...]
    ended: tuple[tuple[Verdict, float] | None, ...]

    @property
    def letters(self) -> str:
        """A letter for each run, the newest last; see `harness.report.facts.LETTERS`."""
        return "".join(LETTERS[one[0]] if one else NOT_PLANNED for one in self.ended)

    @property
    def red_since(self) -> str:
        """When the run began since which the test never was as expected; "" if it is now, or is not known.

        Runs without a verdict about the product neither begin nor end this.
        """
        since = ""
        for started, one in zip(reversed(self.started), reversed(self.ended), strict=True):
            if not one or one[0].unknown:
                continue
            if one[0].expected:
                break
            since = started
        return since

    @property
    def flakes(self) -> int:
        """How often the test ended differently for no lasting cause: FLAKY, or red between two green runs."""
        known = [one[0] for one in self.ended if one and not one[0].unknown]
        alone = zip(known, known[1:], known[2:], strict=False)
        between = sum(
            a.expected and not b.expected and c.expected for a, b, c in alone if b is not Verdict.FLAKY
        )
        return known.count(Verdict.FLAKY) + between

    @property
    def seconds(self) -> Noise:
        """How long the test took in the runs in which it passed."""
        return noise([one[1] for one in self.ended if one and one[0] is Verdict.PASS])


def noise(values: Sequence[float]) -> Noise:
    """Return the noise of some values, the newest last; zeros if there are none."""
    if not values:
        return Noise(0.0, 0.0, 0.0)
    middle = statistics.median(values)
    spread = _MAD_TO_SIGMA * statistics.median(abs(value - middle) for value in values)
    return Noise(middle, spread, values[-1])


def read(paths: Iterable[Path]) -> History:
    """Join histories, results and their folders into one history. Raises ConfigError."""
    return _history(run for path in paths for run in _runs(path))


def joined(past: History, results: Results) -> History:
    """Return the history with one more run."""
    return _history((*past.runs, of_run(results)))


def _history(runs: Iterable[RunEntry]) -> History:
    """The newest runs, each once, without those that are parts of another."""
    unique = {run.counted: run for run in runs}
    whole = (run for ids, run in unique.items() if not any(ids < others for others in unique))
    return History(runs=tuple(sorted(whole, key=_began)[-RUNS:]))


def _began(run: RunEntry) -> datetime.datetime:
    """When a run began. A time that cannot be right counts as the oldest, so that it hides no other run."""
    oldest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    try:
        began = datetime.datetime.fromisoformat(run.started)
    except ValueError:
        return oldest
    began = began.replace(tzinfo=began.tzinfo or datetime.UTC)
    return began if began < datetime.datetime.now(datetime.UTC) + _CLOCKS_DIFFER else oldest


def beside(folder: Path) -> History:
    """Return the history in the folder of a run; an empty one if there is none, or if it cannot be read."""
    try:
        return History.model_validate_json(results_file.read_bounded(folder / FILE))
    except (OSError, ValidationError, ConfigError):
        return History()


def _runs(path: Path) -> Sequence[RunEntry]:
    """Return the runs in a file, or in both files of a folder."""
    if path.is_dir():
        inside = [path / name for name in (FILE, results_file.FILE) if (path / name).exists()]
        if not inside:
            raise ConfigError(f"{path}: has neither {results_file.FILE} nor {FILE}")
        return [run for one in inside for run in _runs(one)]
    try:
        # Results may have hundreds of megabytes, and must not be validated as a history.
        if path.name != FILE and not results_file.begins_with(path, "history"):
            return [of_run(results_file.load(path))]
        return History.model_validate_json(results_file.read_bounded(path)).runs
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not a history: {results_file.first_problem(error)}") from error


def of_run(results: Results) -> RunEntry:
    """Return the entry of a run."""
    run = results.run
    cells = {cell.id: _of_cell(cell) for cell in results.cells}
    return RunEntry(id=run.id, started=run.started, accelerator=run.accelerator, parts=run.parts, cells=cells)


def _of_cell(cell: CellResult) -> CellEntry:
    tests = {test.name: (test.verdict, round(test.duration_s, 2)) for test in cell.tests}
    spent = cell.phases.total_s - sum(seconds for _, seconds in tests.values())
    return CellEntry(
        verdict=cell.verdict,
        own_s=round(max(0.0, spent), 2),
        load_s=round(cell.phases.load_s, 2),
        insns=sum(hook.insns or 0 for hook in cell.hooks if hooks.in_use(hook)),
        tests=tests,
    )


def times(history: History, cells: Iterable[Cell]) -> dict[str, float]:
    """Return the usual seconds of these cells and their tests, for `harness.plan.cost`."""
    known: dict[str, float] = {}
    for cell in cells:
        own = [run.cells[cell.id].own_s for run in history.runs if cell.id in run.cells]
        if own:
            known[cell.id] = round(statistics.median(own), 2)
        for test in cell.tests:
            if seconds := history.series(cell.id, test).seconds.middle:
                known[key_of_test(cell.id, test)] = round(seconds, 2)
    return known


def costs(history: History) -> Iterator[tuple[str, Noise, Noise]]:
    """Yield for each cell of the newest run the noise of its load time and of its verified instructions."""
    for cell in history.runs[-1].cells if history.runs else ():
        entries = [run.cells[cell] for run in history.runs if cell in run.cells and run.cells[cell].insns]
        if entries:
            loads, insns = ([e.load_s for e in entries], [float(e.insns) for e in entries])
            yield cell, noise(loads), noise(insns)
