"""A cell's sysctl is set before the agent loads; a value that does not hold is not tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import ConfigError, IncompleteError
from harness.guest import sysctl
from harness.guest.base import Completed
from harness.plan import checked, yaml
from harness.plan.cells import Cell, expand
from harness.plan.matrix import Sysctl
from harness.results.verdict import Verdict
from harness.run.cell import CellRun
from harness.run.fake import FakeBench, FakeMachine
from harness.run.slot import Slot
from tests.harness.guest.fake import FakeGuest

HARD = Sysctl(name="hard", values=("kernel.kptr_restrict=2", "kernel.printk=4 4 1 7"))


class Kernel:
    """Parameters of a guest; a write to those in `stubborn` changes nothing."""

    def __init__(self, stubborn: Sequence[str] = (), gone: Sequence[str] = ()) -> None:
        self.values = {"kernel.kptr_restrict": "0", "kernel.printk": "7\t4\t1\t7"}
        self.stubborn, self.gone = stubborn, gone
        self.actions: list[str] = []

    def answer(self, argv: Sequence[str]) -> Completed:
        """Play the script of `harness.guest.sysctl`."""
        action, settings = argv[4], argv[5:]
        self.actions.append(action)
        lines = []
        for name, _, value in (one.partition("=") for one in settings):
            if action == "set" and name not in self.stubborn:
                self.values[name] = value
            if name not in self.gone:
                lines.append(f"{name}={self.values[name]}\n")
        return Completed(0, "".join(lines).encode(), b"")


def run(
    cell: Cell, folder: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, spoil: str = ""
) -> CellRun:
    """Run a cell with HARD; `spoil` is a parameter that changes before the cell is closed."""
    monkeypatch.setattr(FakeMachine, "guest", FakeGuest(kernel.answer), raising=False)
    wanted = cell.model_copy(update={"sysctl": HARD})
    bench = FakeBench({}, folder / "log")
    found = CellRun(wanted, Slot(lambda one: FakeMachine(bench, one)), folder / "cell")
    found.open()
    for name in wanted.tests:
        found.test(name)
    if spoil:
        kernel.values[spoil] = "0"
    found.close()
    return found


def test_values_are_set_before_the_agent_and_checked_after_it(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()
    assert run(cell, tmp_path, kernel, monkeypatch).report.cause is None
    assert kernel.actions == ["set", "check"]
    assert kernel.values["kernel.kptr_restrict"] == "2"


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (Kernel(stubborn=["kernel.kptr_restrict"]), "kernel.kptr_restrict is '0' instead of '2'"),
        (Kernel(gone=["kernel.printk"]), "kernel.printk does not exist"),
    ],
)
def test_a_value_that_does_not_hold_is_not_tested(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel, words: str
) -> None:
    """As with a command line that the kernel refused: nothing is loaded, and the cell is NOT_RUN."""
    cause = run(cell, tmp_path, kernel, monkeypatch).report.cause
    assert cause
    assert (cause.verdict, cause.reason) == (Verdict.NOT_RUN, f"the cell's sysctl does not hold: {words}")
    assert "load" not in (tmp_path / "log").read_text()


def test_a_value_that_changed_while_the_cell_ran(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = run(cell, tmp_path, Kernel(), monkeypatch, spoil="kernel.kptr_restrict").report.cause
    assert cause
    assert cause.verdict is Verdict.NOT_RUN


def test_spaces_and_tabs_between_numbers_are_equal() -> None:
    sysctl.apply(FakeGuest(Kernel().answer), HARD.values, 1)
    with pytest.raises(IncompleteError):
        sysctl.check(FakeGuest(Kernel().answer), HARD.values, 1)


def test_the_axis_in_a_matrix() -> None:
    """A machine of its own, named in the cell; a name stands for the same values everywhere."""
    text = "kernels: [6.1]\nsysctl: [{name: hard, values: {kernel.kptr_restrict: 2}}]\n"
    cells = [candidate.cell for candidate in expand(checked.check(yaml.parse(text.encode(), "m.yaml")))]
    assert [(cell.id, cell.machine) for cell in cells] == [
        ("6.1-auto", "6.1-amd64"),
        ("6.1-auto-hard", "6.1-amd64-hard"),
    ]
    assert cells[1].sysctl == Sysctl(name="hard", values=("kernel.kptr_restrict=2",))
    again = "include: [{sysctl: {name: hard, values: {kernel.kptr_restrict: 1}}}]\n"
    with pytest.raises(ConfigError, match="sysctl 'hard' is defined twice with different values"):
        checked.check(yaml.parse((text + again).encode(), "m.yaml"))


@pytest.mark.parametrize("name", ["../etc/passwd", "kernel", "a..b", "kernel.x;reboot", "-"])
def test_a_name_that_is_no_parameter_is_refused(name: str) -> None:
    """Names become paths in the guest."""
    text = f"kernels: [6.1]\nsysctl: [{{name: x, values: {{'{name}': 1}}}}]\n"
    with pytest.raises(ConfigError, match="not allowed here"):
        checked.check(yaml.parse(text.encode(), "m.yaml"))
