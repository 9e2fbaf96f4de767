"""From what happened to what it means: an error, a guest's end or an answer becomes a verdict.

Words that come out of a guest are hostile: they become plain, visible text of bounded length here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from agent.selftest.protocol import Ran
from harness.console.complaints import Found, fingerprint, scan
from harness.errors import HarnessError, HungError, IncompleteError, ProductError
from harness.results.ledger import accounts
from harness.results.model import Attempt, Splat, TestResult
from harness.results.verdict import Verdict, worst
from harness.text import one_line
from harness.vm.life import Death

REASON_LIMIT = 500  # characters
DEPTH_LIMIT = 20  # of what is nested in a guest's answer
NUMBER_LIMIT = 1 << 63

Allowed = Callable[[Splat], str]
"""Why a complaint of the kernel is allowed; "" if it is not."""


def classify(error: HarnessError, death: Death | None, *, booting: bool, answers: bool = False) -> Attempt:
    """What `error` means, given what is known about the guest's end and whether it still runs commands.

    A guest's own end outweighs the symptom that made it known. While `booting` the agent is not there, so
    nothing is the product's fault.
    """
    verdict, reason = _class_of(error, death, booting=booting), str(death or "") or _words(error)
    if verdict is Verdict.TIMEOUT:
        alive = f"answers: {_program(error)} hung" if answers else "does not answer: its kernel hung"
        reason = f"{reason}; the guest {alive}"
    trace = one_line(fingerprint(death.console), REASON_LIMIT) if death else ""
    if verdict is Verdict.CRASH and trace:
        reason = f"{reason} [{trace}]"
    return Attempt(verdict=verdict, reason=one_line(reason, REASON_LIMIT), fingerprint=trace)


def _program(error: HarnessError) -> str:
    return error.program if isinstance(error, HungError) else "the agent"


def _class_of(error: HarnessError, death: Death | None, *, booting: bool) -> Verdict:
    if isinstance(error, IncompleteError):
        return Verdict.NOT_RUN
    if death and death.blames_guest:
        return Verdict.BOOT_FAIL if booting else Verdict.CRASH
    if death:
        return Verdict.INFRA
    if isinstance(error, HungError):
        return Verdict.BOOT_FAIL if booting else Verdict.TIMEOUT
    if isinstance(error, ProductError) and not booting:
        return Verdict.FAIL
    return Verdict.INFRA


def _words(error: HarnessError) -> str:
    return error.message or type(error).__name__


def result_of(name: str, ran: Ran) -> TestResult:
    """What the guest answered, held against its shape: an answer that contradicts itself is a failure."""
    if ran.name != name:
        return _failed(name, f"the agent answered for {ran.name!r}")
    verdict, reason = _stated(ran)
    attempt = {"verdict": verdict, "reason": one_line(reason, REASON_LIMIT), "duration_s": ran.duration_s}
    answer = {"name": name, "assertions": ran.assertions, "ledger": ran.ledger}
    try:
        result = TestResult.model_validate({**clean(answer), **attempt, "attempts": [attempt]})
    except ValidationError as error:
        return _failed(name, f"malformed answer: {problem(error)}")
    unclosed = [account.event for account in accounts(result.ledger) if not account.ok]
    if verdict is Verdict.PASS and unclosed:
        failed = _failed(name, f"the ledger of {', '.join(unclosed)} does not close")
        return failed.model_copy(update={"assertions": result.assertions, "ledger": result.ledger})
    return result


def _stated(ran: Ran) -> tuple[Verdict, str]:
    """The guest's verdict, or FAIL where its own assertions say otherwise; with a reason unless PASS."""
    rows = [row for row in ran.assertions if isinstance(row, dict)]
    unmet = ", ".join(str(row.get("name")) for row in rows if row.get("ok") is not True)
    verdict = Verdict(ran.verdict)
    if verdict is Verdict.PASS and unmet:
        return Verdict.FAIL, f"said PASS, but {unmet} is not as expected"
    if verdict is Verdict.PASS and not ran.assertions:
        return Verdict.FAIL, "said PASS and asserted nothing"
    if verdict is Verdict.PASS or ran.reason:
        return verdict, ran.reason
    return verdict, f"{unmet} not as expected" if unmet else f"{verdict} without a reason"


def _failed(name: str, reason: str) -> TestResult:
    return as_result(name, Attempt(verdict=Verdict.FAIL, reason=one_line(reason, REASON_LIMIT)))


def as_result(name: str, attempt: Attempt) -> TestResult:
    """The result of a test that was run once and ended in `attempt`."""
    values = attempt.model_dump()
    return TestResult(name=name, attempts=(attempt,), **values)


def problem(error: ValidationError) -> str:
    """The first thing that is wrong with data, as one line: where and what."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def clean(data: Any, depth: int = DEPTH_LIMIT) -> Any:
    """`data` out of a guest's JSON, without what no results file can hold or no reader can read back.

    That is lone surrogates, what is nested without end, numbers without bounds and those that are none.
    """
    if isinstance(data, str):
        return data.encode("utf-8", "replace").decode()
    if isinstance(data, dict | list | tuple) and not depth:
        return "…"
    if isinstance(data, dict):
        return {clean(str(key)): clean(value, depth - 1) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [clean(value, depth - 1) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, int) and abs(data) >= NUMBER_LIMIT:
        return f"{data:.3e}" if abs(data) < 10**300 else "a number beyond bounds"
    return data


def scanned(name: str, log: Iterable[Any], allowed: Allowed) -> tuple[tuple[Splat, ...], str]:
    """What the kernel complained of during a test, and why its log proves nothing ("" if it does)."""
    lines = [line.encode("utf-8", "replace") for line in log if isinstance(line, str)]
    seen = scan(lines)
    unread = "" if name in seen.whole else "the kernel's log of this test could not be read to its end"
    return as_splats(seen.found, allowed), unread


def as_splats(found: Iterable[Found], allowed: Allowed) -> tuple[Splat, ...]:
    """Complaints as results hold them, with the reason why one is allowed."""
    splats = (
        Splat(
            kind=one.kind,
            line=one_line(one.line, REASON_LIMIT),
            fingerprint=one_line(one.fingerprint, REASON_LIMIT),
        )
        for one in found
    )
    return tuple(splat.model_copy(update={"allowed": allowed(splat)}) for splat in splats)


def with_log(result: TestResult, log: Iterable[Any], allowed: Allowed) -> TestResult:
    """`result`, given what the kernel said meanwhile: what passed beside a complaint is a SPLAT.

    A log that could not be read proves no silence: then a pass is none. What was skipped may have none.
    """
    splats, unread = scanned(result.name, log, allowed)
    if cause := splat_of(splats):
        return _demoted(result, cause).model_copy(update={"splats": splats})
    if unread and result.verdict is Verdict.PASS:
        return _demoted(result, Attempt(verdict=Verdict.FAIL, reason=unread))
    return result.model_copy(update={"splats": splats})


def splat_of(splats: Iterable[Splat]) -> Attempt | None:
    """The verdict of the first complaint that is not allowed, if there is one."""
    first = next((splat for splat in splats if not splat.allowed), None)
    if first is None:
        return None
    return Attempt(verdict=Verdict.SPLAT, reason=first.line, fingerprint=first.fingerprint)


def joined(found: Attempt | None, known: Attempt | None) -> Attempt | None:
    """The cause of a cell that had the cause `known` when `found` was seen: the worse verdict, both reasons.

    A skip says nothing beside what was found.
    """
    if found is None or known is None or known.verdict is Verdict.SKIP:
        return found or known
    reason = one_line(f"{found.reason}; {known.reason}", REASON_LIMIT)
    worse = found if found.verdict.badness > known.verdict.badness else known
    fingerprint = found.fingerprint or known.fingerprint
    return worse.model_copy(update={"reason": reason, "fingerprint": fingerprint})


def _demoted(result: TestResult, cause: Attempt) -> TestResult:
    """`result` with the worse verdict of the two, and both reasons."""
    verdict = worst((result.verdict, cause.verdict))
    reason = "; ".join(filter(None, (cause.reason, result.reason)))
    attempt = Attempt(
        verdict=verdict,
        reason=one_line(reason, REASON_LIMIT),
        fingerprint=cause.fingerprint,
        duration_s=result.duration_s,
    )
    values = attempt.model_dump()
    return result.model_copy(update={**values, "verdict": verdict, "attempts": (attempt,)})


def combined(first: TestResult, second: TestResult) -> TestResult:
    """A test that was run twice. Only the machinery's failures are forgiven; every attempt is told.

    What failed and then passed is FLAKY, with the evidence of the failure.
    """
    attempts = (*first.attempts, *second.attempts)
    if first.verdict.exit_code != Verdict.FAIL.exit_code:
        return second.model_copy(update={"attempts": attempts})
    if second.verdict is Verdict.PASS:
        change = {"verdict": Verdict.FLAKY, "reason": f"failed, then passed: {first.reason}"}
        return first.model_copy(update={**change, "attempts": attempts})
    worse = second if second.verdict.badness > first.verdict.badness else first
    return worse.model_copy(update={"attempts": attempts})
