"""One random run: `harness run` as a user types it, in a process of its own, with one fault.

The process is forked from the campaign, which has imported the harness and prepared the supplies already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness import cli
from harness.commands import options
from harness.errors import InfrastructureError
from harness.host import deadlines
from harness.host.deadlines import Pace
from harness.lab.lab import VmBench
from harness.run import cell as cells
from harness.run.supplies import Supplies
from harness.vm import connection
from harness.vm.hypervisor import StartError
from harness.vm.snapshot import Snapshots
from tests.campaigns.faults.draw import Draw
from tests.campaigns.faults.moments import Moments, WatchedBench, deed
from tests.campaigns.faults.scene import Scene

# Where a fault is known only by a deadline that passes.
SHORT_S = {"BOOT_S": 30.0, "LOAD_S": 30.0, "TEST_S": 6.0, "PING_S": 4.0, "QUIT_S": 20.0}
SHORT_STRETCH = 2.0
ROOM = "24m"  # of the small file system that a run writes to where its disk is to be full


def play(draw: Draw, delay_s: float, supplies: Supplies, words: list[str], folder: Path) -> int:
    """Play the run in this process, which must end afterwards; return the exit code of `harness run`."""
    note = folder / "moments.json"
    moments = Moments(draw, delay_s, note, _deed(draw, folder))
    real = VmBench(cold=draw.cold)
    cells.MAX_MACHINES = draw.tries
    patches: list[Any] = [
        # The saved machine that all runs restore stays, though a run that cannot restore it drops it.
        mock.patch.object(Snapshots, "drop", return_value=None),
        mock.patch.object(options, "bench", return_value=WatchedBench(real, supplies, moments)),
    ]
    kind = draw.fault
    if kind and kind.hangs:
        patches += _short_deadlines()
    if kind and kind.how in LIBVIRT:
        patches.append(LIBVIRT[kind.how](moments))
    for patch in patches:
        patch.start()
    if kind and kind.how == "worker killed":
        words = [*words, "-n", "1"]
        threading.Thread(target=_kill_worker, args=(moments, folder), daemon=True).start()
    return cli.main(words)


def _deed(draw: Draw, folder: Path) -> Callable[[Scene], str]:
    kind = draw.fault
    if kind is None or kind.lie or kind.how in (*LIBVIRT, "worker killed"):
        return lambda _scene: ""
    if kind.strike:
        return deed(kind.strike)
    return {"disk full": _fill(folder), "two SIGINT": _twice, "cancelled": _cancelled}[kind.how]


def _fill(folder: Path) -> Callable[[Scene], str]:
    def strike(_scene: Scene) -> str:
        argv = ["dd", "if=/dev/zero", f"of={folder}/out/filler", "bs=4k"]
        subprocess.run(argv, stderr=subprocess.DEVNULL, check=False)
        return ""

    return strike


def _twice(_scene: Scene) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    return ""


def _cancelled(_scene: Scene) -> str:
    """Send the signals with which GitHub cancels a job."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(7.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2.5)
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _short_deadlines() -> Iterator[Any]:
    """Shorten deadlines to a third or less, which a healthy cell still meets on a busy host."""
    stretch = Pace.stretch
    yield mock.patch.object(Pace, "stretch", lambda pace: min(SHORT_STRETCH, stretch(pace)))
    for name, seconds in SHORT_S.items():
        yield mock.patch.object(deadlines, name, seconds)


def _once(moments: Moments, owner: object, name: str, fails: Callable[..., Any]) -> Any:
    """Replace a function so that its first call is `fails(real, *arguments)`."""
    real = getattr(owner, name)
    left = [1]

    def called(*rest: Any, **named: Any) -> Any:
        if not left:
            return real(*rest, **named)
        left.pop()
        moments._struck = {"before": "boot", "after": "boot", "problem": ""}
        moments._write()
        return fails(real, *rest, **named)

    return mock.patch.object(owner, name, called)


def _refuses(_real: Callable[..., Any], *_rest: Any) -> Any:
    raise StartError("the machine did not start: internal error: process exited while connecting to monitor")


def _loses(real: Callable[..., Any], self: connection.Connection, name: str, *rest: Any) -> Any:
    """Let libvirt forget a domain whose QEMU still runs."""
    real(self, name, *rest)
    self._domains.pop(name)
    raise StartError(f"the machine did not start: Domain not found: no domain with matching name '{name}'")


def _unopened(_real: Callable[..., Any], uri: str) -> Any:
    raise InfrastructureError(
        f"cannot connect to {uri}: internal error: Could not get access to ACL tech driver"
    )


LIBVIRT: dict[str, Callable[[Moments], Any]] = {
    "libvirt refuses": lambda moments: _once(moments, connection.Connection, "_begin", _refuses),
    "libvirt cannot be opened": lambda moments: _once(moments, connection, "_open", _unopened),
    "libvirt loses the machine": lambda moments: _once(moments, connection.Connection, "_begin", _loses),
}


def _kill_worker(moments: Moments, folder: Path) -> None:
    """Kill a worker in the drawn phase, which is recognised by the files that the worker writes."""
    answers = {"boot": -1, "test": 1, "close": 3}[moments.draw.phase]  # lines of the log of self-tests
    while _lines(folder) < answers:
        time.sleep(0.02)
    time.sleep(moments.delay_s)
    workers = [pid for pid in _children(os.getpid()) if _is_worker(pid)]
    phase = moments.draw.phase
    finished = list(folder.glob("out/results.json"))
    moments._struck = {"before": "after" if finished else phase, "after": phase, "problem": ""}
    if not workers:
        moments._struck["problem"] = "there is no worker"
    moments._write()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def _lines(folder: Path) -> int:
    """Return how many lines the log of self-tests has; -1 before it exists, -2 before the machine does."""
    for path in folder.glob("out/cells/*/selftest.jsonl"):
        return len(path.read_bytes().splitlines())
    return -1 if list(folder.glob("out/cells/*")) else -2


def _children(pid: int) -> list[int]:
    lists = (path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for words in lists for word in words.split()]


def _is_worker(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(b"exec(eval(sys.stdin.readline()))" in word for word in words)  # execnet starts one so


@contextmanager
def output(draw: Draw, folder: Path) -> Iterator[None]:
    """Make the run's output folder; on a small file system of its own if it is to become full."""
    if not (draw.fault and draw.fault.how == "disk full"):
        yield
        return
    out = folder / "out"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "small", str(out)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def forked(draw: Draw, delay_s: float, supplies: Supplies, words: list[str], folder: Path) -> int:
    """Return the id of a new process that plays a run and ends; `folder` gets its output."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1  # as the interpreter ends with an exception
    try:
        os.setsid()
        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(said, number)
        code = play(draw, delay_s, supplies, words, folder)
    finally:
        if sys.exc_info()[0]:
            os.write(2, traceback.format_exc().encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
