"""Kernels are resolved for --kernel only where it names a release; nothing is built to learn one."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness.lab.lab
from harness.errors import ConfigError
from harness.lab.lab import VmBench
from harness.plan.cells import Cell
from harness.plan.plan import Plan, Selectors
from harness.run.fake import FakeBench
from harness.run.run import Options, Run


class Resolving(FakeBench):
    """Counts how often releases are asked for."""

    asked = 0

    def releases(self, plan: Plan) -> dict[str, str]:
        self.asked += 1
        return super().releases(plan)


def _options(folder: Path, kernel: str, **selectors: tuple[str, ...]) -> Options:
    matrix = folder / "matrix.yaml"
    slow = "{name: slow, fragment: debug, tags: [slow]}"
    matrix.write_text(f'kernels: ["6.1", {slow}]\n')
    return Options(matrix=matrix, selectors=Selectors(kernel=(kernel,), **selectors))


def test_a_name_that_a_tag_leaves_out_asks_for_no_release(tmp_path: Path) -> None:
    """The kernels of the matrix would be fetched and built, only to say the same."""
    bench = Resolving()
    with pytest.raises(ConfigError, match="plan is empty") as error:
        Run(_options(tmp_path, "slow"), bench)
    assert "--tag slow" in error.value.hint
    assert bench.asked == 0


def test_a_word_that_names_no_kernel_is_compared_with_releases(tmp_path: Path) -> None:
    bench = Resolving()
    (cell,) = Run(_options(tmp_path, "6.1.1-*", test=("truth.open",)), bench).plan.cells
    assert (cell.kernel.name, bench.asked) == ("6.1", 1)


def test_a_kernel_is_not_built_to_learn_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(cells: dict[str, Cell], *_: object) -> tuple[dict[str, object], dict[str, object]]:
        asked.extend(cells)
        return {}, {}

    monkeypatch.setattr(harness.lab.lab, "resolve_all", resolve)
    plan = Run(_options(tmp_path, "*", tag=("slow",)), FakeBench()).plan
    VmBench("", tmp_path / "matrix.lock").releases(plan)
    assert asked == ["6.1"]
