"""Makes the plan of a run, before anything boots: the cells that the user selects, each with its tests.

A plan is plain data, and plan.json is its text. Results are compared with it: each planned test ends in
exactly one verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.selftest import catalogue
from harness.errors import ConfigError
from harness.plan.cells import Candidate, Cell, PlainName, expand, fits
from harness.plan.matrix import Kernel, Matrix, nearest

SCHEMA = 1
NIGHTLY_TESTS = frozenset(scenario.name for scenario in catalogue.select([f"@{catalogue.NIGHTLY}"]))
AUTO_TESTS = frozenset(scenario.name for scenario in catalogue.select([f"@{catalogue.AUTO}"]))


class Omitted(BaseModel):
    """A cell of the matrix that this run leaves out, and the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: PlainName
    reason: str


class Selectors(BaseModel):
    """The selecting options of the command line; each may repeat, and an empty one selects everything."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kernel: tuple[str, ...] = ()
    hookset: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()

    @property
    def narrow(self) -> bool:
        """Whether the user selects only parts of the matrix; a tag adds cells and does not count."""
        return bool(self.kernel or self.hookset or self.test or self.arch)


class Plan(BaseModel):
    """`cells` run in this order; cells of one machine are neighbours. `nightly` are tests that are left out.

    `exercise` are the hook sets of which each must fire in some cell of this run. It is empty if the user
    selected only parts of the matrix. With `must_pass` each test must pass in some cell of this run. `shard`,
    such as "2/3", says that other runs have the rest. `selectors` are those of the command line; the plan is
    `narrower` than they say if the user also chose tests by options of pytest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    plan_schema: int = Field(default=SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    cells: tuple[Cell, ...]
    omitted: tuple[Omitted, ...] = ()
    nightly: tuple[str, ...] = ()
    exercise: tuple[str, ...] = ()
    must_pass: bool = False
    selectors: Selectors = Selectors()
    narrower: bool = False
    shard: str = Field(default="", pattern=r"^([1-9][0-9]{0,3}/[1-9][0-9]{0,3})?$")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Plan:
        """A plan.json from another host could have two cells, or two machines, with one name."""
        if len({cell.id for cell in self.cells}) < len(self.cells):
            raise ValueError("two cells have the same name")
        machines = {cell.machine: cell.machine_key for cell in self.cells}
        if any(machines[cell.machine] != cell.machine_key for cell in self.cells):
            raise ValueError("two machines have the same name")
        return self

    def cell(self, cell_id: str) -> Cell:
        """The cell of that id; raises KeyError."""
        for cell in self.cells:
            if cell.id == cell_id:
                return cell
        raise KeyError(cell_id)

    def machines(self) -> dict[str, list[Cell]]:
        """The cells of each machine, in plan order."""
        grouped: dict[str, list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault(cell.machine, []).append(cell)
        return grouped

    def pairs(self) -> list[tuple[str, str]]:
        """Every planned test as (cell id, test name)."""
        return [(cell.id, test) for cell in self.cells for test in cell.tests]

    def narrowed(self, kept: Iterable[tuple[str, str]]) -> Plan:
        """The plan with only the tests in `kept`, without cells that have none of them."""
        keep = set(kept)
        cells = (
            cell.model_copy(update={"tests": tuple(test for test in cell.tests if (cell.id, test) in keep)})
            for cell in self.cells
        )
        kept_cells = tuple(cell for cell in cells if cell.tests)
        if kept_cells == self.cells:
            return self
        return self.model_copy(update={"cells": kept_cells, "exercise": (), "narrower": True})

    def to_json(self) -> str:
        """The text of plan.json."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


def make(matrix: Matrix, selectors: Selectors, releases: Mapping[str, str] | None = None) -> Plan:
    """The plan of a run.

    `releases` maps names of kernels to their resolved releases, where these are known; the user may select a
    kernel by either. Raises ConfigError for a selector that matches nothing.
    """
    releases = releases or {}
    check(matrix, selectors, releases)
    cells: dict[str, Cell] = {}
    omitted: dict[str, str] = {}
    nightly: set[str] = set()
    for candidate in expand(matrix):
        cell = candidate.cell
        reason = _reason_against(candidate, selectors, releases)
        if reason:
            omitted.setdefault(cell.id, reason)
        else:
            wanted = set(tests_of(cell, selectors.test)) & set(tests_of(cell, _globs(candidate, selectors)))
            kept, later = _by_day(wanted, candidate, selectors)
            cells[cell.id] = _wider(cells.get(cell.id, cell), kept)
            nightly |= later
    cells = {name: cell for name, cell in cells.items() if cell.tests}
    if not cells:
        names = ", ".join(_in_order(nightly))
        hint = f"{names}: only with --tag {catalogue.NIGHTLY}, or by name" if names else _first(omitted)
        raise ConfigError("the plan is empty: no test of a cell matches all selectors", hint=hint)
    left_out = tuple(Omitted(id=name, reason=why) for name, why in omitted.items() if name not in cells)
    exercise = () if selectors.narrow else _declared(matrix, selectors)
    return Plan(
        schema=SCHEMA,
        cells=_by_machine(cells.values()),
        omitted=left_out,
        nightly=_in_order(nightly),
        exercise=exercise,
        selectors=selectors,
    )


def has_kernel(matrix: Matrix, glob: str, releases: Mapping[str, str] | None = None) -> bool:
    """Whether a kernel's name, or its release where that is known, matches."""
    return any(_kernel_fits(kernel, (glob,), releases or {}) for kernel in matrix.kernels)


def _globs(candidate: Candidate, selectors: Selectors) -> tuple[str, ...]:
    """The tests of an entry. Those of a kernel are what runs there unless the user names tests."""
    return () if selectors.test and candidate.place[0] == "kernels" else candidate.tests


def reasons(matrix: Matrix, plan: Plan, selectors: Selectors) -> dict[str, str]:
    """Why each cell of `plan` is in it: the purposes, or the names, of the matrix's selected entries."""
    planned = {cell.id for cell in plan.cells}
    words: dict[str, dict[str, None]] = {}
    for candidate in expand(matrix):
        if candidate.cell.id in planned and not _untagged(candidate, selectors):
            words.setdefault(candidate.cell.id, {})[_purpose(matrix, candidate)] = None
    return {name: "; ".join(words.get(name, ())) for name in (cell.id for cell in plan.cells)}


def _purpose(matrix: Matrix, candidate: Candidate) -> str:
    key, index = candidate.place
    if key == "kernels":
        kernel = candidate.cell.kernel
        return kernel.why or ", ".join((f"kernel {kernel.name}", *kernel.tests))
    if key == "include" and isinstance(index, int):
        return matrix.include[index].why or f"include {index + 1}"
    return candidate.cell.hookset


def whole_night(matrix: Matrix) -> Plan:
    """The plan of `make nightly`: every cell and test of the matrix with the tag nightly."""
    return make(matrix, Selectors(tag=(catalogue.NIGHTLY,)))


def everything(matrix: Matrix) -> Plan:
    """The plan of every cell and test of the matrix, whatever tag it needs."""
    tags = {tag for candidate in expand(matrix) for entry in candidate.tags for tag in entry}
    return make(matrix, Selectors(tag=tuple(sorted({*tags, catalogue.NIGHTLY}))))


def _by_day(tests: set[str], candidate: Candidate, selectors: Selectors) -> tuple[set[str], set[str]]:
    """The `tests` of this run, and those that are left out because they are nightly.

    A nightly test runs only if the command line or the matrix has its full name or its tag; a glob that
    matches it is not enough.
    """
    named = {*selectors.test, *candidate.tests}
    if catalogue.NIGHTLY in selectors.tag or f"@{catalogue.NIGHTLY}" in named:
        return tests, set()
    later = (tests & NIGHTLY_TESTS) - named
    return tests - later, later


def _in_order(names: set[str]) -> tuple[str, ...]:
    return tuple(scenario.name for scenario in catalogue.CATALOGUE if scenario.name in names)


def _declared(matrix: Matrix, selectors: Selectors) -> tuple[str, ...]:
    """The hook sets of the entries that the tags of this run select, also of those that `exclude` removes."""
    tagged = (candidate for candidate in expand(matrix) if not _untagged(candidate, selectors))
    return tuple(dict.fromkeys(candidate.cell.hookset for candidate in tagged if not candidate.cell.suite))


def _wider(cell: Cell, tests: set[str]) -> Cell:
    """The cell with `tests` added, in the catalogue's order."""
    wanted = tests.union(cell.tests)
    names = tuple(name for name in tests_of(cell, ()) if name in wanted)
    return cell.model_copy(update={"tests": names})


def tests_of(cell: Cell, globs: tuple[str, ...]) -> tuple[str, ...]:
    """The tests of a cell that the globs select; see `catalogue.select`.

    A test of all hook sets is planned once for a kernel and its settings: with `auto`.
    """
    if cell.suite is None:
        plain = (cell.hookset, cell.btf, cell.transport) == ("auto", "kernel", "ringbuf")
        names = (scenario.name for scenario in catalogue.select(globs))
        return tuple(name for name in names if plain or name not in AUTO_TESTS)
    wanted = tuple(glob for glob in globs if not glob.startswith("!")) or ("*",)
    unwanted = tuple(glob[1:] for glob in globs if glob.startswith("!"))
    name = cell.suite.test
    return (name,) if fits(name, wanted) and not fits(name, unwanted) else ()


def check(matrix: Matrix, selectors: Selectors, releases: Mapping[str, str]) -> None:
    """Raise ConfigError for a selector that matches nothing: a misspelt one must not cause an empty run."""
    for option, words in selectors:
        if not all(words):
            raise ConfigError(f"--{option} is empty", hint=f"name one, or leave --{option} out")
    for glob in selectors.kernel:
        if not has_kernel(matrix, glob, releases):
            names = [kernel.name for kernel in matrix.kernels]
            raise ConfigError(f"--kernel {glob}: no such kernel in the matrix{nearest(glob, names)}")
    _check_tests("--test", selectors.test, [suite.test for suite in matrix.suites])
    for where, entries in (("kernels", matrix.kernels), ("include", matrix.include)):
        for entry in entries:
            _check_tests(f"{where}: tests:", entry.tests, [])
    candidates = list(expand(matrix))
    _check_axis("--hookset", selectors.hookset, {candidate.cell.hookset for candidate in candidates})
    _check_axis("--arch", selectors.arch, {candidate.cell.arch for candidate in candidates})
    tags = {tag for candidate in candidates for entry in candidate.tags for tag in entry}
    _check_axis("--tag", selectors.tag, tags | {catalogue.NIGHTLY})


def _check_tests(where: str, globs: tuple[str, ...], suites: list[str]) -> None:
    for glob in catalogue.unknown(globs):
        if not any(fits(name, (glob.removeprefix("!"),)) for name in suites):
            names = [scenario.name for scenario in catalogue.CATALOGUE] + suites
            raise ConfigError(f"{where} {glob}: no such test{nearest(glob.removeprefix('!'), names)}")


def _check_axis(option: str, words: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for word in words:
        if word not in names:
            raise ConfigError(f"{option} {word}: not in the matrix{nearest(word, names)}")


def _reason_against(candidate: Candidate, selectors: Selectors, releases: Mapping[str, str]) -> str:
    cell = candidate.cell
    if cell.compiles and cell.hookset not in ("auto", "bcc"):
        return f"hook set {cell.hookset} needs BTF; without BTF only bcc works"
    if candidate.excluded:
        return f"excluded by the matrix: {candidate.excluded}"
    if selectors.kernel and not _kernel_fits(cell.kernel, selectors.kernel, releases):
        return "not selected by --kernel"
    if selectors.hookset and cell.hookset not in selectors.hookset:
        return "not selected by --hookset"
    if selectors.arch and cell.arch not in selectors.arch:
        return "not selected by --arch"
    return _untagged(candidate, selectors)


def _untagged(candidate: Candidate, selectors: Selectors) -> str:
    if _named(candidate.cell, selectors):
        return ""
    for tags in candidate.tags:
        if tags and not set(tags) & set(selectors.tag):
            return f"runs only with {' or '.join(f'--tag {tag}' for tag in tags)}"
    return ""


def _named(cell: Cell, selectors: Selectors) -> bool:
    """Whether the user selects the cell by kernel and hook set; such a cell without variants needs no tag."""
    variant = (cell.btf, cell.transport, cell.cmdline, cell.sysctl, cell.world)
    plain = variant == ("kernel", "ringbuf", None, None, "")
    asked = cell.arch == "amd64" or cell.arch in selectors.arch
    return plain and asked and cell.kernel.name in selectors.kernel and cell.hookset in selectors.hookset


def _kernel_fits(kernel: Kernel, globs: tuple[str, ...], releases: Mapping[str, str]) -> bool:
    return fits(kernel.name, globs) or fits(releases.get(kernel.name, kernel.name), globs)


def _by_machine(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    plan = Plan(schema=SCHEMA, cells=tuple(cells))
    return tuple(cell for group in plan.machines().values() for cell in group)


def _first(omitted: Mapping[str, str]) -> str:
    # The user probably means a cell that lacks only a tag, so these come first.
    rows = sorted(omitted.items(), key=lambda row: row[1].startswith("not selected"))
    return "; ".join(f"{name}: {reason}" for name, reason in rows[:3])


def events_of(tests: Iterable[str]) -> tuple[str, ...]:
    """The labels of the event types that these tests need; a program of a suite needs none."""
    found = (catalogue.by_name(test) for test in tests)
    return tuple(dict.fromkeys(event for scenario in found if scenario for event in scenario.events))
