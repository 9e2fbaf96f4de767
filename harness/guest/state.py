"""Looks at a guest's state: the speed of its CPU, and what the agent left behind after its end.

Each look is one shell script, because in an emulated guest every further program costs a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.errors import InfrastructureError
from harness.guest.base import Guest
from harness.host import deadlines

TURNS = 6000  # of a loop that only counts
REFERENCE_S = 0.01  # time for all turns on an ordinary machine of 2020
_PAUSE_S = 0.2  # between two looks: the kernel frees a detached program a moment later
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
# The kernel lists compiled BPF programs in its symbol table, as symbols of the module [bpf].
_PROGRAMS = f"grep -F '[bpf]' /proc/kallsyms; echo {_MARK}\n"


@dataclass(frozen=True)
class State:
    """Programs, mounts, pins and processes in a guest by kind, and its kernel's release ("" if unknown)."""

    found: Mapping[str, frozenset[str]]
    release: str = ""

    def beyond(self, before: State) -> list[str]:
        """Return what has been added since `before`, as "KIND NAME"."""
        return [
            f"{kind} {word}"
            for kind, words in self.found.items()
            for word in sorted(words - before.found.get(kind, frozenset()))
        ]


def measure(guest: Guest, timeout_s: float, *, services: bool = False) -> tuple[float, State]:
    """Return the guest's slowness (1 is an ordinary machine) and its state; raises GuestError.

    A guest with `services` has BPF programs of systemd, which are part of its state.
    """
    programs = _PROGRAMS if services else ""
    before, after, release, *rest = _ask(guest, _COUNT + programs + _MOUNTS + _PROCESSES, timeout_s)
    looked = rest if services else ["", *rest]
    try:
        seconds = float(after) - float(before)
    except ValueError as error:
        raise InfrastructureError(
            f"the guest's /proc/uptime is no number: {before[:40]!r}, {after[:40]!r}"
        ) from error
    return max(1.0, seconds / REFERENCE_S), replace(_state(*looked), release=release)


def leftovers(guest: Guest, before: State, deadline_s: float) -> list[str]:
    """Return what was added since `before`, after waiting until it is nothing. Raises GuestError."""
    deadline = time.monotonic() + deadline_s
    while True:
        state = _state(*_ask(guest, _PROGRAMS + _MOUNTS + _PROCESSES, deadlines.LOOK_S))
        found = state.beyond(before)
        if not found or time.monotonic() + _PAUSE_S >= deadline:
            return found
        time.sleep(_PAUSE_S)


def _ask(guest: Guest, script: str, timeout_s: float) -> list[str]:
    done = guest.run(["sh", "-c", script], timeout_s)
    parts = done.stdout.decode("utf-8", "backslashreplace").split(f"{_MARK}\n")
    if done.status != 0 or len(parts) != script.count(f"echo {_MARK}") + 1:
        raise InfrastructureError(f"the script that reads the guest's state failed: status {done.status}")
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
    """Return all mount points but those of tracefs: the kernel mounts it again when a process uses it."""
    return {words[1] for words in map(str.split, mounts.splitlines()) if words[2] != "tracefs"}


def _executables(listing: str) -> set[str]:
    """Return the programs of all processes, without those of the script itself and of its SSH session."""
    ours = ("/ls", "/dash", "/bash", "/sh", "/sshd", "/sshd-session", "/sshd-auth", "/cat")
    paths = {line.rpartition(" -> ")[2] for line in listing.splitlines() if " -> " in line}
    return {path for path in paths if not path.endswith(ours)}
