"""Runs a user's own program in a guest as a self-test server of one test; its exit status is the verdict.

    0        PASS
    77       SKIP, its last line is the reason (as automake's tests do)
    76       the guest reboots and the command runs again, if the suite has reboots left
    other    FAIL, also if a signal ended it; its last line is part of the reason

With `results: tap` its standard output is also read as TAP; see `tap`.
"""

from __future__ import annotations

import io
import itertools
import shlex
import signal
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import InfrastructureError
from harness.guest import tap
from harness.guest.base import STDERR, STDOUT, Completed, Guest, GuestTimeoutError, TooMuchOutputError
from harness.guest.selftest import Loaded, Ran
from harness.host import deadlines
from harness.plan import suites
from harness.plan.cells import Cell
from harness.plan.matrix import Suite
from harness.text import one_line

FOLDER = "/root/suites"
SKIPPED = 77
REBOOT = 76
BOOT = "FIM_BOOT"  # environment variable of the command: 1, and one more after each reboot
MAX_OUTPUT = 16 << 20  # bytes that a suite may print
_ARCHIVE = "/tmp/fim-suite.tar"  # noqa: S108 - a path in the guest
_NAME = 100  # characters of a command in a reason
_MARKED = (
    'echo "agent selftest: begin $0" >/dev/kmsg; cd "$1" || exit 126; shift; "$@"; status=$?; '
    'echo "agent selftest: end $0" >/dev/kmsg; exit $status'
)


class CommandServer:
    """The self-test server of one suite in a guest.

    `base` is the folder that the suite's file names start from; `log` receives what the command prints.
    `reboot` reboots the guest within a number of seconds and returns it.
    """

    hooks: tuple[Any, ...] = ()

    def __init__(
        self, guest: Guest, suite: Suite, base: Path, log: Path, reboot: Callable[[float], Guest]
    ) -> None:
        self._guest = guest
        self._suite = suite
        self._base = base
        self._log = log
        self._reboot = reboot
        self._runs = 0
        self._folder = f"{FOLDER}/{suite.name}"

    def load(self, cell: Cell, deadline_s: float) -> Loaded:  # noqa: ARG002 - this is no variant of the agent
        """Copy the files into a new folder of the guest. Raises ConfigError if one is missing."""
        began = time.monotonic()
        archive = _archive(suites.members(self._suite, self._base))
        self._guest.put_bytes(archive, _ARCHIVE)
        folder = shlex.quote(self._folder)
        script = f"rm -rf {folder}; mkdir -p {folder} && tar -C {folder} --no-same-owner -xf {_ARCHIVE}"
        done = self._guest.run(["sh", "-c", f"{script} && rm {_ARCHIVE}"], deadline_s)
        if done.status:
            raise InfrastructureError(f"{self._folder}: {done.stderr.decode('utf-8', 'backslashreplace')}")
        return Loaded(1, round(time.monotonic() - began, 3))

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run the command in the folder of its files, with the marks of a test in the kernel's log.

        The output of all its boots is in the log even if it does not end. Raises GuestTimeoutError,
        GuestLostError, MachineDiedError.
        """
        began = time.monotonic()
        shown = one_line(shlex.join(self._suite.command), _NAME)
        self._runs += 1
        with _open(self._log, again=self._runs > 1) as file:
            output = _Output(file)
            try:
                status = self._boots(name, output, began + deadline_s)
            except GuestTimeoutError as error:
                raise GuestTimeoutError(
                    self._too_slow(shown, deadline_s, output), program="the command"
                ) from error
            except TooMuchOutputError:
                reason = f"{shown} printed more than {MAX_OUTPUT >> 20} MiB and was stopped"
                return Ran(1, name, "FAIL", reason, (), {}, round(time.monotonic() - began, 3))
        seconds = round(time.monotonic() - began, 3)
        done = Completed(status, bytes(output.kept[STDOUT]), bytes(output.kept[STDERR]))
        ran = judged(name, done, seconds, tap_output=self._suite.results == "tap")
        return ran._replace(log=tuple(self._kernel_log(name)))

    def _boots(self, name: str, output: _Output, deadline: float) -> int:
        """Run the command, and again after each reboot that it requests; return its last status."""
        shown = one_line(shlex.join(self._suite.command), _NAME)
        for boot in itertools.count(1):
            words = ["sh", "-c", _MARKED, name, self._folder, *self._suite.command]
            if self._suite.reboots:
                words = ["env", f"{BOOT}={boot}", *words]
            left_s = deadline - time.monotonic()
            status = self._guest.stream(words, output.take, timeout_s=left_s, name=shown)
            if status != REBOOT or boot > self._suite.reboots:
                return status
            self._guest = self._reboot(deadline - time.monotonic())
        raise AssertionError("unreachable")

    def _too_slow(self, shown: str, deadline_s: float, output: _Output) -> str:
        limit_s = self._suite.timeout
        factor = f"{deadline_s / limit_s:.1f}"
        stretched = f" (timeout: {limit_s:g} s, stretched {factor} times for a slow guest or a busy host)"
        why = stretched if deadline_s > limit_s else ""
        last = last_line(bytes(output.kept[STDERR]), bytes(output.kept[STDOUT]))
        output_end = f"last line: {one_line(last)}" if last else "it printed nothing"
        return f"{shown} did not end within {deadline_s:.0f} s{why}; {output_end}"

    def _kernel_log(self, name: str) -> list[str]:
        done = self._guest.run(["dmesg"], deadlines.SUITE_DMESG_S)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        begins = (number for number, line in enumerate(lines) if line.endswith(f"begin {name}"))
        return lines[max(begins, default=len(lines)) :]

    def close(self) -> None:
        """Do nothing: no server runs."""


class _Output:
    """Writes a command's output to a file as it arrives, and keeps each stream for the verdict."""

    def __init__(self, file: BinaryIO) -> None:
        self.kept = {STDOUT: bytearray(), STDERR: bytearray()}
        self._file = file
        self._left = MAX_OUTPUT

    def take(self, stream: int, data: bytes) -> None:
        """An `Output`. Raises TooMuchOutputError, and InfrastructureError if the file cannot be written."""
        kept = data[: self._left]
        self._left -= len(kept)
        self.kept[stream] += kept
        try:
            self._file.write(kept)
        except OSError as error:
            raise InfrastructureError(f"the output cannot be written: {error}") from error
        if len(kept) < len(data):
            raise TooMuchOutputError(f"more than {MAX_OUTPUT} bytes")


def _open(log: Path, *, again: bool) -> BinaryIO:
    """Open the log without a buffer, so that it is complete if the guest ends."""
    try:
        file = log.open("ab" if again else "wb", buffering=0)
        if again:
            file.write(b"\n--- the command once more ---\n")
    except OSError as error:
        raise InfrastructureError(f"the output cannot be written: {error}") from error
    return file


def _archive(files: Mapping[str, Path]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files.items():
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), path.stat().st_mode & 0o777
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def judged(name: str, done: Completed, seconds: float, *, tap_output: bool = False) -> Ran:
    """The verdict that follows from a command's exit status and output."""
    row = {"name": "exit status", "ok": done.status == 0, "expected": 0, "got": done.status}
    report = tap.judge(done.stdout.decode("utf-8", "replace")) if tap_output else None
    failures = report is not None and (report.bailed or any(not point["ok"] for point in report.rows[:-1]))
    if done.status == SKIPPED and not failures:
        reason = last_line(done.stderr, done.stdout) or "no reason given"
        return Ran(1, name, "SKIP", reason, (), {}, seconds)
    rows = (row, *(report.rows if report else ()))
    verdict = "FAIL" if done.status else report.verdict if report else "PASS"
    reasons = (
        _ended(done),
        report.reason if report and not (done.status and report.verdict == "SKIP") else "",
    )
    return Ran(1, name, verdict, ", ".join(filter(None, reasons)), rows, {}, seconds)


def _ended(done: Completed) -> str:
    if done.status == 0:
        return ""
    output = last_line(done.stderr, done.stdout)
    what = f"exit status {done.status}"
    if done.signal:
        what = f"killed by signal {done.signal}{_signal_name(done.signal)}"
    return f"{what}: {output}" if output else what


def _signal_name(number: int) -> str:
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def last_line(*streams: bytes) -> str:
    """Return the last line that is not empty, from the first stream that has one."""
    for stream in streams:
        lines = [
            line.strip() for line in stream[-4096:].decode("utf-8", "replace").splitlines() if line.strip()
        ]
        if lines:
            return lines[-1]
    return ""
