"""What a test or a cell ended in, which of two verdicts is worse, and what a run's exit code says.

From best to worst, in four classes, each with its exit code:

    0 as expected   SKIP  PASS  XFAIL
    3 machinery     INFRA  BOOT_FAIL             nothing is known about the agent
    4 incomplete    NOT_RUN                      planned, and without a result
    1 product       FLAKY  SPLAT  XPASS  FAIL  TIMEOUT  CRASH

A later class beats an earlier one: product beats infrastructure, and nothing that is absent passes. A cell
of passes and skips passes: a skip names what was observed of that kernel, and the tally beside the verdict
counts it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Verdict(enum.StrEnum):
    """Every planned test and every cell ends in exactly one; defined from best to worst."""

    SKIP = "SKIP"  # this kernel cannot: an observed capability is the reason
    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    XFAIL = "XFAIL"  # failed as `expectations.yaml` said
    INFRA = "INFRA"  # download, disk, libvirt, QEMU, SSH with a healthy guest
    BOOT_FAIL = "BOOT_FAIL"  # the guest did not come up, or ended before the agent was there
    NOT_RUN = "NOT_RUN"
    FLAKY = "FLAKY"  # failed, and passed when run once more
    SPLAT = "SPLAT"  # the kernel complained while the test passed
    XPASS = "XPASS"  # passed although `expectations.yaml` said that it fails
    FAIL = "FAIL"
    TIMEOUT = "TIMEOUT"
    CRASH = "CRASH"  # panic, oops or lockup with the agent there

    @property
    def badness(self) -> int:
        """Rank in the order above; 0 is best."""
        return _RANK[self]

    @property
    def exit_code(self) -> int:
        """What a run exits with whose worst verdict is this one."""
        return _EXIT[self]

    @property
    def expected(self) -> bool:
        """Whether a run of only such verdicts succeeds."""
        return self.exit_code == 0

    @property
    def needs_reason(self) -> bool:
        """Whether the verdict says nothing without a reason: all but PASS."""
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
    """The worst of `verdicts`; NOT_RUN when there is none, because absent is never PASS."""
    return max(verdicts, key=lambda verdict: verdict.badness, default=Verdict.NOT_RUN)


_SEVERITY = (0, 3, 4, 2, 1)  # exit codes from best to worst, as verdicts are ordered


def worst_exit_code(codes: Iterable[int]) -> int:
    """The worst of some exit codes, in the order of the verdicts; a code outside the contract is worst."""
    return max(codes, key=lambda code: _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY))


def run_exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 as expected, 1 the product failed, 3 only the infrastructure failed, 4 incomplete; never a count."""
    return worst(verdicts).exit_code
