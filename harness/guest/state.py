"""How a guest is: how slow its CPU is, and what is left in it when nothing of ours should be.

Each is one shell script, because in an emulated guest every further program costs a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.errors import InfrastructureError
from harness.guest.base import Guest

TURNS = 6000  # of a loop that only counts
REFERENCE_S = 0.01  # what they take on an ordinary machine of 2020
_LOOK_S = 60.0  # once; that nothing more goes away is another question than how slow the guest is
_PAUSE_S = 0.2  # a program that was detached is freed a moment later
_MARK = "=="

_COUNT = f"""
read -r before _ </proc/uptime
i=0; while [ $i -lt {TURNS} ]; do i=$((i+1)); done
read -r after _ </proc/uptime
read -r release </proc/sys/kernel/osrelease
echo $before; echo {_MARK}; echo $after; echo {_MARK}; echo "$release"; echo {_MARK}
"""
_MOUNTS = f"cat /proc/self/mounts; echo {_MARK}; echo /sys/fs/bpf/*; echo {_MARK}\n"
_PROCESSES = "ls -l /proc/[0-9]*/exe 2>/dev/null; true\n"
# Programs of BPF that the kernel compiled are in its table of symbols, marked as of no module.
_PROGRAMS = f"grep -F '[bpf]' /proc/kallsyms; echo {_MARK}\n"


@dataclass(frozen=True)
class State:
    """What is in a guest, as sets of words by kind, and its kernel's release ("" where it was not asked)."""

    found: Mapping[str, frozenset[str]]
    release: str = ""

    def beyond(self, before: State) -> list[str]:
        """What is here and was not there before, in words."""
        return [
            f"{kind} {word}"
            for kind, words in self.found.items()
            for word in sorted(words - before.found.get(kind, frozenset()))
        ]


def measure(guest: Guest, timeout_s: float) -> tuple[float, State]:
    """How many times slower than an ordinary machine a guest is, and what is in it; raises GuestError."""
    before, after, release, *rest = _ask(guest, _COUNT + _MOUNTS + _PROCESSES, timeout_s)
    try:
        seconds = float(after) - float(before)
    except ValueError as error:
        raise InfrastructureError(f"the guest's clock says {before[:40]!r} and {after[:40]!r}") from error
    return max(1.0, seconds / REFERENCE_S), replace(_state("", *rest), release=release)


def leftovers(guest: Guest, before: State, deadline_s: float) -> list[str]:
    """What is in a guest that was not there `before`; waits a while for it to go. Raises GuestError."""
    deadline = time.monotonic() + deadline_s
    while True:
        state = _state(*_ask(guest, _PROGRAMS + _MOUNTS + _PROCESSES, _LOOK_S))
        found = state.beyond(before)
        if not found or time.monotonic() + _PAUSE_S >= deadline:
            return found
        time.sleep(_PAUSE_S)


def _ask(guest: Guest, script: str, timeout_s: float) -> list[str]:
    done = guest.run(["sh", "-c", script], timeout_s)
    parts = done.stdout.decode("utf-8", "backslashreplace").split(f"{_MARK}\n")
    if done.status != 0 or len(parts) != script.count(f"echo {_MARK}") + 1:
        raise InfrastructureError(f"the guest could not be looked at: status {done.status}")
    return [part.strip() for part in parts]


def _state(programs: str, mounts: str, pins: str, processes: str) -> State:
    return State(
        {
            "program": frozenset(line.split()[2] for line in programs.splitlines() if " bpf_prog_" in line),
            "mount": frozenset(_mount_points(mounts)),
            "pin": frozenset(pins.split()),
            "process": frozenset(_executables(processes)),
        }
    )


def _mount_points(mounts: str) -> set[str]:
    """Where something is mounted; the kernel itself mounts tracefs a second time, for whoever looks there."""
    return {words[1] for words in map(str.split, mounts.splitlines()) if words[2] != "tracefs"}


def _executables(listing: str) -> set[str]:
    """Programs that run, of which those by which we look are none of anybody's."""
    ours = ("/ls", "/dash", "/bash", "/sh", "/sshd", "/sshd-session", "/sshd-auth", "/cat")
    paths = {line.rpartition(" -> ")[2] for line in listing.splitlines() if " -> " in line}
    return {path for path in paths if not path.endswith(ours)}
