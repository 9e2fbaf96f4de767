"""One machine for one command, with fakes in place of machines."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.commands import booted, options
from harness.host import deadlines
from harness.kernels import kbuild
from harness.lab.lab import VmMachine
from harness.run.fake import FakeBench


@pytest.mark.parametrize(("words", "steps"), [([], ["boot"]), (["--agent"], ["boot", "deploy"])])
def test_the_agent_is_deployed_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], steps: list[str]
) -> None:
    """The agent is deployed after the boot, and only if the command needs it: it must be built first."""
    (tmp_path / "matrix.yaml").write_text("kernels: [6.1]")
    bench = FakeBench(log=tmp_path / "log")
    monkeypatch.setattr(options, "bench", lambda _arguments: bench)
    parser = argparse.ArgumentParser()
    booted.configure(parser)
    with booted.booted(parser.parse_args(["--matrix", str(tmp_path / "matrix.yaml"), *words])):
        pass
    done = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert [step for step in done if step in ("boot", "deploy")] == steps


def test_a_busy_host_gets_more_time_for_the_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `harness run`: with four runnable programs for each CPU, four times as much."""
    monkeypatch.setattr("os.getloadavg", lambda: (4.0, 4.0, 4.0))
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    given: list[float] = []
    machine = SimpleNamespace(boot=given.append, notes=[])
    booted._boot(cast(VmMachine, machine), "6.1", agent=False)
    assert given == [4 * deadlines.BOOT_S]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_build_that_a_command_waits_for(number: signal.Signals) -> None:
    """The build has a session of its own, so that it outlived the command."""
    builds: list[subprocess.Popen[str]] = []

    def wait() -> None:
        with booted.on_stderr(), kbuild._group(["sleep", "60"], os.environ) as process:
            builds.append(process)
            os.kill(os.getpid(), number)
            process.wait()

    before = signal.signal(number, signal.SIG_IGN if number == signal.SIGTERM else signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(number, before)
    assert builds[0].returncode == -signal.SIGKILL
