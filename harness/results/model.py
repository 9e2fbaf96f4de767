"""results.json as models: what a run found, and the check that nothing planned is missing from it.

The JSON Schema in `harness/report/results.schema.json` is generated from these models
(`harness report --schema`).
Rows that come out of a guest keep keys that are not known here, so that an old reader can read a newer agent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import ConfigError
from harness.plan.cells import PlainName
from harness.plan.plan import Plan
from harness.results.verdict import Verdict, run_exit_code, worst

FILE = "results.json"
MAX_BYTES = 512 << 20  # of results.json: 2,000 cells of 60 tests take 330 MiB

Count = Annotated[int, Field(ge=0)]
# What names a thing is printed on terminals, in Markdown and in XML, and may come from another host's file.
Word = Annotated[str, Field(pattern=r"^[ -~]*$", max_length=1024)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _GuestRow(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class _Judged(_Model):
    """`fingerprint` is that of the crash or of the kernel's complaint, "" where there was none."""

    verdict: Verdict
    reason: str = ""
    fingerprint: str = ""

    @model_validator(mode="after")
    def _reasoned(self) -> _Judged:
        if self.verdict.needs_reason and not self.reason:
            raise ValueError(f"{self.verdict} needs a reason")
        return self


class Attempt(_Judged):
    """One time that something was run."""

    duration_s: Seconds = 0.0


class Assertion(_GuestRow):
    """One thing that a test held against what it saw."""

    name: str
    ok: bool
    expected: Any = None
    got: Any = None


class Lost(_GuestRow):
    """Events that were lost, by the place where."""

    ring_full: Count = 0
    oversize: Count = 0
    program_misses: Count = 0
    read_errors: Count = 0


class LedgerRow(_GuestRow):
    """Where the events of one type went: generated = delivered + approver_rejected + discarded + lost."""

    generated: Count = 0
    delivered: Count = 0
    matched: Count = 0
    unmatched: Count = 0
    approver_rejected: Count = 0
    discarded: Count = 0
    lost: Lost = Lost()

    @property
    def closes(self) -> bool:
        """Whether every event that was generated is accounted for."""
        lost = self.lost.ring_full + self.lost.oversize + self.lost.program_misses + self.lost.read_errors
        ended = self.delivered + self.approver_rejected + self.discarded + lost
        return self.generated == ended and self.delivered == self.matched + self.unmatched


class Hook(_GuestRow):
    """One hook of a variant: what was attached, and how often the kernel ran it.

    `predicted` is the state that the kernel's image promised before it booted; "" if nothing is known.
    """

    event: str
    point: str = ""
    program: str = ""
    type: str = ""
    state: str = ""
    predicted: str = ""
    runs: Count | None = None
    recursion_misses: Count | None = None
    insns: Count | None = None


class Splat(_Model):
    """A complaint of the kernel: its line, its fingerprint, and the reason for which it is allowed."""

    kind: str
    line: str
    fingerprint: str = ""
    allowed: str = ""


class TestResult(_Judged):
    """What one planned test ended in; `attempts` holds every time that it was run, in order."""

    __test__ = False  # the name is not one of a pytest class

    name: PlainName
    duration_s: Seconds = 0.0
    attempts: tuple[Attempt, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    ledger: dict[str, LedgerRow] = {}
    splats: tuple[Splat, ...] = ()


class Package(_Model):
    """A Debian package that a kernel came in."""

    name: Word
    version: Word
    sha256: Word


class KernelFacts(_Model):
    """The kernel asked for, and what it resolved to."""

    name: Word
    requested: Word
    release: Word = ""
    packages: tuple[Package, ...] = ()


class Agent(_Model):
    """The agent that was tested.

    `bundle` is a SHA-256 over the names and contents of its files, and `objects` that of each compiled file
    by name. `commit` is that of the tree that the bundle was built from, "" where there is no git checkout,
    and `clean` whether that tree had no changes, None where that is not known.
    """

    bundle: Word
    objects: dict[Word, Word] = {}
    commit: Word = ""
    clean: bool | None = None


class Phases(_Model):
    """Seconds that each phase of a cell took; those of a shared machine count in the cell that booted it."""

    fetch_s: Seconds = 0.0
    image_s: Seconds = 0.0
    boot_s: Seconds = 0.0
    deploy_s: Seconds = 0.0
    load_s: Seconds = 0.0
    tests_s: Seconds = 0.0
    start: Literal["cold", "warm"] = "cold"

    @property
    def total_s(self) -> float:
        """Seconds that the machine was busy with this cell."""
        return self.boot_s + self.deploy_s + self.load_s + self.tests_s


class CellReport(_Model):
    """What one visit of a cell found besides its tests.

    `cause` is what ended it early or fails it as a whole, or None. `attempts` are earlier machines that could
    not be had or were lost. `accelerator` is "kvm" or "tcg", "" without a machine; `notes` are remarks on the
    boot of its machine. `slowness` is how many times slower its guest is than an ordinary machine.
    `splats` were printed while no test ran. `uname` is the release that the guest's own kernel reports.
    `closed` is true once the end of the cell was checked: the agent was ended, leftovers were searched for,
    and the console was read to its end. `visit` names the visit.
    """

    id: str
    visit: str = ""
    closed: bool = False
    phases: Phases = Phases()
    accelerator: str = ""
    notes: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    slowness: Seconds = 0.0
    uname: Word = ""
    splats: tuple[Splat, ...] = ()
    capabilities: dict[str, str] = {}
    coverage: dict[str, str] = {}
    limits: dict[str, str] = {}
    hooks: tuple[Hook, ...] = ()
    cause: Attempt | None = None


class CellResult(_Judged):
    """One cell: its verdict is its worst test's, or worse where the cell itself failed.

    `closed` says whether the end of the cell was checked; null in results of an older harness. `uname` is the
    release that the guest's own kernel reported, beside the resolved `kernel.release`.
    """

    id: PlainName
    closed: bool | None = None
    kernel: KernelFacts
    arch: Word
    hookset: Word
    btf: Word
    transport: Word
    cmdline: Word = ""
    attempts: tuple[Attempt, ...] = ()
    phases: Phases = Phases()
    accelerator: Word = ""
    notes: tuple[str, ...] = ()
    slowness: Seconds = 0.0
    uname: Word = ""
    capabilities: dict[str, str] = {}
    coverage: dict[str, str] = {}
    limits: dict[str, str] = {}
    hooks: tuple[Hook, ...] = ()
    splats: tuple[Splat, ...] = ()
    tests: tuple[TestResult, ...] = ()


class Host(_Model):
    """Where the run ran."""

    cpus: int
    memory_mib: int
    kernel: Word


class RunInfo(_Model):
    """The run as a whole; `started` is ISO 8601 in UTC. `agent` is None where only programs of others ran."""

    id: Word
    started: Word
    duration_s: Seconds
    argv: tuple[str, ...]
    exit_code: int
    complete: bool
    host: Host
    accelerator: Word
    harness_version: Word
    agent: Agent | None = None
    notes: tuple[str, ...] = ()


class Scenario(_Model):
    """What a planned scenario proves, and the facts about a kernel that it needs, such as `event:open`."""

    proves: str
    needs: tuple[str, ...] = ()


class Results(_Model):
    """The whole of results.json; `scenarios` describes the planned ones by name, not the tests of suites."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    results_schema: Literal[1] = Field(default=1, alias="schema")
    run: RunInfo
    cells: tuple[CellResult, ...]
    totals: dict[Verdict, Count]
    scenarios: dict[str, Scenario] = {}

    def to_json(self) -> str:
        """The text of results.json."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"

    def verdicts(self) -> list[Verdict]:
        """Every verdict there is: of the cells and of their tests."""
        tests = [test.verdict for cell in self.cells for test in cell.tests]
        return tests + [cell.verdict for cell in self.cells]


def cells_of(
    plan: Plan,
    reports: Mapping[str, CellReport],
    tests: Mapping[tuple[str, str], TestResult],
    kernels: Mapping[str, KernelFacts],
    why_not: str = "the run ended before it",
) -> tuple[CellResult, ...]:
    """One result a planned cell, with every planned test; what is absent is NOT_RUN because of `why_not`."""
    return tuple(
        _cell_result(
            plan,
            cell_id,
            reports.get(cell_id) or CellReport(id=cell_id),
            [tests.get((cell_id, name)) or _not_run(name, why_not) for name in plan.cell(cell_id).tests],
            kernels,
            why_not,
        )
        for cell_id in (cell.id for cell in plan.cells)
    )


def totals(cells: Iterable[CellResult]) -> dict[Verdict, int]:
    """How many tests ended in each verdict; verdicts that none ended in are left out."""
    found = [test.verdict for cell in cells for test in cell.tests]
    return {verdict: found.count(verdict) for verdict in Verdict if verdict in found}


def complete(cells: Iterable[CellResult]) -> bool:
    """Whether every test has a result, and the end of every cell was checked."""
    return all(
        cell.closed is not False and all(test.verdict is not Verdict.NOT_RUN for test in cell.tests)
        for cell in cells
    )


def exit_code(cells: Iterable[CellResult], unused: Iterable[str] = ()) -> int:
    """The exit code of a run that ended in `cells`; `unused` are declared hook sets that nobody takes."""
    code = run_exit_code([cell.verdict for cell in cells])
    return Verdict.FAIL.exit_code if any(unused) else code


def disagreements(plan: Plan, results: Results) -> list[str]:
    """Where results and plan differ, one line each; empty when every planned test is there exactly once."""
    planned = plan.pairs()
    found = [(cell.id, test.name) for cell in results.cells for test in cell.tests]
    lines = [
        f"{cell} {test}: planned, and not in the results"
        for cell, test in planned
        if (cell, test) not in found
    ]
    lines += [
        f"{cell} {test}: in the results, and not planned"
        for cell, test in found
        if (cell, test) not in planned
    ]
    lines += [
        f"{cell} {test}: twice in the results"
        for cell, test in sorted(set(found))
        if found.count((cell, test)) > 1
    ]
    return lines + _variants_differ(plan, results)


def _variants_differ(plan: Plan, results: Results) -> list[str]:
    """A line for each cell whose results are of another variant than was planned under its name."""
    planned = {cell.id: (cell.arch, cell.hookset, cell.btf, cell.transport) for cell in plan.cells}
    found = {cell.id: (cell.arch, cell.hookset, cell.btf, cell.transport) for cell in results.cells}
    return [
        f"{name}: planned as {' '.join(planned[name])}, and the results are of {' '.join(variant)}"
        for name, variant in found.items()
        if name in planned and planned[name] != variant
    ]


def load(path: Path) -> Results:
    """Read results.json; raises ConfigError when it is none, is cut short, or contradicts itself."""
    try:
        results = Results.model_validate_json(read_bounded(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: not a results file: {where or 'the file'}: {first['msg']}") from error
    if lie := contradiction(results):
        raise ConfigError(f"{path}: {lie}")
    return results


def read_bounded(path: Path) -> bytes:
    """Read a file of a run folder; raises OSError, and ConfigError for one that no run would write."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    return data


def contradiction(results: Results) -> str:
    """What results say that their own tests do not bear out; "" if nothing. A file may be edited or cut."""
    if results.totals != totals(results.cells):
        return "the totals do not fit the tests"
    for cell in results.cells:
        if any(test.verdict.badness > cell.verdict.badness for test in cell.tests):
            return f"{cell.id} is {cell.verdict}, and one of its tests is worse"
        if cell.closed is False and cell.verdict.expected:
            return f"{cell.id} is {cell.verdict}, and its end was not checked"
    if results.run.complete and not complete(results.cells):
        return "the run says that it is complete, and a test was not run or a cell not closed"
    # A run may end worse than its cells, for what no cell shows; never better.
    if exit_code(results.cells) and not results.run.exit_code:
        return "the run says that it succeeded, and a cell did not"
    return ""


def schema_text() -> str:
    """The JSON Schema of results.json."""
    schema = Results.model_json_schema(mode="serialization", by_alias=True)
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _not_run(name: str, why: str) -> TestResult:
    return TestResult(name=name, verdict=Verdict.NOT_RUN, reason=why)


def _known(cause: Attempt, tests: list[TestResult]) -> bool:
    """Whether what ended a cell is what every test of it was expected to fail of."""
    alike = all(test.verdict is Verdict.XFAIL and cause.reason in test.reason for test in tests)
    return bool(tests) and cause.verdict is Verdict.FAIL and alike


def _cell_result(
    plan: Plan,
    cell_id: str,
    report: CellReport,
    tests: list[TestResult],
    kernels: Mapping[str, KernelFacts],
    why_not: str,
) -> CellResult:
    cell = plan.cell(cell_id)
    final = _final(report, tests, why_not)
    unresolved = KernelFacts(name=cell.kernel.name, requested=cell.kernel.series)
    return CellResult(
        id=cell_id,
        closed=report.closed,
        kernel=kernels.get(cell.machine, unresolved),
        arch=cell.arch,
        hookset=cell.hookset,
        btf=cell.btf,
        transport=cell.transport,
        cmdline=cell.cmdline.args if cell.cmdline else "",
        verdict=final.verdict,
        reason=final.reason,
        fingerprint=final.fingerprint,
        attempts=(*report.attempts, final),
        phases=report.phases,
        accelerator=report.accelerator,
        notes=report.notes,
        slowness=report.slowness,
        uname=report.uname,
        capabilities=report.capabilities,
        coverage=report.coverage,
        limits=report.limits,
        hooks=report.hooks,
        splats=report.splats,
        tests=tuple(tests),
    )


def _final(report: CellReport, tests: list[TestResult], why_not: str) -> Attempt:
    """What the cell as a whole ended in; the first of the worst says why."""
    judged: list[_Judged] = list(tests)
    if report.cause and not _known(report.cause, tests):
        judged.append(report.cause)
    if not report.closed:
        reason = f"the end of the cell was not checked: {why_not}"
        judged.append(Attempt(verdict=Verdict.NOT_RUN, reason=reason))
    verdict = worst(entry.verdict for entry in judged)
    first = next((entry for entry in judged if entry.verdict is verdict), None)
    return Attempt(
        verdict=verdict,
        reason=first.reason if first else "no test was planned",
        fingerprint=first.fingerprint if first else "",
        duration_s=report.phases.total_s,
    )
