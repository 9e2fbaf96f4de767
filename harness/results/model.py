"""The models of results.json, and the checks that results are complete and consistent.

`harness report --schema` generates the JSON Schema in `harness/report/results.schema.json` from these models.
Rows that come from a guest keep unknown keys, so that an old harness can read the results of a newer agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.plan.cells import PlainName
from harness.plan.matrix import Cmdline, Sysctl
from harness.plan.plan import Plan
from harness.results.packed import Packed
from harness.results.verdict import Verdict, run_exit_code, worst

CELLS_FOLLOW, CELLS_END = (
    ',"cells":[\n',
    "]}\n",
)  # the end of the first line of results.json, and the last line

Count = Annotated[int, Field(ge=0, lt=1 << 63)]
# Names are printed on terminals, in Markdown and in XML, and may come from a hostile file of another host.
Word = Annotated[str, Field(pattern=r"^[ -~]*$", max_length=1024)]
Seconds = Annotated[float, Field(ge=0, lt=1e10, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _GuestRow(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


_NO_FIELDS: set[str] = set()


class _Judged(_Model):
    """`fingerprint` identifies the crash or the kernel's complaint; "" if there was none."""

    verdict: Verdict
    reason: str = ""
    fingerprint: str = ""

    @model_validator(mode="after")
    def _reasoned(self) -> _Judged:
        if self.verdict.needs_reason and not self.reason:
            raise ValueError(f"{self.verdict} needs a reason")
        # Pydantic's set of the given fields is not used, and is half the size of a test without evidence.
        object.__setattr__(self, "__pydantic_fields_set__", _NO_FIELDS)
        return self


class Attempt(_Judged):
    """One attempt to run a test or cell."""

    duration_s: Seconds = 0.0


class Assertion(_GuestRow):
    """One comparison that a test made between an expected and an observed value."""

    name: str
    ok: bool
    expected: Any = None
    got: Any = None


class Lost(_GuestRow):
    """Lost events by the place that lost them."""

    ring_full: Count = 0
    oversize: Count = 0
    program_misses: Count = 0
    read_errors: Count = 0


class LedgerRow(_GuestRow):
    """The events of one type: generated = delivered + approver_rejected + discarded + lost.

    `misses_of_others` counts programs that the kernel skipped for other processes, as far as is known.
    """

    generated: Count = 0
    delivered: Count = 0
    matched: Count = 0
    unmatched: Count = 0
    approver_rejected: Count = 0
    discarded: Count = 0
    lost: Lost = Lost()
    misses_of_others: Count = 0


class Hook(_GuestRow):
    """One hook of a cell: the attached program, and how often the kernel ran it.

    `predicted` is the state that was predicted from the kernel's image before the boot; "" if unknown.
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
    """The result of one planned test; `attempts` has every attempt to run it, in order."""

    __test__ = False  # the name is not one of a pytest class

    name: PlainName
    duration_s: Seconds = 0.0
    attempts: tuple[Attempt, ...] = ()
    assertions: Annotated[Sequence[Assertion], Packed()] = ()
    ledger: Annotated[Mapping[str, LedgerRow], Packed()] = {}
    splats: tuple[Splat, ...] = ()


class Package(_Model):
    """A package of a kernel, or a file of a kernel of the user: then `name` is its purpose."""

    name: Word
    version: Word
    sha256: Word


class KernelFacts(_Model):
    """The requested kernel, and the release and packages to which it was resolved.

    `flavour` is that of Debian's kernels, and `vcpus` the number of processors of its guests; "" and 0 in
    results of an older harness.
    """

    name: Word
    requested: Word
    flavour: Word = ""
    vcpus: Count = 0
    release: Word = ""
    packages: tuple[Package, ...] = ()


class Agent(_Model):
    """The agent that was tested.

    `bundle` is a SHA-256 of the names and contents of its files; `objects` has one for each compiled file by
    name, which begins with the architecture. `common` is a digest of all other files. `commit` is the commit
    of the source tree, "" without a git checkout, and `clean` whether it had no changes, None if unknown.
    """

    bundle: Word
    objects: dict[Word, Word] = {}
    common: Word = ""
    commit: Word = ""
    clean: bool | None = None


class Phases(_Model):
    """Seconds that each phase of a cell took; only the cell that booted a shared machine counts its boot."""

    fetch_s: Seconds = 0.0
    image_s: Seconds = 0.0
    boot_s: Seconds = 0.0
    deploy_s: Seconds = 0.0
    load_s: Seconds = 0.0
    tests_s: Seconds = 0.0
    close_s: Seconds = 0.0
    start: Literal["cold", "warm"] = "cold"

    @property
    def total_s(self) -> float:
        """Seconds during which the machine was busy with this cell."""
        return self.boot_s + self.deploy_s + self.load_s + self.tests_s + self.close_s


class CellReport(_Model):
    """The observations of one visit of a cell, besides its tests.

    `cause` ended the visit early or fails the cell as a whole, or is None. `attempts` are earlier machines
    that did not start or were lost. `host` is the machine's host. `accelerator` is "kvm" or "tcg", ""
    without a machine; `notes` are remarks on the boot. `slowness` is how many times slower the guest is
    than an ordinary machine. The kernel printed `splats`, and no test has them. `uname` is the release that
    the guest's kernel reports. `closed` is true after the end of the cell was checked: the agent was stopped,
    leftovers were searched for, and the console was read to its end. `visit` names the visit.
    """

    id: str
    visit: str = ""
    closed: bool = False
    host: Word = ""
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
    hooks: Annotated[Sequence[Hook], Packed()] = ()
    cause: Attempt | None = None


class CellResult(_Judged):
    """One cell; its verdict is that of its worst test, or a worse one if the cell itself failed.

    `closed` is whether the end of the cell was checked; null in results of an older harness. `host` names the
    host that ran the cell. `uname` is the release that the guest reported; compare it with `kernel.release`.
    """

    id: PlainName
    closed: bool | None = None
    host: Word = ""
    kernel: KernelFacts
    arch: Word
    hookset: Word
    btf: Word
    transport: Word
    cmdline: Word = ""
    sysctl: Word = ""
    world: Word = ""
    attempts: tuple[Attempt, ...] = ()
    phases: Phases = Phases()
    accelerator: Word = ""
    notes: tuple[str, ...] = ()
    slowness: Seconds = 0.0
    uname: Word = ""
    capabilities: dict[str, str] = {}
    coverage: dict[str, str] = {}
    limits: dict[str, str] = {}
    hooks: Annotated[Sequence[Hook], Packed()] = ()
    splats: tuple[Splat, ...] = ()
    tests: tuple[TestResult, ...] = ()


class Host(_Model):
    """A host of the run."""

    name: Word = ""
    cpus: Count
    memory_mib: Count
    kernel: Word


class Failure(_Model):
    """A failure of the harness itself.

    `cell` has it as its verdict; it is "" if no cell shows it. One that was `unexpected` left a traceback.
    """

    what: str
    cell: Word = ""
    unexpected: bool = False


class RunInfo(_Model):
    """The run; `started` is ISO 8601 in UTC, `agent` None if only suites ran, `hosts` those of a cluster.

    `shards` has the duration of each shard of a merged run by its name, such as `2/6`, and `parts` the id of
    each run that it joins; a run that is no merge has none. `harness_digest` is one of the harness's own
    files, and `package_digest` of the sources of the Debian package that suites installed, "" if none did;
    both are "" in results of an older harness. `inputs` has a digest of each of the user's inputs that
    decides verdicts: the expectations, and the files of each suite.
    """

    id: Word
    started: Word
    duration_s: Seconds
    argv: tuple[str, ...]
    exit_code: int
    complete: bool
    host: Host
    hosts: tuple[Host, ...] = ()
    accelerator: Word
    harness_version: Word
    harness_digest: Word = ""
    package_digest: Word = ""
    agent: Agent | None = None
    inputs: dict[Word, Word] = {}
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    shards: dict[Word, Seconds] = {}
    parts: tuple[Word, ...] = ()


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

    def lines(self) -> Iterator[str]:
        """The text of results.json: a line for all but the cells, and a line for each cell."""
        head = self.model_dump_json(by_alias=True, exclude={"cells"})
        yield head.removesuffix("}") + CELLS_FOLLOW
        for number, cell in enumerate(self.cells, 1):
            yield cell.model_dump_json() + (",\n" if number < len(self.cells) else "\n")
        yield CELLS_END

    def lasting_failures(self) -> tuple[Failure, ...]:
        """Unexpected errors of the harness that stay when the cells without a result have run again."""
        again = {cell.id for cell in self.cells if cell.verdict.unknown}
        return tuple(one for one in self.run.failures if one.unexpected and one.cell not in again)

    def to_json(self) -> str:
        """The text of results.json, which may have hundreds of megabytes."""
        return "".join(self.lines())

    def verdicts(self) -> list[Verdict]:
        """The verdicts of all tests and of all cells."""
        tests = [test.verdict for cell in self.cells for test in cell.tests]
        return tests + [cell.verdict for cell in self.cells]


def cells_of(
    plan: Plan,
    reports: Mapping[str, CellReport],
    tests: Mapping[tuple[str, str], TestResult],
    kernels: Mapping[str, KernelFacts],
    why_not: str = "the run ended before it",
) -> tuple[CellResult, ...]:
    """One result for each planned cell, with every planned test; a missing one is NOT_RUN for `why_not`."""
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


def setting(chosen: Cmdline | Sysctl | None) -> str:
    """The text of a cell's command line or sysctls, as results have it."""
    if isinstance(chosen, Sysctl):
        return " ".join(chosen.values)[:1024]
    return chosen.args if chosen else ""


def totals(cells: Iterable[CellResult]) -> dict[Verdict, int]:
    """The number of tests with each verdict that occurs."""
    verdicts = [test.verdict for cell in cells for test in cell.tests]
    return {verdict: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts}


def complete(cells: Iterable[CellResult]) -> bool:
    """Whether every test has a result, and the end of every cell was checked."""
    return all(
        cell.closed is not False and all(test.verdict is not Verdict.NOT_RUN for test in cell.tests)
        for cell in cells
    )


def without_cell(failures: Iterable[Failure]) -> list[str]:
    """Return what failed in the harness and is the verdict of no cell."""
    return [failure.what for failure in failures if not failure.cell]


def exit_code(cells: Iterable[CellResult], unused: Iterable[str] = ()) -> int:
    """The exit code of a run with these results; `unused` has the lines of `exercise.unexercised`."""
    code = run_exit_code([cell.verdict for cell in cells])
    return Verdict.FAIL.exit_code if any(unused) else code


def schema_text() -> str:
    """The JSON Schema of results.json."""
    schema = Results.model_json_schema(mode="serialization", by_alias=True)
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _not_run(name: str, why: str) -> TestResult:
    return TestResult(name=name, verdict=Verdict.NOT_RUN, reason=why)


def _known(cause: Attempt, tests: list[TestResult]) -> bool:
    """Whether every test of a cell was expected to fail for the reason that ended the cell."""
    expected = all(test.verdict is Verdict.XFAIL and cause.reason in test.reason for test in tests)
    return bool(tests) and cause.verdict is Verdict.FAIL and expected


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
    unresolved = KernelFacts(name=cell.kernel.name, requested=cell.kernel.requested)
    return CellResult(
        id=cell_id,
        closed=report.closed,
        host=report.host,
        kernel=kernels.get(cell.machine, unresolved).model_copy(
            update={"flavour": cell.kernel.flavour, "vcpus": cell.kernel.vcpus}
        ),
        arch=cell.arch,
        hookset=cell.hookset,
        btf=cell.btf,
        transport=cell.transport,
        cmdline=setting(cell.cmdline),
        sysctl=setting(cell.sysctl),
        world=cell.world,
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
    """The verdict of the cell as a whole, with the reason of the first test or cause that has it."""
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
