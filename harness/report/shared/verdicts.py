"""How reports name, mark, explain and count verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.results.model import CellResult, Results
from harness.results.verdict import Verdict, worst

MARKS = {0: "✓", 1: "✗", 3: "⚠", 4: "…"}  # by exit code, so that no report depends on colour alone
NOTHING = "○"  # neither passed nor failed: ✓ marks only what passed
SENTENCES = {
    0: "Everything as expected.",
    1: "The product failed.",
    3: "Only the infrastructure failed: nothing is known about the product there.",
    4: "Incomplete: something that was planned has no result.",
}

# The family, which gives a verdict its colour, and the verdict's meaning in half a sentence.
MEANING: dict[Verdict, tuple[str, str]] = {
    Verdict.PASS: ("good", "kept its promise"),
    Verdict.SKIP: ("known", "this kernel cannot do it; the reason names what was observed"),
    Verdict.XFAIL: ("known", "failed as expectations.yaml predicts"),
    Verdict.INFRA: ("machinery", "the infrastructure failed: nothing is known about the agent"),
    Verdict.BOOT_FAIL: ("machinery", "the guest did not boot: nothing is known about the agent"),
    Verdict.NOT_RUN: ("absent", "planned, but has no result"),
    Verdict.FLAKY: ("shaky", "failed, then passed when it was run again"),
    Verdict.SPLAT: ("product", "the kernel logged a warning or an error while the test passed"),
    Verdict.XPASS: ("shaky", "passed although expectations.yaml predicts a failure"),
    Verdict.FAIL: ("product", "broke its promise"),
    Verdict.TIMEOUT: ("product", "no answer before the deadline"),
    Verdict.CRASH: ("crash", "the kernel crashed while the agent was loaded"),
}


def family(verdict: Verdict) -> str:
    """Return the family of a verdict, which gives it its colour."""
    return MEANING[verdict][0]


def meaning(verdict: Verdict) -> str:
    """Return what a verdict means, in half a sentence."""
    return MEANING[verdict][1]


def mark(verdict: Verdict) -> str:
    """Return a verdict with the sign of its class."""
    sign = NOTHING if verdict in (Verdict.SKIP, Verdict.XFAIL) else MARKS[verdict.exit_code]
    return f"{sign} {verdict}"


def headline(results: Results) -> str:
    """Return how the run ended: a sign and one sentence."""
    sign = NOTHING if _nothing_passed(results) else MARKS.get(results.run.exit_code, "✗")
    return f"{sign} {sentence(results)}"


def sentence(results: Results) -> str:
    """Return how the run ended; an edited file may have an exit code outside of the contract."""
    if _nothing_passed(results):
        return "Nothing failed, and nothing passed."
    return SENTENCES.get(results.run.exit_code, "The run ended with an unknown exit code.")


def _nothing_passed(results: Results) -> bool:
    return results.run.exit_code == 0 and Verdict.PASS not in results.totals


def counts(verdicts: Iterable[Verdict]) -> list[tuple[Verdict, int]]:
    """Count each verdict that occurs: PASS first, then from best to worst."""
    found = Counter(verdicts)
    order = sorted(found, key=lambda verdict: (verdict is not Verdict.PASS, verdict.badness))
    return [(verdict, found[verdict]) for verdict in order]


def tally(cell: CellResult) -> str:
    """Return how many tests of a cell ended in each verdict, such as `7 PASS, 1 SKIP`."""
    return ", ".join(f"{count} {verdict}" for verdict, count in counts(test.verdict for test in cell.tests))


def is_worse_than_tests(cell: CellResult) -> bool:
    """Return whether the cell has tests, and its own verdict is worse than all of theirs."""
    tests = [test.verdict for test in cell.tests]
    return bool(tests) and cell.verdict.badness > worst(tests).badness


def own_verdict(cell: CellResult) -> Verdict:
    """Return the cell's verdict where no test of it explains that verdict, else PASS."""
    return cell.verdict if not cell.tests or is_worse_than_tests(cell) else Verdict.PASS
