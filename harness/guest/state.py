"""Looks at a guest's state: the speed of its CPU, and what the agent left behind after its end.

Each look is one shell script, because in an emulated guest every further program costs a tenth of a second.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping
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
# Prints the BPF programs by their numbers, in lines like those of /proc/kallsyms.
_BY_NUMBER = """
import ctypes, errno, os, struct
call = ctypes.CDLL(None, use_errno=True).syscall
number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
def bpf(command, layout, *fields):
    attr = ctypes.create_string_buffer(struct.pack(layout, *fields), 16)
    done = call(number, command, attr, 16)
    if done < 0 and ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), "bpf(2)")
    return done, struct.unpack_from("4I", attr)
program = 0
while True:
    done, (_, program, *_) = bpf(11, "I", program)
    if done < 0:
        break
    fd, _ = bpf(13, "I", program)
    if fd < 0:
        continue
    info = ctypes.create_string_buffer(80)
    bpf(15, "IIQ", fd, 80, ctypes.addressof(info))
    os.close(fd)
    name = info.raw[64:].split(bytes(1))[0].decode()
    print("0 t bpf_prog_" + info.raw[8:16].hex() + "_" + name)
"""
_NAME = len("bpf_prog_0123456789abcdef_") + 15  # the symbol's name may be longer than the program's


def _programs(sysctls: str = "/proc/sys/net/core") -> str:
    """Return a script that lists the BPF programs.

    The kernel's symbol table has them if it compiles and names them. To start Python takes longer.
    """
    words = [f"read -r {name} <{sysctls}/bpf_jit_{name}" for name in ("enable", "kallsyms", "harden")]
    return f"""
{"; ".join(words)}
if [ "$enable$kallsyms$harden" = 110 ]; then grep -F '[bpf]' /proc/kallsyms
else python3 -ISc {shlex.quote(_BY_NUMBER)} || exit; fi
echo {_MARK}
"""


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
    programs = _programs() if services else ""
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
        state = _state(*_ask(guest, _programs() + _MOUNTS + _PROCESSES, deadlines.LOOK_S))
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
            "program": frozenset(
                line.split()[2][:_NAME] for line in programs.splitlines() if " bpf_prog_" in line
            ),
            "mount": frozenset(_mount_points(mounts)),
            "pin": frozenset(pins.split()),
            "process": frozenset(_executables(processes)),
        }
    )


def _mount_points(mounts: str) -> Iterator[str]:
    """Yield all mount points but those of tracefs: the kernel mounts it again when a process uses it.

    A mount on another one is a mount point with a number, unless it is an automatic one (autofs).
    """
    rows = [line.split() for line in mounts.splitlines()]
    automatic = {words[1] for words in rows if words[2] == "autofs"}
    for point, count in Counter(words[1] for words in rows if words[2] != "tracefs").items():
        yield point
        if point not in automatic:
            yield from (f"{point} ({number})" for number in range(2, count + 1))


def _executables(listing: str) -> set[str]:
    """Return the programs of all processes, without those of the script itself and of its SSH session."""
    ours = ("/ls", "/dash", "/bash", "/sh", "/sshd", "/sshd-session", "/sshd-auth", "/cat")
    paths = {line.rpartition(" -> ")[2] for line in listing.splitlines() if " -> " in line}
    return {path for path in paths if not path.endswith(ours)}
