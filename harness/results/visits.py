"""Two results of one test, and several visits of one cell, joined so that nothing bad is lost."""

from __future__ import annotations

from collections.abc import Sequence

from harness.results.model import Attempt, CellReport, Phases, TestResult

_SUMMED = ("fetch_s", "image_s", "boot_s", "deploy_s", "load_s", "tests_s")
_LATEST = ("uname", "accelerator", "slowness", "capabilities", "coverage", "limits", "hooks")


def worse(first: TestResult, second: TestResult) -> TestResult:
    """The worse of two results of one test, with the attempts of both; the first of equals."""
    found = second if second.verdict.badness > first.verdict.badness else first
    return found.model_copy(update={"attempts": (*first.attempts, *second.attempts)})


def joined(visits: Sequence[CellReport]) -> CellReport:
    """One report of all visits of a cell, at least one: the worst cause, and closed only if all are.

    What describes the kernel is that of the last visit that knew it.
    """
    if len(visits) == 1:
        return visits[0]
    causes = [visit.cause for visit in visits if visit.cause]
    cause = max(causes, key=lambda one: one.verdict.badness, default=None)
    latest = {
        name: next((value for visit in reversed(visits) if (value := getattr(visit, name))), None)
        for name in _LATEST
    }
    return visits[-1].model_copy(
        update={
            **{name: value for name, value in latest.items() if value},
            "closed": all(visit.closed for visit in visits),
            "cause": cause,
            "attempts": _attempts(visits, cause),
            "notes": tuple(dict.fromkeys(note for visit in visits for note in visit.notes)),
            "splats": tuple(splat for visit in visits for splat in visit.splats),
            "phases": _phases(visits),
        }
    )


def _attempts(visits: Sequence[CellReport], cause: Attempt | None) -> tuple[Attempt, ...]:
    """All attempts in order; `cause` is left out, because it becomes the verdict of the cell."""
    found: list[Attempt] = []
    for visit in visits:
        found += visit.attempts
        if visit.cause and visit.cause is not cause:
            found.append(visit.cause)
    return tuple(found)


def _phases(visits: Sequence[CellReport]) -> Phases:
    total = {name: sum(getattr(visit.phases, name) for visit in visits) for name in _SUMMED}
    return visits[-1].phases.model_copy(update=total)
