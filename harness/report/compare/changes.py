"""Names the change from one verdict to another, and decides whether the product regressed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from harness.report.shared.verdicts import own_verdict, sentence
from harness.results import model
from harness.results.model import Results
from harness.results.verdict import Verdict

FAILING = frozenset({Verdict.SPLAT, Verdict.FAIL, Verdict.TIMEOUT, Verdict.CRASH})
UNKNOWN = frozenset(verdict for verdict in Verdict if verdict.unknown)


class Kind(enum.StrEnum):
    """The name of a change of verdict, in the order of the report."""

    NEWLY_FAILING = "newly failing"
    WORSE = "failing in a worse way"
    NEWLY_FLAKY = "newly flaky"
    UNEXPECTED_PASS = "passing against expectations.yaml"  # noqa: S105 - not a password
    LOST = "no longer known"
    NEWLY_SKIPPED = "newly skipped"
    EXCUSED = "newly expected to fail"
    MILDER = "failing in a milder way"
    FIXED = "fixed"
    KNOWN_AGAIN = "known again"
    PASSING = "newly passing"


# The change to each verdict that is neither PASS nor in FAILING. A verdict without an entry raises KeyError,
# and a test compares every pair of verdicts.
_BECAME = {
    Verdict.FLAKY: Kind.NEWLY_FLAKY,
    Verdict.XPASS: Kind.UNEXPECTED_PASS,
    Verdict.SKIP: Kind.NEWLY_SKIPPED,
    Verdict.XFAIL: Kind.EXCUSED,
} | dict.fromkeys(UNKNOWN, Kind.LOST)


@dataclass(frozen=True)
class Change:
    """A test whose verdict changed.

    `test` is empty for the cell's own verdict, and `cell` too for that of the run as a whole. `hosts` names
    the two hosts on which the cell ran, if they differ.
    """

    kind: Kind
    cell: str
    test: str
    old: Verdict
    new: Verdict
    reason: str
    regression: bool
    hosts: tuple[str, str] | None = None


def changes(old: Results, new: Results) -> list[Change]:
    """Return each verdict that both runs have and that differs, by kind, then in the order of the new run."""
    before = {(cell, test): verdict for cell, test, verdict, _ in _verdicts(old)}
    moved = _moved(old, new)
    changed = [
        _change(cell, test, before[cell, test], verdict, reason, moved.get(cell))
        for cell, test, verdict, reason in _verdicts(new)
        if before.get((cell, test), verdict) is not verdict
    ]
    order = list(Kind)
    return sorted(changed, key=lambda change: order.index(change.kind))


def kind_of(old: Verdict, new: Verdict) -> Kind:
    """Return the name of the change from `old` to another verdict `new`."""
    if new in FAILING:
        if old not in FAILING:
            return Kind.NEWLY_FAILING
        return Kind.WORSE if new.badness > old.badness else Kind.MILDER
    if new is Verdict.PASS:
        return _why_passing(old)
    if new is Verdict.FLAKY and old in FAILING:
        return Kind.MILDER
    return _BECAME[new]


def regressed(old: Verdict, new: Verdict) -> bool:
    """Return whether the product got worse: it fails or is flaky now, and `old` was better.

    An unknown verdict counts as better, so that a failed download does not hide a regression. XPASS is no
    regression: the expectation is out of date.
    """
    ends_badly = new in FAILING or new is Verdict.FLAKY
    before = Verdict.PASS if old is Verdict.XPASS else old
    return ends_badly and new.badness > before.badness


def lost_verdict(old: Verdict, new: Verdict) -> bool:
    """Return whether `new` says nothing about the product although `old` did: unknown, or skipped."""
    mute = UNKNOWN | {Verdict.SKIP}
    return new in mute and old not in mute


def fails(verdict: Verdict) -> bool:
    """Return whether the verdict of a new cell or test means that the product fails."""
    return verdict in FAILING or verdict is Verdict.FLAKY


def run_verdict(results: Results) -> Verdict:
    """Return the verdict of the run as a whole: PASS if its exit code is that of its cells.

    A run may have a worse one, for example because no cell exercised a hook set. If the harness failed, the
    run is INFRA also beside a cell with that exit code, unless the cell has the failure as its verdict.
    """
    code = results.run.exit_code
    if code == model.exit_code(results.cells):
        failed = any(not failure.cell for failure in results.run.failures)
        return Verdict.INFRA if failed else Verdict.PASS
    return {0: Verdict.PASS, 3: Verdict.INFRA, 4: Verdict.NOT_RUN}.get(code, Verdict.FAIL)


def _verdicts(results: Results) -> Iterator[tuple[str, str, Verdict, str]]:
    whole = f"exit code {results.run.exit_code}: {'; '.join(results.run.notes) or sentence(results)}"
    yield "", "", run_verdict(results), whole
    for cell in results.cells:
        yield cell.id, "", own_verdict(cell), cell.reason
        for test in cell.tests:
            yield cell.id, test.name, test.verdict, test.reason


def _moved(old: Results, new: Results) -> dict[str, tuple[str, str]]:
    """Return the two hosts of each cell that ran on different ones."""
    before = {cell.id: cell.host for cell in old.cells}
    pairs = {cell.id: (before.get(cell.id, ""), cell.host) for cell in new.cells}
    return {name: pair for name, pair in pairs.items() if all(pair) and pair[0] != pair[1]}


def _change(
    cell: str, test: str, old: Verdict, new: Verdict, reason: str, hosts: tuple[str, str] | None
) -> Change:
    return Change(kind_of(old, new), cell, test, old, new, reason, regressed(old, new), hosts)


def _why_passing(old: Verdict) -> Kind:
    if old in FAILING or old is Verdict.FLAKY:
        return Kind.FIXED
    return Kind.KNOWN_AGAIN if old in UNKNOWN else Kind.PASSING
