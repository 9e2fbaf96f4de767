"""Joins two results of one test, or several visits of one cell, so that the worst one is kept."""

from __future__ import annotations

from collections.abc import Sequence

from harness.results.model import Attempt, CellReport, Phases, TestResult

_SUMMED = ("fetch_s", "image_s", "boot_s", "deploy_s", "load_s", "tests_s", "close_s")
_LATEST = ("host", "uname", "accelerator", "slowness", "capabilities", "coverage", "limits", "hooks")


def worse(first: TestResult, second: TestResult) -> TestResult:
    """The worse of two results of one test, with the attempts of both; the first if they are equal.

    A result that begins with the attempts of the first one continues it, and was judged with them.
    """
    if first.attempts and second.attempts[: len(first.attempts)] == first.attempts:
        return second
    worst = second if second.verdict.badness > first.verdict.badness else first
    return worst.model_copy(update={"attempts": (*first.attempts, *second.attempts)})


def joined(visits: Sequence[CellReport]) -> CellReport:
    """One report for all visits of a cell, of which there is at least one.

    It has the worst cause, is closed only if all visits are, and describes the kernel by the facts of the
    last visit that has them.
    """
    if len(visits) == 1:
        return visits[0]
    causes = [visit.cause for visit in visits if visit.cause]
    cause = max(causes, key=lambda attempt: attempt.verdict.badness, default=None)
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
    """All attempts in order, without `cause`, which becomes the verdict of the cell."""
    attempts: list[Attempt] = []
    for visit in visits:
        attempts += visit.attempts
        if visit.cause and visit.cause is not cause:
            attempts.append(visit.cause)
    return tuple(attempts)


def _phases(visits: Sequence[CellReport]) -> Phases:
    total = {name: sum(getattr(visit.phases, name) for visit in visits) for name in _SUMMED}
    return visits[-1].phases.model_copy(update=total)
