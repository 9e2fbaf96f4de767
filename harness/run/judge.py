"""Turns errors, a guest's death, and the agent's answers into verdicts.

Text from a guest is hostile; here it becomes plain, visible text of bounded length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from harness.console.complaints import Found, fingerprint, scan
from harness.errors import HarnessError, HungError, IncompleteError, NotAcceptedError, ProductError
from harness.guest.selftest import Ran
from harness.results.ledger import accounts
from harness.results.model import Attempt, Splat, TestResult
from harness.results.verdict import Verdict, worst
from harness.text import one_line
from harness.vm.life import Death

REASON_LIMIT = 500  # characters
MOST_SPLATS = 20  # rows that are allowed, and rows that are not: a kernel in a loop complains for ever
DEPTH_LIMIT = 20  # levels of nesting in an answer of the guest
NUMBER_LIMIT = 1 << 63

Allowed = Callable[[Splat], str]
"""Returns the reason why a kernel warning is allowed; "" if it is not."""


def classify(
    error: HarnessError,
    death: Death | None,
    *,
    booting: bool,
    answers: bool = False,
    restored: bool = False,
) -> Attempt:
    """Return the verdict for `error`, given the guest's death and whether it still runs commands.

    The death of the guest outweighs the error that revealed it. While the guest is `booting` the agent does
    not run, so that nothing is the product's fault. A guest that was `restored` from a snapshot and hangs
    before the agent runs did boot once: the restore is at fault and not the kernel.
    """
    if isinstance(error, NotAcceptedError):
        found = classify(error.error, death, booting=booting, answers=answers, restored=restored)
        reason = f"kernel not accepted: {error.start}: {found.reason}"
        return found.model_copy(update={"reason": one_line(reason, REASON_LIMIT)})
    verdict = _class_of(error, death, booting=booting, restored=restored)
    reason = str(death or "") or error.message or type(error).__name__
    if verdict is Verdict.INFRA and restored and booting and isinstance(error, HungError):
        reason = f"the machine was restored from a snapshot and stopped answering: {reason}"
    if verdict is Verdict.TIMEOUT:
        program = error.program if isinstance(error, HungError) else "the agent"
        alive = f"answers: {program} hung" if answers else "does not answer: its kernel hung"
        reason = f"{reason}; the guest {alive}"
    trace = one_line(fingerprint(death.console), REASON_LIMIT) if death else ""
    if verdict is Verdict.CRASH and trace:
        reason = f"{reason} [{trace}]"
    return Attempt(verdict=verdict, reason=one_line(reason, REASON_LIMIT), fingerprint=trace)


def _class_of(error: HarnessError, death: Death | None, *, booting: bool, restored: bool) -> Verdict:
    if isinstance(error, IncompleteError):
        return Verdict.NOT_RUN
    if death and death.blames_guest:
        return Verdict.BOOT_FAIL if booting else Verdict.CRASH
    if death:
        return Verdict.INFRA
    if isinstance(error, HungError) and booting:
        return Verdict.INFRA if restored else Verdict.BOOT_FAIL
    if isinstance(error, HungError):
        return Verdict.TIMEOUT
    if isinstance(error, ProductError) and not booting:
        return Verdict.FAIL
    return Verdict.INFRA


def result_of(name: str, ran: Ran) -> TestResult:
    """Return the result in the guest's answer; an answer that is malformed or contradicts itself is FAIL."""
    if ran.name != name:
        return _failed(name, f"the agent answered for {ran.name!r}")
    verdict, reason = _verdict_of(ran)
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


def _verdict_of(ran: Ran) -> tuple[Verdict, str]:
    """Return the guest's verdict, with a reason unless it is PASS.

    It is FAIL if the agent's own assertions contradict it, or if a skipped test names no reason.
    """
    rows = [row for row in ran.assertions if isinstance(row, dict)]
    unmet = ", ".join(str(row.get("name")) for row in rows if row.get("ok") is not True)
    verdict = Verdict(ran.verdict)
    if verdict is not Verdict.FAIL and unmet:
        return Verdict.FAIL, f"the agent reported {verdict}, but {unmet} failed"
    if verdict is Verdict.PASS and not ran.assertions:
        return Verdict.FAIL, "the agent reported PASS without any assertion"
    if verdict is Verdict.SKIP and not ran.reason.strip():
        return Verdict.FAIL, "the agent skipped the test without a reason"
    if verdict is Verdict.PASS or ran.reason:
        return verdict, ran.reason
    return verdict, f"failed: {unmet}" if unmet else f"{verdict} without a reason"


def _failed(name: str, reason: str) -> TestResult:
    return as_result(name, Attempt(verdict=Verdict.FAIL, reason=one_line(reason, REASON_LIMIT)))


def as_result(name: str, attempt: Attempt) -> TestResult:
    """Return the result of a test that was run once and ended in `attempt`."""
    values = attempt.model_dump()
    return TestResult(name=name, attempts=(attempt,), **values)


def problem(error: ValidationError) -> str:
    """Return the first error in the data as one line: where and what."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def clean(data: Any, depth: int = DEPTH_LIMIT) -> Any:
    """Return `data` from a guest's JSON without values that results.json cannot hold.

    These are lone surrogates, deep nesting, huge numbers, infinities and NaN.
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
    """Return the kernel warnings during a test, and why the log is incomplete ("" if it is complete)."""
    lines = [line.encode("utf-8", "replace") for line in log if isinstance(line, str)]
    seen = scan(lines)
    unread = "" if name in seen.whole else "the kernel's log of this test could not be read to its end"
    return as_splats(seen.found, allowed), unread


def as_splats(found: Iterable[Found], allowed: Allowed) -> tuple[Splat, ...]:
    """Convert kernel warnings into rows of results.json, with the reason why one is allowed."""
    kept: list[Splat] = []
    number: Counter[bool] = Counter()
    for complaint in found:
        if number[False] == MOST_SPLATS:
            break
        splat = Splat(
            kind=complaint.kind,
            line=one_line(complaint.line, REASON_LIMIT),
            fingerprint=one_line(complaint.fingerprint, REASON_LIMIT),
        )
        splat = splat.model_copy(update={"allowed": allowed(splat)})
        number[bool(splat.allowed)] += 1
        if number[bool(splat.allowed)] <= MOST_SPLATS:
            kept.append(splat)
    return tuple(kept)


def with_log(result: TestResult, log: Iterable[Any], allowed: Allowed) -> TestResult:
    """Return `result` with the kernel log of the test: PASS becomes SPLAT if the kernel logged a warning.

    If the kernel log is incomplete we cannot rule out a warning, so PASS becomes FAIL. A skipped test may
    have no log.
    """
    splats, unread = scanned(result.name, log, allowed)
    if cause := splat_of(splats):
        return demoted(result, cause).model_copy(update={"splats": splats})
    if unread and result.verdict is Verdict.PASS:
        return demoted(result, Attempt(verdict=Verdict.FAIL, reason=unread))
    return result.model_copy(update={"splats": splats})


def splat_of(splats: Iterable[Splat]) -> Attempt | None:
    """Return SPLAT with the first warning that is not allowed, or None."""
    first = next((splat for splat in splats if not splat.allowed), None)
    if first is None:
        return None
    return Attempt(verdict=Verdict.SPLAT, reason=first.line, fingerprint=first.fingerprint)


def joined(found: Attempt | None, known: Attempt | None) -> Attempt | None:
    """Combine the causes of a cell: the worse verdict with both reasons; `found` replaces a SKIP."""
    if found is None or known is None or known.verdict is Verdict.SKIP:
        return found or known
    reason = one_line(f"{found.reason}; {known.reason}", REASON_LIMIT)
    worse = found if found.verdict.badness > known.verdict.badness else known
    fingerprint = worse.fingerprint or found.fingerprint or known.fingerprint
    return worse.model_copy(update={"reason": reason, "fingerprint": fingerprint})


def demoted(result: TestResult, cause: Attempt) -> TestResult:
    """Return `result` with the worse of the two verdicts, and both reasons."""
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
    """Combine two runs of a test; all attempts stay in the result.

    Only an infrastructure failure is replaced by the second result. FAIL and then PASS is FLAKY, with the
    evidence of the failure.
    """
    attempts = (*first.attempts, *second.attempts)
    if first.verdict.exit_code != Verdict.FAIL.exit_code:
        return second.model_copy(update={"attempts": attempts})
    if second.verdict is Verdict.PASS:
        change = {"verdict": Verdict.FLAKY, "reason": f"failed, then passed: {first.reason}"}
        return first.model_copy(update={**change, "attempts": attempts})
    worse = second if second.verdict.badness > first.verdict.badness else first
    return worse.model_copy(update={"attempts": attempts})
