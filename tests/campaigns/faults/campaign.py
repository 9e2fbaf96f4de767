"""Plays random runs one after the other; each is judged and logged at once, so it can be resumed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.host.capacity import cpus
from harness.lab import supplies as lab_supplies
from harness.lab.lab import VmBench
from harness.plan.plan import Selectors
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from harness.vm import reaper
from harness.vm.connection import reap_domains
from tests.campaigns.faults import judge, player
from tests.campaigns.faults.draw import USUAL_S, Draw, drawn, healthy
from tests.campaigns.faults.judge import Ended, Seen

TESTS = ("truth.open", "approvers.path")
HOOKSET = "tracepoint"  # the quickest to load
BUSY = 4  # programs that want each core where the host is busy
LIMIT_S = 600.0  # of one run: what takes longer hangs

Say = Callable[[str], object]

MATRIX = """kernels:
  - name: "{kernel}"
    series: "{kernel}"
    flavour: cloud
hooksets: [{hookset}]
"""


class Campaign:
    """Random runs of one kernel; `log` has a line for each, `keep` the folders of wrong ones."""

    def __init__(self, kernel: str, log: Path, keep: Path, say: Say) -> None:
        self.kernel, self.log, self.keep, self.say = kernel, log, keep, say
        self._usual = dict(USUAL_S)

    def random(self, seed: int, count: int) -> list[Ended]:
        """Play runs 0 to `count` - 1 of a seed, except those in the log."""
        return self._all([(number, drawn(seed, number)) for number in range(count)])

    def steady(self, seed: int, count: int) -> list[Ended]:
        """Play as many runs without a fault."""
        return self._all([(number, healthy(seed, number)) for number in range(count)])

    def play(self, draws: Sequence[Draw]) -> list[Ended]:
        """Play these runs."""
        return self._all(list(enumerate(draws)))

    def _all(self, draws: list[tuple[int, Draw]]) -> list[Ended]:
        have = {(one.number, one.draw): one for one in self.read()}
        missing = [pair for pair in draws if pair not in have]
        if missing:
            with tempfile.TemporaryDirectory() as scratch:
                supplies, words = self._prepared(Path(scratch))
                for number, draw in missing:
                    have[number, draw] = self._one(number, draw, supplies, words, Path(scratch, "run"))
        return [have[pair] for pair in draws]

    def read(self) -> list[Ended]:
        """Return the content of the log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [one for one in map(judge.parsed, lines) if one.kernel == self.kernel]

    def _prepared(self, scratch: Path) -> tuple[Supplies, list[str]]:
        matrix = scratch / "matrix.yaml"
        matrix.write_text(MATRIX.format(kernel=self.kernel, hookset=HOOKSET))
        options = Options(matrix=matrix, selectors=Selectors(test=TESTS))
        with contextlib.closing(VmBench()) as bench:
            plan = Run(options, bench).plan
            supplies = bench.prepare(plan, bench.accelerator(plan.cells[0].arch)[0], print)
        lab_supplies.bundle()  # before the first fork, so that no run has to
        words = ["run", "--matrix", str(matrix), *(word for test in TESTS for word in ("--test", test))]
        return supplies, words

    def _one(self, number: int, draw: Draw, supplies: Supplies, words: list[str], folder: Path) -> Ended:
        folder.mkdir()
        began = time.monotonic()
        more = [*words, "--output", str(folder / "out"), *(["--cold"] if draw.cold else [])]
        with player.output(draw, folder), _load(draw.busy):
            load = os.getloadavg()[0]
            delay_s = draw.fraction * self._usual.get(draw.phase, 0.0)
            code, problem = _waited(player.forked(draw, delay_s, supplies, more, folder))
            found, problem = _seen(folder, code, problem)
        note = _note(folder)
        struck = note.get("struck", {})
        outcome, green = judge.outcome_of(draw, found, struck, problem)
        reason = "; ".join(filter(None, (problem, found.reason)))[:300]
        seconds = round(time.monotonic() - began, 1)
        ended = Ended(
            number, draw, found.verdict, code, outcome, reason, seconds, load, struck, self.kernel, green,
            found.lost,
        )  # fmt: skip
        self._learn(note.get("lasted", {}), draw)
        if outcome == "wrong":
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.copytree(
                folder,
                self.keep / f"{self.kernel}-{number}-{draw.kind.replace(' ', '-')}",
                dirs_exist_ok=True,
            )
        shutil.rmtree(folder)
        with self.log.open("a") as file:
            file.write(ended.line())
        self.say(_line(ended))
        return ended

    def _learn(self, lasted: dict[str, float], draw: Draw) -> None:
        """Measure how long phases take here, from runs that were not interrupted."""
        if draw.group in ("none", "overcome") and not draw.cold:
            for phase in USUAL_S.keys() & lasted.keys():
                self._usual[phase] = 0.7 * self._usual[phase] + 0.3 * lasted[phase]


def _line(one: Ended) -> str:
    draw = one.draw
    where = f"{draw.phase} {draw.fraction:.2f}" if draw.fault else ""
    return (
        f"{one.number:>4} {draw.kind:<44} {where:<13} {'busy' if draw.busy else 'idle'} {one.verdict:<9} "
        f"{one.outcome:<6} {one.seconds:5.1f} s  {one.struck.get('problem', '')} {one.reason[:90]}"
    )


def _note(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / "moments.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _waited(pid: int) -> tuple[int, str]:
    """Return the exit code of a run, negative for a signal, and the error if it did not end."""
    handle = os.pidfd_open(pid)
    ending: int = signal.SIGTERM  # where the campaign itself is interrupted, so that no machine is left
    try:
        ended = bool(select.select([handle], [], [], LIMIT_S)[0])
        ending = 0 if ended else signal.SIGKILL
    finally:
        os.close(handle)
        if ending:
            os.kill(pid, ending)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), "" if ended else f"the run did not end within {LIMIT_S:.0f} s"


def _seen(folder: Path, code: int, problem: str) -> tuple[Seen, str]:
    """Return what the run left; a killed run may leave its QEMU to the reaper of the next one."""
    if code < 0:
        reaper.reap(reap_domains=reap_domains)
    left = _emulators(folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    problem = problem or (f"QEMU was left: {left}" if left else "")
    try:
        return judge.seen(folder, code), problem
    except (OSError, ValueError, LookupError) as error:
        return Seen(code, f"exit {code}", ""), problem or f"the results cannot be read: {error}"


def _emulators(folder: Path) -> list[int]:
    """Return the QEMU processes of a run, which have its folder in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if words.startswith(b"/usr/bin/qemu-system") and str(folder).encode() in words:
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def _load(busy: bool) -> Iterator[None]:
    """Start busy programs until each core has `BUSY` of them; none if the host's load stays unchanged."""
    running = int(re.split(r"[ /]", Path("/proc/loadavg").read_text())[3])
    count = max(0, BUSY * cpus() - running + 1) if busy else 0
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()
