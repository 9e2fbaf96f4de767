"""Finds and ends the QEMU processes of this user, by the token of the run directory that they belong to.

The token is in the name of a guest's QEMU, and in the path of the sockets of a QEMU that libvirt probes. A
process is killed through a pidfd that was opened before its last check, so that a reused process id cannot
be hit.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.host import deadlines
from harness.host.processes import HeldProcess

_PROGRAM = "qemu-system-"

Arguments = list[bytes]


def running() -> Iterator[tuple[int, Arguments]]:
    """Yield the process id and the command line of each QEMU on this host, of any user."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (arguments := _arguments(int(entry.name))):
            yield int(entry.name), arguments


def guest_name(arguments: Arguments) -> str:
    """Return the name of the guest in a command line of QEMU; "" for a QEMU that libvirt probes."""
    words = (os.fsdecode(word) for word in arguments if word.startswith(b"guest="))
    return next((word.removeprefix("guest=").partition(",")[0] for word in words), "")


def of_token(token: str, spared: Collection[str] = ()) -> Iterator[int]:
    """Yield the process ids of the QEMUs of this user that name the token, without the `spared` guests."""
    return (pid for pid, _ in running() if _is_ours(pid, token, spared))


def kill_by_token(token: str, spared: Collection[str] = ()) -> Iterator[int]:
    """Kill the processes of `of_token`; yield the process id of each once it has ended."""
    for pid in of_token(token, spared):
        try:
            process = HeldProcess(pid)
        except ProcessLookupError:
            continue
        try:
            # Check again now that the pidfd is open: only this check is certainly about the process that is
            # killed.
            if _is_ours(pid, token, spared) and process.kill(deadlines.QEMU_EXIT_S):
                yield pid
        finally:
            process.release()


def is_this_users(pid: int) -> bool:
    """Whether every user id of a process is this user's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
        # Real, effective, saved and file system user id.
        words = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
    except (OSError, StopIteration):
        return False
    return {int(word) for word in words} == {os.getuid()}


def runs_qemu(pid: int) -> bool:
    """Whether the program file of a process is a QEMU; its command line could claim anything."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith(_PROGRAM)
    except OSError:
        return False


def sees_our_files(pid: int) -> bool:
    """Whether a process has our root directory and mount namespace; a container or chroot has others."""
    process, ours = Path(f"/proc/{pid}"), Path("/proc/self")
    try:
        same = (process / "ns/mnt").readlink() == (ours / "ns/mnt").readlink()
        return same and (process / "root").samefile(ours / "root")
    except OSError:
        return False


def _is_ours(pid: int, token: str, spared: Collection[str]) -> bool:
    arguments = _arguments(pid)
    named, below = f"guest={token}-".encode(), f"/{token}/".encode()
    ours = any(argument.startswith(named) or below in argument for argument in arguments)
    return ours and guest_name(arguments) not in spared and is_this_users(pid)


def _arguments(pid: int) -> Arguments:
    """Return the command line of a process; [] if it has ended or is no QEMU."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return arguments if Path(os.fsdecode(arguments[0])).name.startswith(_PROGRAM) else []
