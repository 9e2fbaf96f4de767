"""Runs in the guest of a bench: starts one monitor, runs the workloads beside it, and prints what they cost.

It reads a `Task` as JSON from its standard input and prints a report as JSON; `harness.bench.trial` has both
sides. It imports only what Python comes with. While a workload runs it opens no file, because monitors would
report that: the files in /proc are opened before, and read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

READY_S = 120  # how long a monitor may take to report its first event, by the guest's clock
QUIET_S = 2.0  # after so long without a new line, what is missing is lost
SETTLE_S = 0.5  # after a workload whose lines are not counted
PROBE_S = 0.1
POLL_S = 0.05
CALM_S = 30.0
CALM_LOOK_S = 1.0
CALM_SHARE = 0.01  # of the CPU
STOP_S = 30
MAX_REASON = 300

Task = dict[str, Any]


class UnableError(Exception):
    """The monitor cannot run on this kernel."""


class Tasks:
    """Reads the CPU time of every thread but this one, in ns, through files that stay open."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
        self._folders: dict[str, int] = {}
        self._files: dict[tuple[str, str], int] = {}
        self._own = str(os.getpid())

    def read(self) -> dict[tuple[str, str], int]:
        """Return the CPU time of each thread, by process and thread; a thread that has ended is missing."""
        found = {}
        for pid in os.listdir(self._proc):  # noqa: PTH208 - an open folder
            if pid.isdigit() and pid != self._own:
                for tid in self._threads(pid):
                    with contextlib.suppress(OSError):
                        found[pid, tid] = self._time(pid, tid)
        return found

    def _threads(self, pid: str) -> list[str]:
        with contextlib.suppress(OSError):
            if pid not in self._folders:
                flags = os.O_RDONLY | os.O_DIRECTORY
                self._folders[pid] = os.open(f"{pid}/task", flags, dir_fd=self._proc)
            return os.listdir(self._folders[pid])  # noqa: PTH208 - an open folder
        return []

    def _time(self, pid: str, tid: str) -> int:
        file = self._files.get((pid, tid))
        if file is None:
            file = self._files[pid, tid] = os.open(f"{tid}/schedstat", os.O_RDONLY, dir_fd=self._folders[pid])
        return int(os.pread(file, 64, 0).split()[0])


def added(before: dict[tuple[str, str], int], after: dict[tuple[str, str], int]) -> int:
    """Return the CPU time between two readings; a thread that ended in between is not counted."""
    return sum(time_ns - before.get(key, 0) for key, time_ns in after.items())


class Lines:
    """Counts the lines that report one file, as the output of a monitor grows."""

    def __init__(self, path: str, pattern: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        os.lseek(self._file, 0, os.SEEK_END)
        self._pattern = re.compile(pattern.encode(), re.MULTILINE)
        self._rest = b""
        self.count = 0

    def read(self) -> int:
        """Return how many new lines report the file."""
        new = 0
        while piece := os.read(self._file, 1 << 20):
            whole, newline, self._rest = (self._rest + piece).rpartition(b"\n")
            new += len(self._pattern.findall(whole + newline))
        self.count += new
        return new

    def wait(self, wanted: int) -> None:
        """Return when that many lines were read, or none was new for a while."""
        quiet_at = time.monotonic() + QUIET_S
        while self.count < wanted and time.monotonic() < quiet_at:
            if self.read():
                quiet_at = time.monotonic() + QUIET_S
            else:
                time.sleep(POLL_S)


def idle_s() -> float:
    """Return how long this guest has been idle since its boot."""
    return float(Path("/proc/uptime").read_text("ascii").split()[1])


def kernel_kib() -> int:
    """Return what the kernel uses for itself: slabs, areas such as BPF maps, per-CPU data, page tables."""
    wanted = ("Slab", "VmallocUsed", "Percpu", "PageTables", "KernelStack")
    rows = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    return sum(int(row[1]) for row in rows if row[0].rstrip(":") in wanted)


def pss_kib(pid: int) -> int:
    """Return the memory of a process and its descendants, shared pages in equal parts."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            total += int(line.split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return total + sum(pss_kib(int(child)) for child in children)


def shell(script: str) -> None:
    """Run a script. Raises UnableError with the end of its output."""
    done = subprocess.run(["sh", "-e", "-c", script], capture_output=True, check=False)
    if done.returncode:
        raise UnableError(last_line(done.stderr or done.stdout) or f"status {done.returncode}: {script}")


def last_line(output: bytes) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:MAX_REASON] if lines else ""


class Running:
    """The started monitor; `report` is what its start cost."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._errors = Path("/run/bench-errors")
        self.report: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        if task["argv"] and not shutil.which(task["argv"][0]):
            raise UnableError(f"{task['argv'][0]} is not in this root")
        shell(task["prepare"])
        if task["argv"] and not task["wraps"]:
            self._start()

    def _start(self) -> None:
        kernel, began, idle = kernel_kib(), time.monotonic_ns(), idle_s()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._task["argv"],
                cwd=self._task["folder"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        armed, refusal = not self._task["arm"], ""
        ready = f"{re.escape(self._task['watched'])}/ready\\.[0-9]+"
        lines = Lines(self._task["output"], self._task["line"].replace("PATH", ready))
        deadline = time.monotonic() + READY_S
        for number in range(1 << 30):
            if not armed:
                armed, refusal = self._arm()
            if armed and self._reports(number, lines):
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UnableError(refusal or last_line(self._errors.read_bytes()) or "it reports nothing")
        busy = time.monotonic_ns() - began - round((idle_s() - idle) * 1e9)
        self.report = {"start_ns": busy, "kernel_kib": max(0, kernel_kib() - kernel)}

    def _arm(self) -> tuple[bool, str]:
        """Run what needs the started monitor; return whether that worked, and why it did not."""
        done = subprocess.run(["sh", "-e", "-c", self._task["arm"]], capture_output=True, check=False)
        time.sleep(PROBE_S)
        return done.returncode == 0, last_line(done.stderr or done.stdout)

    def _reports(self, number: int, lines: Lines) -> bool:
        """Open a new file for writing; return whether the monitor reported this or an earlier one."""
        Path(f"{self._task['watched']}/ready.{number}").write_bytes(b"")
        time.sleep(PROBE_S)
        return lines.read() > 0

    def memory(self) -> None:
        """Add the memory of the monitor to the report."""
        if self._process:
            self.report["pss_kib"] = pss_kib(self._process.pid)

    def stop(self) -> None:
        """End the monitor."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def calm(tasks: Tasks) -> None:
    """Return when the guest does little by itself: a monitor may go on to prepare after its first event."""
    deadline = time.monotonic() + CALM_S
    while time.monotonic() < deadline:
        before = tasks.read()
        time.sleep(CALM_LOOK_S)
        if added(before, tasks.read()) < CALM_LOOK_S * CALM_SHARE * 1e9:
            return


def measure(task: Task, workload: Task, tasks: Tasks) -> dict[str, Any]:
    """Run one workload; return its costs in ns, and how many of its events were reported."""
    pattern = task["line"].replace("PATH", re.escape(workload["path"]))
    lines = Lines(task["output"], pattern) if task["argv"] and workload["generated"] else None
    argv = [*(task["argv"] if task["wraps"] else ()), *workload["argv"]]
    time.sleep(SETTLE_S)
    before = tasks.read()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        return {"unable": last_line(errors) or f"status {status}"}
    if lines:
        lines.wait(workload["generated"])
    else:
        time.sleep(SETTLE_S)
    report: dict[str, Any] = json.loads(output)
    others = added(before, tasks.read())
    if task["wraps"]:
        others += round((used.ru_utime + used.ru_stime) * 1e9) - report["cpu_ns"]
    seen = lines.count if lines else None
    return {**report, "others_ns": others, "seen": seen}


def run(task: Task) -> dict[str, Any]:
    """Run a task; return its report, with `unable` if the monitor cannot run."""
    shell(task["disk"])
    for workload in task["workloads"]:
        shell(workload["prepare"])
    os.sync()
    Path(task["output"]).write_bytes(b"")
    running = None
    try:
        running = Running(task)
        tasks = Tasks()
        calm(tasks)
        measured = {
            workload["name"]: measure(task, workload, tasks)
            for workload in task["workloads"]
            if task["argv"] or not workload["waits"]
        }
        running.memory()
    except UnableError as error:
        return {"unable": str(error)}
    finally:
        if running:
            running.stop()
    return {**running.report, "workloads": measured}


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
