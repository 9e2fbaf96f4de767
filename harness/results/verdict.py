"""The verdicts of tests and cells, their order, and the exit code that follows from them.

From best to worst, in four classes, each with its exit code:

    0 as expected     SKIP  PASS  XFAIL
    3 infrastructure  INFRA  BOOT_FAIL             nothing is known about the agent
    4 incomplete      NOT_RUN                      planned, and without a result
    1 product         FLAKY  SPLAT  XPASS  FAIL  TIMEOUT  CRASH

The worst class decides, so a failure of the product is never hidden by one of the infrastructure, and a
missing result never passes. A cell with passes and skips passes, because a skip names an observed fact of
that kernel.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Verdict(enum.StrEnum):
    """The end of a test or cell: each has exactly one. Defined from best to worst."""

    SKIP = "SKIP"  # this kernel lacks something that the test needs; the reason is an observed fact
    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    XFAIL = "XFAIL"  # failed as `expectations.yaml` expects
    INFRA = "INFRA"  # network, disk, libvirt, QEMU, or SSH with a healthy guest
    BOOT_FAIL = "BOOT_FAIL"  # the guest did not boot, or died before the agent was deployed
    NOT_RUN = "NOT_RUN"
    FLAKY = "FLAKY"  # failed, and passed when it was repeated
    SPLAT = "SPLAT"  # the kernel complained while the test passed
    XPASS = "XPASS"  # passed although `expectations.yaml` expects a failure
    FAIL = "FAIL"
    TIMEOUT = "TIMEOUT"
    CRASH = "CRASH"  # panic, oops or lockup after the agent was deployed

    @property
    def badness(self) -> int:
        """The rank of the verdict; 0 is best."""
        return _RANK[self]

    @property
    def exit_code(self) -> int:
        """The exit code of a run whose worst verdict is this one."""
        return _EXIT[self]

    @property
    def expected(self) -> bool:
        """Whether a run of only such verdicts succeeds."""
        return self.exit_code == 0

    @property
    def unknown(self) -> bool:
        """Whether the verdict reports nothing about the product: infrastructure, or no result."""
        return self.exit_code in (3, 4)

    @property
    def needs_reason(self) -> bool:
        """Whether a result with this verdict must have a reason: all but PASS."""
        return self is not Verdict.PASS


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
_EXIT = (
    dict.fromkeys((Verdict.PASS, Verdict.SKIP, Verdict.XFAIL), 0)
    | dict.fromkeys((Verdict.INFRA, Verdict.BOOT_FAIL), 3)
    | {Verdict.NOT_RUN: 4}
    | dict.fromkeys(
        (Verdict.FLAKY, Verdict.SPLAT, Verdict.XPASS, Verdict.FAIL, Verdict.TIMEOUT, Verdict.CRASH), 1
    )
)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of `verdicts`; NOT_RUN if there are none, because a missing result is never PASS."""
    return max(verdicts, key=lambda verdict: verdict.badness, default=Verdict.NOT_RUN)


RUN_EXIT_CODES = (0, 3, 4, 1)  # with which a run that has results can end, from best to worst
_SEVERITY = (0, 3, 4, 2, 1)  # exit codes from best to worst, as verdicts are ordered


def worst_exit_code(codes: Iterable[int]) -> int:
    """The worst exit code, in the order of the verdicts; a code outside the contract is worst of all."""
    return max(codes, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY))


def run_exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 as expected, 1 the product failed, 3 only the infrastructure failed, 4 incomplete; never a count."""
    return worst(verdicts).exit_code
