"""One machine for one command, with fakes in place of machines."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from harness.commands import booted, options
from harness.run.fake import FakeBench


@pytest.mark.parametrize(("words", "steps"), [([], ["boot"]), (["--agent"], ["boot", "deploy"])])
def test_the_agent_is_put_there_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], steps: list[str]
) -> None:
    """After the boot, and not otherwise: it has to be built for it."""
    (tmp_path / "matrix.yaml").write_text("kernels: [6.1]")
    bench = FakeBench(log=tmp_path / "log")
    monkeypatch.setattr(options, "bench", lambda _arguments: bench)
    parser = argparse.ArgumentParser()
    booted.configure(parser)
    with booted.booted(parser.parse_args(["--matrix", str(tmp_path / "matrix.yaml"), *words])):
        pass
    done = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert [step for step in done if step in ("boot", "deploy")] == steps
