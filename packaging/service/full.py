"""Fills the disk, causes more matches than a queue holds, and counts them: `python3 full.py WORD`.

The words are the functions of `WORDS`, in the order of their use; each ends with 0 if it succeeded.
"""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MATCHES = Path("/var/log/fim-agent/matches.jsonl")
LOSS = "agent.loss"
FILL = Path("/var/fill")
BEFORE = Path("/run/fim-matched")
TOOL = "/usr/bin/fimtool"
CHANGES = 4_000  # of 4 KiB and more each: the queue of a sink has 16 MiB
_LONG = "x" * 4_000  # an argument, which is in each match
_CHANGE = f"import os\nfor number in range({CHANGES}): os.chmod('{TOOL}', 0o700 + number % 2)"


def status() -> dict[str, Any]:
    """Return the agent's status."""
    done = subprocess.run(["fim-agent", "status"], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def matched() -> int:
    """Return how many matches the agent passed to the file."""
    return int(status()["sinks"]["file"]["offered"])


def fill() -> int:
    """Write until no byte fits any more."""
    with FILL.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(block))
        try:
            file.write(b"x")
        except OSError as error:
            return 0 if error.errno == errno.ENOSPC else 1
    return 1


def change() -> int:
    """Change the watched file."""
    BEFORE.write_text(str(matched()))
    return subprocess.run([sys.executable, "-c", _CHANGE, _LONG], check=False).returncode


def evaluated() -> int:
    """Succeed once all changes have matched, some matches are dropped, and the file accepted none."""
    sink = status()["sinks"]["file"]
    return not (sink["offered"] >= int(BEFORE.read_text()) + CHANGES and sink["dropped"] and sink["errors"])


def free() -> int:
    """Free the space."""
    FILL.unlink()
    return 0


def delivered() -> int:
    """Succeed once nothing waits, and the file has or counts all of them."""
    sink = status()["sinks"]["file"]
    lines = map(json.loads, MATCHES.read_bytes().splitlines())
    reported = sum(line["agent"].get("dropped", {}).get("file", 0) for line in lines if line["rule"] == LOSS)
    whole = sink["queued"] == 0 and sink["delivered"] + sink["dropped"] == sink["offered"]
    return not (whole and reported == sink["dropped"])


WORDS = {word.__name__: word for word in (fill, change, evaluated, free, delivered)}

if __name__ == "__main__":
    sys.exit(WORDS[sys.argv[1]]())
