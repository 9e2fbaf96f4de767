"""`harness repro` runs a cell of an earlier run again on exactly its kernel."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import harness.lab.lab
from harness import cli
from harness.commands import repro as repro_command
from harness.commands import run as run_command
from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import Event
from harness.kernels import KernelRequest, Lock, resolve
from harness.lab import repro
from harness.results import results_file
from harness.run.fake import FakeBench
from harness.run.run import Options
from tests.harness.kernels.conftest import FakeApt, fake_apt

__all__ = ["fake_apt"]


class Benches:
    """Counts the requested benches, and records the lock of each."""

    def __init__(self) -> None:
        self.locks: list[Lock | None] = []

    def __call__(self, _uri: str, lock: Lock | None = None, **_: object) -> FakeBench:
        self.locks.append(lock)
        return FakeBench({"6.1-lsm::truth.open": "fail"})


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> Benches:
    found = Benches()
    monkeypatch.setattr(harness.lab.lab, "VmBench", found)
    return found


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run in which one cell failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: [6.1, 6.12]\nhooksets: [lsm, kprobe]\n")
    bench = FakeBench({"6.1-lsm::truth.open": "fail"})
    run_command.run(Options(matrix=matrix, output=tmp_path / "old"), bench, Console(file=io.StringIO()), "0")
    matrix.unlink()  # the results alone are enough
    return tmp_path / "old/latest"


def _fill_cache(earlier: Path, cell: str) -> None:
    plan, found = repro.plan_of(earlier / "results.json", cell)
    facts = next(one.kernel for one in found.cells if one.id == cell)
    kernel = repro._kernel(plan.cells[0], facts)
    Cache().get("kernels", kernel.digest, lambda folder: (folder / "vmlinuz").touch())


def test_one_cell_runs_again_on_the_packages_that_the_cache_has(
    earlier: Path, benches: Benches, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill_cache(earlier, "6.1-lsm")
    assert cli.main(["repro", str(earlier), "6.1-lsm", "--test", "truth.[or]*", "--output", "new"]) == 1
    again = results_file.load(Path("new/results.json"))
    assert [(cell.id, cell.verdict) for cell in again.cells] == [("6.1-lsm", "FAIL")]
    assert {"truth.open", "truth.rename"} <= {test.name for test in again.cells[0].tests}
    assert all(test.name.startswith(("truth.o", "truth.r")) for test in again.cells[0].tests)
    (lock,) = benches.locks
    found = lock.find(KernelRequest("6.1", "6.1")) if lock else None
    assert found
    assert found.packages[0].sha256 == "0" * 64
    assert "the same packages, from the cache" in capsys.readouterr().err


def test_packages_that_a_repository_still_has(fake_apt: FakeApt, tmp_path: Path) -> None:
    """They are found by hash and not by version, and keep the other facts of the index."""
    repositories = fake_apt.repositories()
    now = resolve(KernelRequest("7.3", "7.3"), repositories=repositories)
    found = repro._listed(now, repositories, lambda _line: None)
    assert found == now


def test_packages_that_are_gone_are_named(
    earlier: Path, fake_apt: FakeApt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, found = repro.plan_of(earlier / "results.json", "6.1-lsm")
    lines: list[Event] = []
    cache = Cache(tmp_path / "empty")
    lock = repro.lock_of(
        plan.cells[0], found, lines.append, cache=cache, repositories=fake_apt.repositories()
    )
    assert lock is None
    assert "gone, neither in the cache nor in a repository: linux-image 1; taking the newest" in str(
        lines[-1]
    )


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["6.1-lsn"], "has no cell '6.1-lsn' (did you mean '6.1-lsm'?)"),
        (["6.1-lsm", "--test", "loss.nothing"], "6.1-lsm ran no such test"),
    ],
)
def test_what_was_not_run_cannot_be_repeated(
    earlier: Path, benches: Benches, capsys: pytest.CaptureFixture[str], words: list[str], printed: str
) -> None:
    assert cli.main(["repro", str(earlier), *words]) == 2
    assert printed in capsys.readouterr().err


def test_results_without_a_plan_are_refused(earlier: Path) -> None:
    (earlier / "plan.json").unlink()
    with pytest.raises(ConfigError, match=r"plan\.json"):
        repro.plan_of(earlier / "results.json", "6.1-lsm")


def test_another_accelerator_is_reported(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repro_command._compare_hosts(results_file.load(earlier / "results.json"), "6.1-lsm", "kvm")
    assert "the earlier run used tcg, this host uses kvm" in capsys.readouterr().err
