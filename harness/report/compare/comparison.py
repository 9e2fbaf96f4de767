"""Compares the results of two runs; pure functions, without files or output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import IncompleteError, ProductError
from harness.report.compare import noise
from harness.report.compare.changes import Change, changes, fails, lost_verdict, run_verdict
from harness.report.compare.noise import Pair
from harness.report.shared.hooks import hooks_in_use
from harness.results.model import Agent, CellResult, KernelFacts, Results, TestResult
from harness.results.verdict import Verdict
from harness.text import counted

Hooks = tuple[tuple[str, str], ...]  # (program type, point) of each hook of an event


@dataclass(frozen=True)
class Entry:
    """A cell or a test that only one of the two runs has; `test` is empty for a cell."""

    cell: str
    test: str
    verdict: Verdict


@dataclass(frozen=True)
class KernelMove:
    """A kernel whose release or packages changed; `gone` and `new` are (name, version) of packages."""

    kernel: str
    arch: str
    old_release: str
    new_release: str
    gone: tuple[tuple[str, str], ...]
    new: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HookChange:
    """An event that other hooks serve now."""

    cell: str
    event: str
    old: Hooks
    new: Hooks


@dataclass(frozen=True)
class CapabilityChange:
    """A program type whose observed state changed; a state is empty if it was not observed."""

    cell: str
    type: str
    old: str
    new: str


@dataclass(frozen=True)
class InstructionChange:
    """A program whose number of verified instructions changed."""

    cell: str
    program: str
    old: int
    new: int


@dataclass(frozen=True)
class Comparison:
    """All differences between two runs.

    `before` is the number of tests of the old run, `common` of those that both runs have, `judged` of the
    common ones that still have a verdict on the product, and `passed` of those that pass in the new run.
    `incomplete` means that something planned has no result in the new run, although the old one was complete.
    `failure` is the exit code of a new run that failed for a reason that none of its cells has, else 0.
    An entry of `agents` is None if the results do not name the agent. `host_factor` is how many times slower
    the new host was, None if the accelerators differ.
    """

    old_run: str
    new_run: str
    agents: tuple[Agent | None, Agent | None]
    before: int
    common: int
    judged: int
    passed: int
    incomplete: bool
    failure: int
    changes: tuple[Change, ...]
    new: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    kernels: tuple[KernelMove, ...]
    rungs: tuple[HookChange, ...]  # other hooks serve an event; the name is a key of the JSON
    capabilities: tuple[CapabilityChange, ...]
    instructions: tuple[InstructionChange, ...]
    times: tuple[Pair, ...]
    host_factor: float | None

    @property
    def regressions(self) -> list[Change | Entry]:
        """The changes that make the product worse, and new cells and tests that fail."""
        new = [entry for entry in self.new if fails(entry.verdict)]
        return [*(change for change in self.changes if change.regression), *new]

    @property
    def incomparable(self) -> str:
        """Why these runs cannot be compared; "" if they can."""
        if not self.common:
            return "the runs have no test in common"
        if 2 * self.common <= self.before:
            return f"{self.before - self.common} of {counted(self.before, 'test')} of the old run are gone"
        if not self.passed:
            return "no test that both runs have passed in the new run"
        if 2 * self.judged <= self.common:
            lost = self.common - self.judged
            return f"{lost} of {counted(self.common, 'test')} of both runs lost their verdict"
        if self.failure:
            return f"the new run has exit code {self.failure} for a reason that no cell shows"
        return "the new run is incomplete" if self.incomplete else ""

    @property
    def other_agent(self) -> bool:
        """Whether the two runs are known to have tested different agents."""
        old, new = self.agents
        return bool(old and new and old.bundle != new.bundle)

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        lists = (self.changes, self.new, self.gone, self.kernels, self.rungs, self.capabilities)
        return not any((*lists, self.instructions, self.times, self.other_agent, self.incomparable))

    @property
    def exit_code(self) -> int:
        """1 if the product regressed, 4 if the runs cannot be compared, else 0."""
        if self.regressions:
            return ProductError.exit_code
        return IncompleteError.exit_code if self.incomparable else 0


def compare(old: Results, new: Results) -> Comparison:
    """Return all differences from `old` to `new`."""
    before = {cell.id: cell for cell in old.cells}
    both = [(before[cell.id], cell) for cell in new.cells if cell.id in before]
    times, host = _times(old, new, both)
    earlier = {(cell.id, test.name): test.verdict for cell in old.cells for test in cell.tests}
    later = {(cell.id, test.name): test.verdict for cell in new.cells for test in cell.tests}
    common = [verdict for pair, verdict in later.items() if pair in earlier]
    lost = [pair for pair, verdict in later.items() if lost_verdict(earlier.get(pair, verdict), verdict)]
    return Comparison(
        old_run=old.run.id,
        new_run=new.run.id,
        agents=(old.run.agent, new.run.agent),
        before=len(earlier),
        common=len(common),
        judged=len(common) - len(lost),
        passed=common.count(Verdict.PASS),
        incomplete=old.run.complete and not new.run.complete,
        failure=0 if run_verdict(new) is Verdict.PASS else new.run.exit_code,
        changes=tuple(changes(old, new)),
        new=tuple(_only_in(new, old)),
        gone=tuple(_only_in(old, new)),
        kernels=tuple(_kernel_moves(both)),
        rungs=tuple(change for pair in both for change in _hook_changes(*pair)),
        capabilities=tuple(change for pair in both for change in _capability_changes(*pair)),
        instructions=tuple(change for pair in both for change in _instruction_changes(*pair)),
        times=tuple(times),
        host_factor=host,
    )


def _only_in(here: Results, there: Results) -> Iterator[Entry]:
    others = {cell.id: {test.name for test in cell.tests} for cell in there.cells}
    for cell in here.cells:
        if cell.id not in others:
            yield Entry(cell.id, "", cell.verdict)
            continue
        for test in cell.tests:
            if test.name not in others[cell.id]:
                yield Entry(cell.id, test.name, test.verdict)


def _kernel_moves(both: list[tuple[CellResult, CellResult]]) -> Iterator[KernelMove]:
    seen: set[tuple[str, str]] = set()
    for old, new in both:
        key = (new.kernel.name, new.arch)
        known = old.kernel.release and new.kernel.release
        if known and key not in seen and _identity(old.kernel) != _identity(new.kernel):
            seen.add(key)
            yield _kernel_move(old.kernel, new.kernel, new.arch)


def _identity(kernel: KernelFacts) -> tuple[str, frozenset[tuple[str, str, str]]]:
    packages = frozenset((package.name, package.version, package.sha256) for package in kernel.packages)
    return kernel.release, packages


def _kernel_move(old: KernelFacts, new: KernelFacts, arch: str) -> KernelMove:
    gone = [package for package in old.packages if package not in new.packages]
    added = [package for package in new.packages if package not in old.packages]
    return KernelMove(
        kernel=new.name,
        arch=arch,
        old_release=old.release,
        new_release=new.release,
        gone=tuple((package.name, package.version) for package in gone),
        new=tuple((package.name, package.version) for package in added),
    )


def _hook_changes(old: CellResult, new: CellResult) -> Iterator[HookChange]:
    if not (old.hooks and new.hooks):  # one of the cells ended before the agent chose hooks
        return
    old_hooks, new_hooks = list(old.hooks), list(new.hooks)
    for event in dict.fromkeys(hook.event for hook in (*old_hooks, *new_hooks)):
        before = hooks_in_use(hook for hook in old_hooks if hook.event == event)
        after = hooks_in_use(hook for hook in new_hooks if hook.event == event)
        if before != after:
            yield HookChange(new.id, event, before, after)


def _capability_changes(old: CellResult, new: CellResult) -> Iterator[CapabilityChange]:
    if not (old.capabilities and new.capabilities):
        return
    for name in dict.fromkeys((*old.capabilities, *new.capabilities)):
        before, after = old.capabilities.get(name, ""), new.capabilities.get(name, "")
        if before != after:
            yield CapabilityChange(new.id, name, before, after)


def _instruction_changes(old: CellResult, new: CellResult) -> Iterator[InstructionChange]:
    before = _instructions(old)
    for program, count in _instructions(new).items():
        if before.get(program, count) != count:
            yield InstructionChange(new.id, program, before[program], count)


def _instructions(cell: CellResult) -> dict[str, int]:
    return {hook.program: hook.insns for hook in cell.hooks if hook.program and hook.insns is not None}


def _times(
    old: Results, new: Results, both: list[tuple[CellResult, CellResult]]
) -> tuple[list[Pair], float | None]:
    if old.run.accelerator != new.run.accelerator:
        return [], None
    pairs = [pair for cells in both for pair in _pairs(*cells)]
    by_kind = {kind: [pair for pair in pairs if pair.kind == kind] for kind in noise.FLOOR_S}
    host = noise.host_factor(by_kind["boot"])
    return [pair for found in by_kind.values() for pair in noise.moved(found, host)], host


def _pairs(old: CellResult, new: CellResult) -> Iterator[Pair]:
    if old.phases.start == new.phases.start and min(old.phases.boot_s, new.phases.boot_s) > 0:
        yield Pair("boot", new.id, "", old.phases.boot_s, new.phases.boot_s)
    if min(old.phases.load_s, new.phases.load_s) > 0:
        yield Pair("load", new.id, "", old.phases.load_s, new.phases.load_s)
    before = {test.name: test for test in old.tests if _timed(test)}
    for test in new.tests:
        if _timed(test) and test.name in before:
            yield Pair("test", new.id, test.name, before[test.name].duration_s, test.duration_s)


def _timed(test: TestResult) -> bool:
    return test.verdict is Verdict.PASS and test.duration_s > 0
