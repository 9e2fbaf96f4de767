"""From what happened to what it means: an error, a guest's end or an answer becomes a verdict.

Words that come out of a guest are hostile: they become plain, visible text of bounded length here.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from agent.selftest.protocol import Ran
from harness.bench import Death, HungError
from harness.errors import HarnessError, ProductError
from harness.report.text import one_line
from harness.results import Attempt, TestResult
from harness.verdict import Verdict

REASON_LIMIT = 500  # characters


def classify(error: HarnessError, death: Death | None, *, booting: bool) -> tuple[Verdict, str]:
    """The verdict that `error` means, given what is known about the guest's end.

    A guest's own end outweighs the symptom that made it known. While `booting` the agent is not there, so
    nothing is the product's fault.
    """
    reason = one_line(death.detail if death else error.message, REASON_LIMIT)
    if death and death.kind == "guest":
        return (Verdict.BOOT_FAIL if booting else Verdict.CRASH), reason
    if death:
        return Verdict.INFRA, reason
    if isinstance(error, HungError):
        return (Verdict.BOOT_FAIL if booting else Verdict.TIMEOUT), reason
    if isinstance(error, ProductError) and not booting:
        return Verdict.FAIL, reason
    return Verdict.INFRA, reason


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
    unclosed = [event for event, row in result.ledger.items() if not row.closes]
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


def clean(data: Any) -> Any:
    """`data` out of a guest's JSON, without the lone surrogates that no file can hold."""
    return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
