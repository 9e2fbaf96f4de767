"""Runs the steps of `steps.yaml` in a guest with systemd and prints TAP; stops at the first failure.

Keys of a step:
  name      what it proves
  run       a shell script
  status    its exit status; 0 if absent
  prints    what it prints on standard output
  until     a condition in shell that must come true within the step's time
  matches   lines of the agent, written since the step began, that must come in this order; each gives values
            by key, `null` for an absent one
  others    all other lines of the rule in `strict` since then must have these values; without it there may be
            none
  delay     seconds at most between the event and the line of the last match
  within    seconds after the script in which all of that must be true; 60 if absent

The exit status is that of a suite: 0, 1, or 76 to continue after a reboot. The number of the boot is in
FIM_BOOT.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

REBOOT = 76
WITHIN_S = 60.0
MATCHES = Path("/var/log/fim-agent/matches.jsonl")
_POLL_S = 0.02
_WRONG = "Bail out! later steps need this one"

Line = dict[str, Any]


class StepError(Exception):
    """A step failed; the message has what was seen."""


class Reader:
    """Reads the lines that the agent writes from now on, with the time at which each was seen."""

    def __init__(self) -> None:
        self.lines: list[tuple[Line, float]] = []
        self._position = MATCHES.stat().st_size if MATCHES.exists() else 0

    def read(self) -> None:
        """Take the lines that are complete."""
        if not MATCHES.exists():
            return
        with MATCHES.open("rb") as file:
            file.seek(self._position)
            *whole, _ = file.read().split(b"\n")
        now = time.time()
        self._position += sum(len(line) + 1 for line in whole)
        self.lines += [(json.loads(line), now) for line in whole]


def value(line: Line, key: str) -> Any:
    """Return the value at a key such as `event.path`; None if it is absent."""
    found: Any = line
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def fits(line: Line, wanted: Line) -> bool:
    """Whether a line has all wanted values."""
    return all(value(line, key) == expected for key, expected in wanted.items())


def missing(lines: list[Line], wanted: list[Line]) -> list[Line]:
    """Return the wanted lines from the first that did not come in its order."""
    rest = iter(lines)
    for number, one in enumerate(wanted):
        if not any(fits(line, one) for line in rest):
            return wanted[number:]
    return []


def unexpected(lines: list[Line], step: Line, rule: str) -> list[Line]:
    """Return the lines of a rule that nothing in the step allows."""
    wanted = [one for one in step.get("matches", []) if one["rule"] == rule]
    found = [line for line in lines if line["rule"] == rule]
    if "others" not in step:
        return found if len(found) > len(wanted) else []
    return [line for line in found if not any(fits(line, one) for one in (*wanted, step["others"]))]


def play(step: Line, shell: str, rule: str) -> Iterator[str]:
    """Do one step; yield remarks. Lines of `rule` must be expected. Raises StepError."""
    reader = Reader()
    done = subprocess.run(["sh", "-ec", shell + step["run"]], capture_output=True, text=True, check=False)
    if done.returncode != step.get("status", 0) or done.stdout != step.get("prints", done.stdout):
        raise StepError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    deadline = time.monotonic() + step.get("within", WITHIN_S)
    while True:
        reader.read()
        lines = [line for line, _ in reader.lines]
        wanted = missing(lines, step.get("matches", []))
        if not wanted and _true(step, shell):
            break
        if time.monotonic() > deadline:
            raise StepError(f"missing: {wanted}, until: {step.get('until')}\n{_tail(lines)}")
        time.sleep(_POLL_S)
    if wrong := unexpected(lines, step, rule):
        raise StepError(f"not expected:\n{_tail(wrong)}")
    if "delay" in step:
        yield from _delayed(reader, step)


def _true(step: Line, shell: str) -> bool:
    if "until" not in step:
        return True
    script = shell + step["until"]
    return subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode == 0


def _delayed(reader: Reader, step: Line) -> Iterator[str]:
    line, seen = next((line, at) for line, at in reader.lines if fits(line, step["matches"][-1]))
    delay = seen - datetime.fromisoformat(line["time"][:26] + "+00:00").timestamp()
    yield f"the line came {delay:.3f} s after the event"
    if delay > step["delay"]:
        raise StepError(f"the line came {delay:.3f} s after the event, not within {step['delay']} s")


def _tail(lines: list[Line]) -> str:
    return "\n".join(json.dumps(line)[:2000] for line in lines[-20:])


def _diagnostics(text: str) -> list[str]:
    return [f"# {line}" for line in text.splitlines()]


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    """Do the steps of this boot."""
    document = yaml.safe_load(Path("steps.yaml").read_text())
    boots, boot = document["boots"], int(os.environ.get("FIM_BOOT", "1"))
    number = sum(len(steps) for steps in boots[: boot - 1])
    for step in boots[boot - 1]:
        number += 1
        began = time.monotonic()
        try:
            remarks = list(play(step, document["shell"], document["strict"]))
        except StepError as error:
            _print(f"not ok {number} - {step['name']}", *_diagnostics(str(error)), _WRONG)
            subprocess.run(["journalctl", "-u", "fim-agent", "-n", "40", "--no-pager"], stdout=2, check=False)
            return 1
        remarks.append(f"{time.monotonic() - began:.1f} s")
        _print(f"ok {number} - {step['name']}", *_diagnostics("\n".join(remarks)))
    if boot < len(boots):
        return REBOOT
    _print(f"1..{number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
