"""Skips of the agent: which ones a kernel's image and configuration explain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.hooks import coverage, needs
from harness.kernels import inspect, skips
from harness.plan.cells import Cell
from harness.plan.matrix import Btf, Kernel
from harness.results.model import CellReport, Hook, TestResult
from harness.results.verdict import Verdict
from harness.run import predictions
from tests.harness.kernels.test_inspect import EVERYTHING, known, made

Parameters = tuple[str, ...] | None
PREEMPTS = EVERYTHING + "CONFIG_PREEMPTION=y\n"
FULL = {kind.label: "full" for kind in needs.EVENTS}
NO_MKNOD: Mapping[str, Parameters] = {"do_mknodat": None, "filename_mknodat": None}
NO_PATHS: Mapping[str, Parameters] = {
    f"{prefix}path_{name}": None
    for prefix in ("bpf_lsm_", "security_")
    for name in ("unlink", "rmdir", "mkdir", "rename", "link", "symlink", "mknod")
}
NO_PARENT: Mapping[str, Parameters] = {"__filename_parentat": None, "filename_parentat": None}


def promise(
    scenario: str,
    reported: tuple[str, str, str],
    hookset: str,
    *,
    absent: Mapping[str, Parameters] | None = None,
    config: str = EVERYTHING,
    skipping: bool = False,
) -> str:
    """The promise that a skip contradicts if the agent sees all but one event type: its level and limit."""
    event, level, limit = reported
    return skips.promise(
        scenario,
        FULL | {event: level},
        {event: limit},
        hookset,
        skips=skipping,
        predicted=tuple(inspect.predict(known(**(absent or {})), config)),
        config=config,
    )


@pytest.mark.parametrize(
    ("scenario", "reported", "hookset", "expected"),
    [
        ("truth.mknod", ("mknod", "none", ""), "auto", "mknod by lsm"),
        ("truth.mknod", ("mknod", "none", ""), "fentry", "mknod by fentry"),
        ("truth.mknod", ("mknod", "degraded", coverage.FAILED_LOOKUP), "kprobe", "mknod by kprobe"),
        ("truth.directory_above", ("rename", "degraded", coverage.ARGUMENTS_ONLY), "auto", "rename by lsm"),
        ("truth.directory_above", ("rename", "degraded", coverage.ARGUMENTS_ONLY), "tracepoint", ""),
        ("loss.steady", ("open", "degraded", coverage.PREEMPTED), "lsm", "open by lsm"),
        ("truth.mknod", ("open", "none", ""), "auto", ""),
        ("truth.unlink", ("unlink", "degraded", coverage.FAILED_LOOKUP), "auto", ""),
        ("no.scenario", ("open", "none", ""), "auto", ""),
    ],
)
def test_a_skip_for_what_the_kernel_promises(
    scenario: str, reported: tuple[str, str, str], hookset: str, expected: str
) -> None:
    """A kernel with all functions explains only what a hook set never sees."""
    assert promise(scenario, reported, hookset) == expected


@pytest.mark.parametrize(
    ("scenario", "reported", "absent", "expected"),
    [
        ("truth.mknod", ("mknod", "none", ""), NO_MKNOD, "mknod by tracepoint"),
        ("discarders.parent", ("unlink", "degraded", coverage.ARGUMENTS_ONLY), NO_PATHS, ""),
        ("discarders.parent", ("open", "degraded", coverage.ARGUMENTS_ONLY), NO_PATHS, "open by lsm"),
        ("truth.mkdir", ("mkdir", "degraded", coverage.FAILED_LOOKUP), NO_PARENT, ""),
        ("truth.mknod", ("mknod", "none", ""), {"security_path_mknod": ("mode", "dir")}, "mknod by lsm"),
    ],
)
def test_functions_that_a_kernel_lacks_explain_what_is_not_seen(
    scenario: str, reported: tuple[str, str, str], absent: Mapping[str, Parameters], expected: str
) -> None:
    """They explain no more than that; a parameter that moved explains nothing."""
    assert promise(scenario, reported, "auto", absent=absent) == expected


def test_only_a_kernel_that_preempts_itself_skips_programs() -> None:
    """There `auto` uses kprobes, which are not skipped."""
    hidden = "loss.steady", ("open", "degraded", coverage.PREEMPTED)
    assert promise(*hidden, "fentry", config=PREEMPTS, skipping=True) == ""
    assert promise(*hidden, "fentry", config=EVERYTHING, skipping=True) == "open by fentry"
    assert promise(*hidden, "auto", config=PREEMPTS, skipping=True) == "open by kprobe-multi"


def test_a_reason_names_the_hooks_that_should_be_attached(tmp_path: Path) -> None:
    """Without a configuration, or without an image that can be read, every skip is explained."""
    image, config = tmp_path / "vmlinuz", tmp_path / "config"
    image.write_bytes(made(known()))
    config.write_text(EVERYTHING)
    rows = (Hook(event="mknod.exit", type="fexit", state="attach-fail"),)
    report = CellReport(id="6.18-auto", coverage=FULL | {"mknod": "none"}, hooks=rows)
    cell = Cell(id="6.18-auto", kernel=Kernel(name="6.18", series="6.18"))
    files = {"kernel": str(image), "config": str(config)}
    skipped = TestResult(name="truth.mknod", verdict=Verdict.SKIP, reason="no hook")
    words = predictions.contradicted(skipped, report, cell, files)
    assert words == "its image and configuration promise mknod by lsm (mknod.exit by fexit is attach-fail)"
    passed = skipped.model_copy(update={"verdict": Verdict.PASS})
    assert predictions.contradicted(passed, report, cell, files) == ""
    assert predictions.contradicted(skipped, report, cell, {"kernel": str(image)}) == ""
    assert predictions.contradicted(skipped, report, cell, {"config": str(config)}) == ""


@pytest.mark.parametrize(
    ("verdict", "state", "btf", "promise"),
    [
        (Verdict.PASS, "fires", "kernel", ""),
        (Verdict.SKIP, "fires", "kernel", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)"),
        (Verdict.PASS, "silent", "kernel", ", and lsm is silent on this kernel"),
        (Verdict.SKIP, "load-fail", "external", ""),
    ],
)
def test_programs_of_a_promised_type_load_and_work(
    verdict: Verdict, state: str, btf: Btf, promise: str, tmp_path: Path
) -> None:
    """Types of which the kernel's BTF is hidden are not promised."""
    config = tmp_path / "config"
    config.write_text(EVERYTHING)
    cell = Cell(id="7.3-auto", kernel=Kernel(name="7.3", series="7.3"), btf=btf)
    report = CellReport(id=cell.id, capabilities={"lsm": state})
    result = TestResult(name="shapes.lsm", verdict=verdict, reason="as it is")
    words = predictions.contradicted(result, report, cell, {"config": str(config)})
    assert words.endswith(promise)
    assert words.startswith("its configuration promises lsm (CONFIG_BPF_LSM") is bool(promise)
