"""The developer's loop on a real machine: the saved code is tested, and the machine stays up."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from harness.lab import supplies
from harness.lab.lab import VmBench
from harness.plan.plan import Selectors
from harness.report.lines import Lines
from harness.run.run import Options, Run
from harness.watch import sources
from harness.watch.build import MakeProject
from harness.watch.watch import Watch

if TYPE_CHECKING:
    from harness.vm.connection import Connection

pytestmark = pytest.mark.guest

MATRIX = "kernels: [{name: '6.1', series: '6.1', flavour: cloud}]\nhooksets: [fentry]\n"
SCENARIO = "agent/selftest/scenarios/approvers.py"
TESTS = ("approvers.path", "approvers.flags")
BROKEN = '\n_BODIES = __import__("agent.selftest.scenarios").selftest.scenarios._BODIES\n_BODIES.clear()\n'


class Copied(MakeProject):
    """A copy of the agent that can be edited, with the object that the repository has built."""

    def build(self) -> str:
        return ""

    def build_rest(self) -> str:
        return ""

    def needs(self, programs: Iterable[str]) -> None:
        """Compile nothing: the object stays unchanged."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The part of the repository from which a bundle is made."""
    for name in ("bpf", "build"):
        (tmp_path / name).symlink_to(supplies.ROOT / name)
    shutil.copytree(supplies.ROOT / "agent", tmp_path / "agent")
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    monkeypatch.setattr(supplies, "ROOT", tmp_path)
    supplies.bundle.cache_clear()
    yield tmp_path
    supplies.bundle.cache_clear()


def _watched(root: Path, connection: Connection, edits: list[Callable[[], object]]) -> str:
    """Return the output of a watch during these edits, each made when the watch is ready."""
    selectors = Selectors(test=TESTS)
    out = io.StringIO()
    left = iter(edits)

    def wait(_seconds: float) -> None:
        edit = next(left, None)
        if edit is None:
            raise KeyboardInterrupt
        edit()

    bench = VmBench(connection=connection)
    try:
        run = Run(Options(matrix=root / "matrix.yaml", selectors=selectors, output=root / "out"), bench)
        run.prepare(lambda _line: None)
        folders = [root / "agent"]
        watch = Watch(run, Lines(Console(file=out, width=200)), Copied(root), folders)
        watch.forever(sources.snapshot(folders), wait)
    finally:
        bench.close()
    return out.getvalue()


def _append(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text() + text)


def test_the_saved_code_is_tested(root: Path, connection: Connection) -> None:
    """A broken scenario fails on the running server, and passes once it is corrected."""
    scenario = root / SCENARIO
    sound = scenario.read_text()
    output = _watched(
        root,
        connection,
        [
            _append(scenario, BROKEN),
            lambda: scenario.write_text(sound),
            _append(root / "agent/pipeline.py", "\nEDITED = True\n"),
        ],
    )
    verdicts = re.findall(r"^round \d: (.*?);", output, re.M)
    assert verdicts == ["2 PASS", "2 FAIL", "2 PASS", "2 PASS"], output
    assert re.findall(r"^sent \d+ files, \d+ KiB(.*)", output, re.M) == ["", "", ", with a new server"]
    assert "boot and load" not in output.partition("round 2")[2]
