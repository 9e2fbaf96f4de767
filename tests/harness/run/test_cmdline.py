"""If a kernel refused a cell's command line, the cell has not been tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.console.cmdline import refused
from harness.plan.cells import Cell
from harness.plan.matrix import Cmdline
from harness.results.verdict import Verdict
from harness.run.cell import CellRun
from harness.run.fake import FakeBench, FakeMachine
from harness.run.slot import Slot

STAMP = "[    0.021834] "
UNKNOWN = (
    STAMP + 'Unknown kernel command line parameters "preempt=none spare=1", will be passed to user space.'
)


@pytest.mark.parametrize(
    ("line", "args", "words"),
    [
        (UNKNOWN, "preempt=none quiet", ["preempt=none"]),
        (UNKNOWN, "preempt=lazy quiet", []),
        (STAMP + "Unknown command line parameters: spare=1 preempt=none", "preempt=none", ["preempt=none"]),
        (
            STAMP + "Booting kernel: `often' invalid for parameter `log_buf-len'",
            "log_buf_len=often",
            ["log_buf_len=often"],
        ),
        (STAMP + "Booting kernel: `9x' too large for parameter `nr_cpus'", "a nr_cpus=9x", ["nr_cpus=9x"]),
        (STAMP + "Malformed early option 'earlycon'", "earlycon=odd", ["earlycon=odd"]),
        (STAMP + "printk: Unknown parameter `colour'", "colour=1", ["colour=1"]),
        (UNKNOWN.removeprefix(STAMP), "preempt=none", []),
        (STAMP + "Kernel command line: preempt=none", "preempt=none", []),
    ],
)
def test_words_that_a_kernel_refused(line: str, args: str, words: list[str]) -> None:
    """Only words of the cell count, and only if the kernel's own command line has them."""
    assert refused([b"SeaBIOS", line.encode() + b"\r", b"\xff"], args) == words


@pytest.mark.parametrize(
    ("args", "verdict"), [("preempt=none", Verdict.NOT_RUN), ("preempt=full", Verdict.PASS)]
)
def test_a_refused_command_line_is_not_tested(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: str, verdict: Verdict
) -> None:
    """Nothing is loaded, every test has the reason, and the machine is not booted again."""
    monkeypatch.setattr(FakeMachine, "console", lambda _self, _deadline_s=0.0: UNKNOWN.encode())
    wanted = cell.model_copy(update={"cmdline": Cmdline(name="x", args=args)})
    bench = FakeBench({}, tmp_path / "log")
    slot = Slot(lambda one: FakeMachine(bench, one))
    run = CellRun(wanted, slot, tmp_path / "cell")
    run.open()
    results = [run.test(name) for name in wanted.tests]
    run.close()
    assert {result.verdict for result in results} == {verdict}
    log = (tmp_path / "log").read_text()
    assert log.count("boot ") == 1
    if verdict is Verdict.NOT_RUN:
        reason = "the kernel refused these words of the cell's command line: preempt=none"
        assert {result.reason for result in results} == {reason}
        assert "load" not in log
