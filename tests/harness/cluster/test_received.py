"""What a worker returns is stored once, and only if it is the output of its machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from harness.cluster import archive, kit, session
from harness.cluster.kit import Kit
from harness.cluster.part import Settings
from harness.cluster.received import Received, complete
from harness.errors import ConfigError, IncompleteError, InfrastructureError
from harness.plan.plan import Plan, Selectors, make
from harness.results import results_file
from harness.results.model import CellReport, Failure, TestResult
from harness.results.verdict import Verdict
from harness.run.fake import FakeBench
from harness.run.machines import Pins
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from tests.harness.conftest import matrix_of


def begun(plan: Plan, folder: Path, *, part: bool = False) -> Run:
    matrix = folder.parent / "matrix.yaml"
    run = Run(Options(matrix=matrix, plan=plan, folder=folder, part=part), FakeBench())
    run.begin(Supplies(accelerator="none"))
    return run


def output(
    plan: Plan, machine: str, folder: Path, verdict: Verdict = Verdict.PASS, **others: Verdict
) -> Path:
    """The output of one machine, all of whose tests ended so; `others` are of other hook sets."""
    run = begun(plan.model_copy(update={"cells": tuple(plan.machines()[machine])}), folder, part=True)
    for cell in run.plan.cells:
        run.record_cell(CellReport(id=cell.id, closed=True))
        for test in cell.tests:
            ended = others.get(cell.hookset, verdict)
            reason = "" if ended is Verdict.PASS else "lost"
            run.record_test(cell.id, TestResult(name=test, verdict=ended, reason=reason))
    run.finish()
    return folder


def resumed(run: Run) -> Run:
    """The rest of a run whose process was killed or has ended; copied, because this process locks it."""
    folder = run.folder.with_name(f"{run.folder.name}-rest")
    shutil.copytree(run.folder, folder)
    options = run.options.model_copy(update={"folder": folder, "resume": True})
    made = Run(options, FakeBench())
    made.begin(Supplies(accelerator="none"))
    return made


def verdicts(run: Run) -> dict[str, Verdict]:
    """The verdict of each cell in the results of a run that has ended."""
    run.finish()
    return {cell.hookset: cell.verdict for cell in results_file.load(run.folder / "results.json").cells}


def edited(folder: Path, change: Any) -> bytes:
    data = json.loads((folder / results_file.FILE).read_text())
    change(data)
    (folder / results_file.FILE).write_text(json.dumps(data))
    return archive.pack(folder)[0]


def test_the_output_of_another_machine_is_refused(plan: Plan, tmp_path: Path) -> None:
    """And nothing of it stays; then the right one is recorded."""
    first, second = list(plan.machines())[:2]
    run = begun(plan, tmp_path / "out")
    received = Received(run)
    own, _ = archive.pack(output(plan, first, tmp_path / "own"))
    other, _ = archive.pack(output(plan, second, tmp_path / "other"))
    with pytest.raises(InfrastructureError, match="not that of its machine"):
        received.accept(first, other, [])
    assert not list(tmp_path.glob("out/parts/*"))
    received.accept(first, own, [])
    assert [path.name for path in tmp_path.glob("out/parts/*")] == [f"{first}.tar.zst"]
    assert Received(run).known() == {first}
    received.remove()
    assert (tmp_path / "out/parts").exists()  # the other machines have no result
    run.finish()
    assert [cell.id for cell in results_file.load(tmp_path / "out/results.json").cells] == [
        cell.id for cell in plan.cells
    ]


@pytest.mark.parametrize("damage", [b"", b"x", b"\x28\xb5\x2f\xfd"])
def test_a_damaged_archive_of_an_earlier_process_is_not_used(
    plan: Plan, tmp_path: Path, damage: bytes
) -> None:
    """Its machine runs again, and the notes name the file."""
    run = begun(plan, tmp_path / "out")
    machine = next(iter(plan.machines()))
    received = Received(run)
    received.accept(machine, archive.pack(output(plan, machine, tmp_path / "own"))[0], [])
    (tmp_path / f"out/parts/{machine}.tar.zst").write_bytes(damage)
    again = begun(plan, tmp_path / "again")
    shutil.copytree(tmp_path / "out/parts", tmp_path / "again/parts")
    assert Received(again).known() == set()
    again.finish()
    notes = results_file.load(tmp_path / "again/results.json").run.notes
    assert any(f"{machine} runs again: {machine}.tar.zst: " in note for note in notes)


@pytest.mark.parametrize("verdict", [Verdict.INFRA, Verdict.NOT_RUN])
def test_a_machine_without_a_verdict_on_the_product_runs_again(
    plan: Plan, tmp_path: Path, verdict: Verdict
) -> None:
    """Its output is a result until then, and the archives stay for the next `--resume`."""
    folder = tmp_path / "out"
    run = begun(plan, folder)
    received = Received(run)
    first, *others = plan.machines()
    for machine in plan.machines():
        ended = verdict if machine == first else Verdict.FAIL
        received.accept(machine, archive.pack(output(plan, machine, tmp_path / machine, ended))[0], [])
    received.remove()
    run.finish()
    found = results_file.load(folder / "results.json")
    assert found.totals[verdict] == sum(len(cell.tests) for cell in plan.machines()[first])
    assert complete(folder, plan) is None
    again = begun(plan, tmp_path / "again")
    shutil.copytree(folder / "parts", tmp_path / "again/parts")
    rest = Received(again)
    assert rest.known() == set(others)
    rest.accept(first, archive.pack(output(plan, first, tmp_path / "rest"))[0], [])
    rest.remove()
    again.finish()
    assert (done := complete(tmp_path / "again", plan))
    assert {test.verdict for cell in done.cells for test in cell.tests} == {Verdict.PASS, Verdict.FAIL}


@pytest.fixture
def machine_plan() -> Plan:
    """The plan of one machine with two cells."""
    return make(matrix_of("6.1", hooksets=["lsm", "kprobe"]), Selectors(test=("truth.open",)))


def test_only_a_cell_without_a_verdict_on_the_product_runs_again(machine_plan: Plan, tmp_path: Path) -> None:
    """A failure beside it stays, also if processes are killed; what is not asked for is refused."""
    first = begun(machine_plan, tmp_path / "out")
    ended = output(machine_plan, "6.1-amd64", tmp_path / "one", Verdict.CRASH, kprobe=Verdict.INFRA)
    (ended / "cells/6.1-lsm").mkdir()
    (ended / "cells/6.1-lsm/console.log").write_text("panic")
    Received(first).accept("6.1-amd64", archive.pack(ended)[0], [])
    second = resumed(first)
    received = Received(second)
    assert received.known() == set()
    assert [cell.id for cell in received.rest().cells] == ["6.1-kprobe"]
    second.store()
    whole = archive.pack(output(machine_plan, "6.1-amd64", tmp_path / "two"))[0]
    with pytest.raises(InfrastructureError, match=r"6\.1-lsm truth\.open: in the results, and not planned"):
        received.accept("6.1-amd64", whole, [])
    rest = output(received.rest(), "6.1-amd64", tmp_path / "three", Verdict.INFRA)
    received.accept("6.1-amd64", archive.pack(rest)[0], [])
    third = resumed(second)
    received = Received(third)
    assert received.known() == set()
    rest = output(received.rest(), "6.1-amd64", tmp_path / "four")
    received.accept("6.1-amd64", archive.pack(rest)[0], [])
    assert verdicts(third) == {"lsm": Verdict.CRASH, "kprobe": Verdict.PASS}
    assert (third.folder / "cells/6.1-lsm/console.log").read_text() == "panic"


def test_a_failure_on_a_machine_that_was_interrupted_stays(machine_plan: Plan, tmp_path: Path) -> None:
    """Such a machine has no archive, and its failure is in the results."""
    first = begun(machine_plan, tmp_path / "out")
    first.record_test("6.1-lsm", TestResult(name="truth.open", verdict=Verdict.FAIL, reason="wrong"))
    assert verdicts(first) == {"lsm": Verdict.FAIL, "kprobe": Verdict.NOT_RUN}
    second = resumed(first)
    received = Received(second)
    assert received.known() == set()
    rest = output(received.rest(), "6.1-amd64", tmp_path / "rest")
    received.accept("6.1-amd64", archive.pack(rest)[0], [])
    assert verdicts(second) == {"lsm": Verdict.FAIL, "kprobe": Verdict.PASS}


def test_what_is_known_survives_an_early_end_of_the_rest(machine_plan: Plan, tmp_path: Path) -> None:
    """Ctrl-C before the rest has read the earlier results does not replace them."""
    first = begun(machine_plan, tmp_path / "out")
    first.record_test("6.1-lsm", TestResult(name="truth.open", verdict=Verdict.FAIL, reason="wrong"))
    before = verdicts(first)
    second = resumed(first)
    second.interrupt("the run was interrupted")
    shown = second.abandon()
    assert (shown.run.exit_code, shown.run.notes[-1]) == (1, "the run was interrupted")
    stored = results_file.load(second.folder / "results.json")
    assert {cell.hookset: cell.verdict for cell in stored.cells} == before


def test_the_rest_of_a_run_that_was_judged_otherwise_is_refused(machine_plan: Plan, tmp_path: Path) -> None:
    """By another harness, or by other expectations."""
    run = begun(machine_plan, tmp_path / "out")
    run.inputs = {"expectations.yaml": "cd"}
    made = kit.make(run, Pins(), Settings(), "local:1", None, lambda: b"")
    assert session.known(made)(run, cast("Any", None)) is made
    for change, what in (
        ({"harness": "ab"}, "the harness"),
        ({"inputs": {"expectations.yaml": "ab"}}, "expectations.yaml"),
    ):
        with pytest.raises(ConfigError, match=f"{what} changed since the run began"):
            session.known(made.model_copy(update=change))(run, cast("Any", None))


def test_results_of_another_plan_are_refused(plan: Plan, machine_plan: Plan, tmp_path: Path) -> None:
    first = begun(plan, tmp_path / "out")
    first.finish()
    (first.folder / "plan.json").write_text(machine_plan.to_json())
    second = resumed(first)
    second.plan = machine_plan
    with pytest.raises(IncompleteError, match=r"5\.10-auto truth\.open: in the results, and not planned"):
        Received(second).known()


def test_a_failure_of_the_harness_on_a_worker_is_one_of_the_run(plan: Plan, tmp_path: Path) -> None:
    """Also beside a machine that was lost; it is recorded once if its machine does not run again."""
    first, second = list(plan.machines())[:2]
    run = begun(plan, tmp_path / "out")
    for machine, verdict in ((first, Verdict.INFRA), (second, Verdict.PASS)):
        data = edited(
            output(plan, machine, tmp_path / machine, verdict),
            lambda data: data["run"].update(
                exit_code=3, notes=["it broke", "a remark"], failures=[{"what": "it broke"}]
            ),
        )
        Received(run).accept(machine, data, [])
    run.finish()
    found = results_file.load(tmp_path / "out/results.json").run
    host = found.hosts[0].name
    assert [failure.what for failure in found.failures] == [
        f"{machine} on {host}: it broke" for machine in (first, second)
    ]
    assert f"{first} on {host}: a remark" in found.notes


def test_an_unexpected_error_stays_when_the_rest_runs_on_a_cluster(plan: Plan, tmp_path: Path) -> None:
    """As on one host; errors of machines that run again, and a scheduler that was lost, are made good."""
    folder = tmp_path / "out"
    run = begun(plan, folder)
    run.fail("the run ended early", InfrastructureError("the scheduler is gone"))
    run.fail("the harness failed", ValueError("a defect"))
    run.record_defect("a defect in a test", "trace", plan.cells[0].id)
    run.finish()
    kit.store(Kit(matrix=tmp_path / "m", cluster="", settings=Settings(), pins=Pins(lock="")), folder)
    options, _ = session.options_of_rest(folder, (), 0.0)
    line = "the harness failed: a defect"
    assert options.failures == (Failure(what=line, unexpected=True),)
    again = Run(options.model_copy(update={"resume": False, "folder": tmp_path / "again"}), FakeBench())
    again.begin(Supplies(accelerator="none"))
    again.finish()
    found = results_file.load(tmp_path / "again/results.json").run
    assert (found.exit_code, found.failures, found.notes[0]) == (3, options.failures, line)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["cells"][0].update(id="../../../etc"),
        lambda data: data["cells"].append(data["cells"][0]),
        lambda data: data["cells"].clear(),
        lambda data: data["cells"][0]["tests"].clear(),
        lambda data: data["cells"][0]["tests"][0].update(name="x" * 5000),
        lambda data: data.update(schema=99),
        lambda data: data.pop("run"),
    ],
)
def test_a_hostile_result_is_refused(plan: Plan, tmp_path: Path, change: Any) -> None:
    machine = next(iter(plan.machines()))
    data = edited(output(plan, machine, tmp_path / "own"), change)
    run = begun(plan, tmp_path / "out")
    with pytest.raises(InfrastructureError, match="the output of a worker"):
        Received(run).accept(machine, data, [])
    run.finish()
    found = results_file.load(tmp_path / "out/results.json")
    assert {test.verdict for cell in found.cells for test in cell.tests} == {Verdict.NOT_RUN}
    assert not list(tmp_path.glob("out/parts/*"))
