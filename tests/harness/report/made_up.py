"""Results that no machine produced: small ones to build on, and a whole run with every verdict in it."""

from __future__ import annotations

from typing import Any

from harness.results import model as res
from harness.results import scenarios
from harness.results.model import (
    Assertion,
    Attempt,
    CellResult,
    Hook,
    Host,
    KernelFacts,
    LedgerRow,
    Lost,
    Package,
    Phases,
    Results,
    RunInfo,
    TestResult,
)
from harness.results.verdict import Verdict, worst

V = Verdict
TESTS = (
    "truth.open",
    "truth.unlink",
    "truth.rename",
    "approvers.path",
    "approvers.flags",
    "discarders.parent",
    "loss.steady",
    "loss.small_ring",
)
RELEASES = {
    "5.10": "5.10.0-38-cloud-amd64",
    "6.1": "6.1.0-41-cloud-amd64",
    "6.12": "6.12.57+deb12-cloud-amd64",
    "6.18": "6.18.2+deb13-cloud-amd64",
    "7.3": "7.3-cloud-amd64",
}
EVENTS = ("open", "unlink", "rename", "mkdir", "chmod", "setxattr", "mount")


def ledger(generated: int = 1009, *, off: int = 0, lost: int = 0) -> dict[str, LedgerRow]:
    """A ledger of opens that adds up, unless it is `off`."""
    delivered = 17
    rejected = generated - delivered - lost - 400
    row = LedgerRow(
        generated=generated + off,
        delivered=delivered,
        matched=delivered,
        approver_rejected=rejected,
        discarded=400,
        lost=Lost(ring_full=lost),
    )
    return {"open": row}


def a_test(name: str, verdict: Verdict = V.PASS, reason: str = "", **more: Any) -> TestResult:
    """One test; a verdict that needs a reason gets one."""
    reason = reason or ("" if verdict is V.PASS else f"because of {verdict.lower()}")
    ok = verdict.expected
    values: dict[str, Any] = {
        "duration_s": 0.8,
        "attempts": (Attempt(verdict=verdict, reason=reason, duration_s=0.8),),
        "assertions": (
            Assertion(name="sentinel before", ok=True, expected=1, got=1),
            Assertion(name="events that match", ok=ok, expected=17, got=17 if ok else 16),
        ),
        "ledger": ledger(),
    }
    if verdict in (V.NOT_RUN, V.SKIP, V.BOOT_FAIL, V.INFRA):
        values = {"duration_s": 0.0, "attempts": ()}
    return TestResult(name=name, verdict=verdict, reason=reason, **(values | more))


def hooks(kernel: str, kind: str = "fentry") -> tuple[Hook, ...]:
    """One hook for each event, and one that was tried and not used; unlink's point depends on the kernel."""
    unlink = "filename_unlinkat" if kernel.startswith("7") else "do_unlinkat"
    points = {"open": "security_file_open", "unlink": unlink, "rename": "security_path_rename"}
    silent = Hook(event="open.resolve", program="lsm__open__resolve", type="lsm", state="silent")
    return (silent,) * (kernel == "5.10") + tuple(
        Hook(
            event=f"{event}.resolve",
            point=points.get(event, f"security_path_{event}"),
            program=f"fim_{event}",
            type=kind if event != "mount" else "kprobe",
            state="attached",
            runs=2048 - 100 * index,
            recursion_misses=0,
            insns=812 + 13 * index + len(kernel),
        )
        for index, event in enumerate(EVENTS)
    )


def a_cell(
    kernel: str, hookset: str = "auto", tests: tuple[TestResult, ...] | None = None, **more: Any
) -> CellResult:
    """One cell; its verdict is its worst test's unless given."""
    tests = tests if tests is not None else tuple(a_test(name) for name in TESTS)
    verdict = worst(test.verdict for test in tests)
    reason = next((test.reason for test in tests if test.verdict is verdict), "no test was planned")
    release = RELEASES.get(kernel, "")
    package = Package(name=f"linux-image-{release}", version=f"{kernel}.42-1", sha256="ab" * 32)
    values: dict[str, Any] = {
        "id": f"{kernel}-{hookset}",
        "kernel": KernelFacts(name=kernel, requested=kernel, release=release, packages=(package,)),
        "arch": "amd64",
        "hookset": hookset,
        "btf": "kernel",
        "transport": "ringbuf",
        "verdict": verdict,
        "reason": reason,
        "attempts": (Attempt(verdict=verdict, reason=reason, duration_s=21.5),),
        "phases": Phases(
            fetch_s=0.4, image_s=1.1, boot_s=6.2, deploy_s=1.4, load_s=3.1, tests_s=8.8, start="cold"
        ),
        "capabilities": {
            "lsm": "silent" if kernel == "5.10" else "fires",
            "fentry": "fires",
            "kprobe": "fires",
            "kprobe.multi": "attach-fail" if kernel < "6.12" else "fires",
        },
        "coverage": dict.fromkeys(EVENTS, "full") | {"setxattr": "degraded"},
        "hooks": hooks(kernel),
        "tests": tests,
    }
    return CellResult.model_validate(values | more)


def a_run(*cells: CellResult, **more: Any) -> Results:
    """A run of `cells`."""
    values: dict[str, Any] = {
        "id": "20261122-021744-3fa9",
        "started": "2026-11-22T02:17:44+00:00",
        "duration_s": 412.7,
        "argv": ("harness", "run", "--matrix", "matrix.yaml"),
        "exit_code": res.exit_code(cells),
        "complete": res.complete(cells),
        "host": Host(cpus=2, memory_mib=24000, kernel="6.1.0-41-amd64"),
        "accelerator": "tcg",
        "harness_version": "0.1.0",
    }
    return Results(
        run=RunInfo.model_validate(values | more),
        cells=cells,
        totals=res.totals(cells),
        scenarios=scenarios.of_cells(cells),
    )


def every_verdict() -> Results:
    """A run in which each verdict is that of some test and of some cell."""
    return a_run(
        a_cell("5.10", "auto"),
        a_cell("5.10", "lsm", _skipped("lsm attaches and never fires: bpf is not among the active LSMs")),
        a_cell("5.10", "kprobe", _one(V.FLAKY, "loss.steady", "4 of 25,000 events unaccounted for")),
        a_cell("6.1", "auto", _one(V.FAIL, "discarders.parent", _STALE, ledger=ledger(off=3))),
        a_cell("6.1", "lsm", _one(V.XFAIL, "loss.steady", "known until 2027-01-31: the ring is shared")),
        a_cell("6.1", "kprobe", _one(V.FAIL, "discarders.parent", _STALE, ledger=ledger(off=3))),
        a_cell("6.12", "auto", _one(V.SPLAT, "truth.open", "WARNING: at kernel/bpf/ringbuf.c:310")),
        a_cell(
            "6.12", "lsm", _one(V.XPASS, "loss.small_ring", "passed, but was expected to fail: the ring grew")
        ),
        a_cell("6.12", "kprobe", _one(V.TIMEOUT, "loss.steady", "no answer within 240 s, but to a ping")),
        a_cell("6.18", "auto", _crashed()),
        a_cell("6.18", "lsm", _all(V.INFRA, "SSH was lost with a healthy console"), **_NOT_LOADED),
        a_cell("6.18", "kprobe", _all(V.NOT_RUN, "the run's deadline passed before it"), **_NOT_LOADED),
        a_cell("7.3", "auto"),
        a_cell("7.3", "lsm", _all(V.BOOT_FAIL, _NO_ROOT), **_NOT_LOADED),
        a_cell("7.3", "kprobe"),
    )


_NOT_LOADED: dict[str, Any] = {"hooks": (), "capabilities": {}, "coverage": {}}
_STALE = "events below /srv/keep: expected 64, got 61; a stale discarder hid 3 of them"
_NO_ROOT = "no command ran within 120 s; last line: VFS: Unable to mount root fs on unknown-block(254,0)"
PANIC = "Kernel panic - not syncing: Fatal exception in interrupt"


def _one(verdict: Verdict, name: str, reason: str, **more: Any) -> tuple[TestResult, ...]:
    attempts = {"attempts": (_attempt(V.FAIL, reason), _attempt(V.PASS, ""))} if verdict is V.FLAKY else {}
    return tuple(
        a_test(test, verdict, reason, **(attempts | more)) if test == name else a_test(test) for test in TESTS
    )


def _attempt(verdict: Verdict, reason: str) -> Attempt:
    return Attempt(verdict=verdict, reason=reason, duration_s=7.1)


def _all(verdict: Verdict, reason: str) -> tuple[TestResult, ...]:
    return tuple(a_test(name, verdict, reason) for name in TESTS)


def _skipped(reason: str) -> tuple[TestResult, ...]:
    return tuple(
        a_test(name, V.SKIP if index < 3 else V.PASS, reason if index < 3 else "")
        for index, name in enumerate(TESTS)
    )


def _crashed() -> tuple[TestResult, ...]:
    ended = "not run: the machine was given up after CRASH in approvers.path"
    return tuple(
        a_test(name, *((V.PASS, "") if index < 3 else (V.CRASH, PANIC) if index == 3 else (V.NOT_RUN, ended)))
        for index, name in enumerate(TESTS)
    )
