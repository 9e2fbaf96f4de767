"""Runs many simulated machines while workers are killed, one joins late, and the scheduler dies once.

Prints what became of every machine, and the times between machines. It fails unless each machine of the plan
has exactly one result: PASS, or INFRA for a machine that lost as many workers as a machine may.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.cluster.placement import MAX_LOSSES
from tests.campaigns.cluster import player
from tests.harness.cluster.place import Place, worker_of

_LOOK_S = 0.2


@dataclass(frozen=True)
class Event:
    """A line of the log of the fake machines."""

    when: float
    worker: int
    host: str
    what: str
    name: str


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def events(log: Path) -> list[Event]:
    found = []
    for line in log.read_text().splitlines() if log.exists() else []:
        when, _pid, worker, host, what, *rest = line.split()
        found.append(Event(float(when), int(worker), host, what, rest[0] if rest else ""))
    return found


class Campaign:
    """One campaign in a folder of its own."""

    def __init__(self, arguments: argparse.Namespace, place: Place) -> None:
        self.arguments = arguments
        self.place = place
        self.random = random.Random(arguments.seed)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.kills = 0
        self.client_mib = 0.0  # the most memory that a client had

    def start(self, name: str) -> None:
        self.workers[name] = self.place.worker(name)

    def prepare(self) -> None:
        kernels = "\n".join(
            f"- {{name: k{number}, series: '6.1'}}" for number in range(self.arguments.machines)
        )
        (self.place.folder / "matrix.yaml").write_text(f"kernels:\n{kernels}\n")
        self.place.scheduler_process = self.place.scheduler()
        for number in range(self.arguments.workers - 1):
            self.start(f"host{number}")

    def kill_one(self) -> None:
        """Kill the worker process of a random nanny, as the kernel does when memory is short."""
        nanny = self.random.choice(list(self.workers.values()))
        try:
            os.kill(worker_of(nanny), signal.SIGKILL)
        except (ValueError, OSError):
            return  # it is being started
        self.kills += 1

    def watch(self, client: subprocess.Popen[bytes], until: int | None) -> None:
        """Kill a worker now and then, until the client ends or `until` machines have ended."""
        due = time.monotonic() + self.arguments.kill_every
        while not _ended_within(client, _LOOK_S):
            self.client_mib = max(self.client_mib, _most_memory_mib(client))
            ended = sum(event.what == "destroy" for event in events(self.place.log))
            if until is not None and ended >= until:
                return
            if time.monotonic() >= due:
                due += self.arguments.kill_every
                self.kill_one()

    def run(self) -> int:
        self.prepare()
        count = self.arguments.machines
        start = time.monotonic()
        client = self.place.client("--test", "truth.open")
        self.watch(client, count // 4)
        began = time.time()
        self.start("late")
        joined = time.time()
        self.place.wait(lambda: self.boots("late"))
        first = self.boots("late")[0]
        say(
            f"late worker: joined {joined - began:.1f} s, first machine {first - began:.1f} s after its start"
        )
        self.watch(client, count // 2)
        assert self.place.scheduler_process
        self.place.scheduler_process.kill()
        code, output = self.place.ended(client)
        say(f"scheduler killed: the client ended with {code}: {output.splitlines()[-1]}")
        for process in self.workers.values():
            process.wait()
        self.place.scheduler()
        for name in list(self.workers):
            self.start(name)
        words = (
            "--resume",
            "out",
            "--cluster",
            str(self.place.scheduler_file),
            "--keys",
            str(self.place.keys),
        )
        client = self.place.run(*words)
        self.watch(client, None)
        code, output = self.place.ended(client)
        say(output.splitlines()[-1])
        say(f"{time.monotonic() - start:.0f} s in all, load {os.getloadavg()[1]:.1f}")
        return self.report()

    def boots(self, host: str) -> list[float]:
        """Return when machines booted on a host."""
        return [event.when for event in events(self.place.log) if (event.host, event.what) == (host, "boot")]

    def report(self) -> int:
        found = self.place.results()
        counted = Counter(cell.id for cell in found.cells)
        verdicts = Counter(str(cell.verdict) for cell in found.cells)
        log = events(self.place.log)
        booted = Counter(event.name for event in log if event.what == "boot")
        gaps, spent = spans(log)
        busy = [span for span in spent if span >= self.arguments.seconds]  # others were interrupted
        twice = sum(one > 1 for one in counted.values())
        again = sum(one > 1 for one in booted.values())
        say(f"machines {len(counted)}, twice {twice}, verdicts {dict(verdicts)}")
        say(f"workers killed {self.kills}, machines that ran again {again}")
        for note in found.run.notes:
            say(f"note: {note}")
        size = (self.place.out / "results.json").stat().st_size
        say(f"results.json {size / 2**20:.2f} MiB, client at most {self.client_mib:.0f} MiB")
        if gaps:
            gap, machine = statistics.mean(gaps), statistics.mean(busy)
            say(f"between two machines of a worker: median {statistics.median(gaps):.3f} s, mean {gap:.3f} s")
            say(f"a machine: mean {machine:.2f} s; overhead {gap / machine:.2%}, of {len(gaps)} gaps")
        once = len(counted) == self.arguments.machines and not twice
        explained = verdicts["INFRA"] * MAX_LOSSES <= self.kills and verdicts.keys() <= {"PASS", "INFRA"}
        return int(not (once and explained))


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _most_memory_mib(process: subprocess.Popen[bytes]) -> float:
    """Return the most resident memory that a process has had, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def spans(log: list[Event]) -> tuple[list[float], list[float]]:
    """The seconds between the machines of each worker process, and of each machine."""
    last: dict[int, float] = {}
    boots: dict[int, float] = {}
    gaps, busy = [], []
    for event in log:
        if event.what == "boot":
            boots[event.worker] = event.when
            if event.worker in last:
                gaps.append(event.when - last[event.worker])
        elif event.what == "destroy" and event.worker in boots:
            last[event.worker] = event.when
            busy.append(event.when - boots[event.worker])
    return gaps, busy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill-every", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a machine takes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ[player.SECONDS] = str(arguments.seconds)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Place(Path(folder), player.__name__) as place,
    ):
        return Campaign(arguments, place).run()


if __name__ == "__main__":
    sys.exit(main())
