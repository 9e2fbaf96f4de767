"""A folder in which a scheduler, workers and clients of one test run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.cluster import keys
from harness.results import results_file
from harness.results.model import Results
from tests import ROOT
from tests.harness.run import played

WAIT_S = 600.0  # ends a test that hangs


class Place:
    """Processes that are killed at the end of the test.

    `script` is that of the fake machines, and `module` the program with them.
    """

    def __init__(self, folder: Path, module: str = played.__name__) -> None:
        self.folder = folder
        self.module = module
        self.scheduler_process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        self.out = folder / "out"
        self.keys = folder / "keys"
        self.scheduler_file = folder / "scheduler.json"
        self.script: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def matrix(self, *kernels: str) -> None:
        (self.folder / "matrix.yaml").write_text(f"kernels: [{', '.join(kernels)}]\n")

    def scheduler(self, security: Path | None = None, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
        """Start a scheduler with TLS, and wait until it listens."""
        folder = security or self.keys
        if not folder.exists():
            keys.make(folder)
        pair = str(folder / "scheduler.pem")
        tls = ["--tls-ca-file", str(folder / "ca.pem"), "--tls-cert", pair, "--tls-key", pair]
        where = ["--protocol", "tls", "--host", host, "--port", "0", "--no-dashboard"]
        self.scheduler_file.unlink(missing_ok=True)
        process = self._start(
            "-m", "distributed.cli.dask_scheduler", *where, *tls, "--scheduler-file", str(self.scheduler_file)
        )
        self.wait(self.scheduler_file.exists)
        return process

    def worker(self, name: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start the workers of one host, by the command `prefix`; wait until they joined, or could not."""
        process = self.worker_later(name, *words, prefix=prefix)
        self.wait(lambda: "; Ctrl-C ends" in self.output(process) or process.poll() is not None)
        return process

    def worker_later(self, name: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start the workers of one host."""
        where = [str(self.scheduler_file), "--keys", str(self.keys), "--name", name]
        return self._start("-m", self.module, "worker", *where, "--slots", "1", *words, prefix=prefix)

    def dask_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker by Dask's own program."""
        pair = str(self.keys / "worker.pem")
        tls = ["--tls-ca-file", str(self.keys / "ca.pem"), "--tls-cert", pair, "--tls-key", pair]
        words = ["--nworkers", "1", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", *tls]
        return self._start(
            "-m", "distributed.cli.dask_worker", "--scheduler-file", str(self.scheduler_file), *words
        )

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a client."""
        return self._start("-m", self.module, "run", *words)

    def client(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a client of the scheduler."""
        return self.run(
            "--cluster", str(self.scheduler_file), "--keys", str(self.keys), "--output", "out", *words
        )

    def _start(self, *argv: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        with self._output(len(self._processes)).open("wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, *argv],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "XDG_CACHE_HOME": str(self.folder / "cache"),
                    "FAKE_SCRIPT": json.dumps(self.script),
                    "FAKE_LOG": str(self.log),
                    **self.environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for a process; return its exit code and its output."""
        process.wait(WAIT_S)
        return process.returncode, self.output(process)

    def output(self, process: subprocess.Popen[bytes]) -> str:
        """What a process has printed until now."""
        return self._output(self._processes.index(process)).read_text()

    def _output(self, number: int) -> Path:
        return self.folder / f"output-{number}.txt"

    def wait(self, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for(self, word: str, count: int = 1) -> None:
        """Wait until fake machines logged a line `count` times."""
        self.wait(lambda: self.count(word) >= count)

    def count(self, word: str) -> int:
        return sum(word in line for line in self.lines())

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def go(self) -> None:
        """Let machines go on that hold."""
        (self.folder / "go").touch()

    def results(self) -> Results:
        return results_file.load(self.out / "results.json")

    def pids(self, word: str) -> list[int]:
        """The processes that logged a line."""
        return [int(line.split()[0]) for line in self.lines() if word in line]


def worker_of(nanny: subprocess.Popen[bytes]) -> int:
    """Return the process that a nanny watches."""
    threads = Path(f"/proc/{nanny.pid}/task").iterdir()  # each has its own children
    children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    (found,) = (pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def exists(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def once(found: Results, machines: int) -> None:
    """Fail unless every machine has exactly one cell."""
    counted = Counter(cell.id for cell in found.cells)
    assert len(counted) == machines
    assert set(counted.values()) == {1}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
