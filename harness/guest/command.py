"""A user's own program in a guest, as a self-test server of one test: its exit status is the verdict.

    0        PASS
    77       SKIP, its last line is the reason (as automake's tests do)
    other    FAIL, also where a signal ended it; its last line is part of the reason

With `results: tap` each line of its Test Anything Protocol is an assertion besides.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.selftest.protocol import Loaded, Ran
from harness.errors import InfrastructureError
from harness.guest.base import Completed, Guest
from harness.plan.cells import Cell
from harness.plan.matrix import Suite

FOLDER = "/root/suites"
SKIPPED = 77
_PUT_S = 60.0
_DMESG_S = 30.0
_MARKED = (
    'echo "agent selftest: begin $0" >/dev/kmsg; cd "$1" || exit 126; shift; "$@"; status=$?; '
    'echo "agent selftest: end $0" >/dev/kmsg; exit $status'
)
_TAP = re.compile(r"(not )?ok\b[ \t]*(\d*)[ \t]*(?:- )?(.*)")
_TAP_PLAN = re.compile(r"1\.\.(\d+)")
_TAP_EXCUSED = re.compile(r"#\s*(?:skip|todo)\b", re.IGNORECASE)


class CommandServer:
    """A suite in a guest. `base` is the folder that its files are named from, `log` takes what it printed."""

    def __init__(self, guest: Guest, suite: Suite, base: Path, log: Path) -> None:
        self._guest = guest
        self._suite = suite
        self._base = base
        self._log = log
        self._folder = f"{FOLDER}/{suite.name}"

    def load(self, cell: Cell, deadline_s: float) -> Loaded:  # noqa: ARG002 - this is no variant of the agent
        """Put the files."""
        began = time.monotonic()
        done = self._guest.run(["mkdir", "-p", self._folder], deadline_s)
        if done.status:
            raise InfrastructureError(f"{self._folder}: {done.stderr.decode('utf-8', 'backslashreplace')}")
        for path in (self._base / name for name in self._suite.files):
            self._guest.put(path, f"{self._folder}/{path.name}", path.stat().st_mode & 0o777)
        return Loaded(1, round(time.monotonic() - began, 3))

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run the command in the folder of its files, marked in the kernel's log as every test is."""
        began = time.monotonic()
        words = ["sh", "-c", _MARKED, name, self._folder, *self._suite.command]
        done = self._guest.run(words, deadline_s)
        seconds = round(time.monotonic() - began, 3)
        self._log.write_bytes(done.stdout + done.stderr)
        ran = judged(name, done, seconds, tap=self._suite.results == "tap")
        return ran._replace(log=tuple(self._kernel_log(name)))

    def _kernel_log(self, name: str) -> list[str]:
        lines = self._guest.run(["dmesg"], _DMESG_S).stdout.decode("utf-8", "replace").splitlines()
        begins = (number for number, line in enumerate(lines) if line.endswith(f"begin {name}"))
        return lines[max(begins, default=len(lines)) :]

    def close(self) -> None:
        """Nothing runs."""


def judged(name: str, done: Completed, seconds: float, *, tap: bool = False) -> Ran:
    """What an ended command means."""
    rows = [{"name": "exit status", "ok": done.status == 0, "expected": 0, "got": done.status}]
    if done.status == SKIPPED:
        return Ran(1, name, "SKIP", _last_line(done) or "it gave no reason", (), {}, seconds)
    rows += _tap_rows(done.stdout.decode("utf-8", "replace")) if tap else []
    failed = [str(row["name"]) for row in rows[1:] if not row["ok"]]
    verdict = "FAIL" if done.status or failed else "PASS"
    reason = ", ".join(part for part in (_ended(done), *(f"not ok: {word}" for word in failed)) if part)
    return Ran(1, name, verdict, reason, tuple(rows), {}, seconds)


def _ended(done: Completed) -> str:
    if done.status == 0:
        return ""
    said = _last_line(done)
    what = f"exit status {done.status}"
    if done.signal:
        what = f"killed by signal {done.signal}{_signal_name(done.signal)}"
    return f"{what}: {said}" if said else what


def _signal_name(number: int) -> str:
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _last_line(done: Completed) -> str:
    for output in (done.stderr, done.stdout):
        lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return ""


def _tap_rows(text: str) -> list[dict[str, Any]]:
    """The lines of TAP, and whether there are as many as its plan says."""
    rows = list(_tap_lines(text))
    plans = [int(match[1]) for line in text.splitlines() if (match := _TAP_PLAN.match(line))]
    wanted = plans[0] if plans else 0
    complete = bool(plans) and wanted == len(rows)
    return [*rows, {"name": "TAP plan", "ok": complete, "expected": wanted, "got": len(rows)}]


def _tap_lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if match := _TAP.fullmatch(line.rstrip()):
            ok = not match[1] or bool(_TAP_EXCUSED.search(match[3]))
            yield {"name": match[3] or f"test {match[2]}", "ok": ok}
