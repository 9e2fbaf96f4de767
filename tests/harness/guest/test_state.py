"""The check for what a test left in a guest, and the deadlines of a guest."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.errors import InfrastructureError
from harness.guest import state as vitals
from harness.guest.base import Completed
from harness.guest.state import REFERENCE_S, State
from harness.host import deadlines
from harness.host.deadlines import MOST, ORDINARY, OutOfTimeError, Pace
from tests.harness.guest.fake import FakeGuest

MOUNTS = "overlay / overlay rw 0 0\n"
EXES = "lrwxrwxrwx 1 root root 0 Nov 22 12:00 /proc/1/exe -> /usr/sbin/fim-init\n"


def _guest(*outputs: str, status: int = 0) -> FakeGuest:
    left = list(outputs)

    def answer(_argv: Sequence[str]) -> Completed:
        return Completed(status, (left.pop(0) if len(left) > 1 else left[0]).encode(), b"")

    return FakeGuest(answer)


def _fresh() -> State:
    guest = _guest(f"10.00\n==\n10.15\n==\n6.1.0-1\n==\n{MOUNTS}==\n/sys/fs/bpf/*\n==\n{EXES}")
    slowness, state = vitals.measure(guest, 1)
    assert slowness == pytest.approx(0.15 / REFERENCE_S)
    assert state.release == "6.1.0-1"
    return state


def _now(programs: str = "", mounts: str = "", pins: str = "/sys/fs/bpf/*", exes: str = "") -> str:
    return f"{programs}==\n{MOUNTS}{mounts}==\n{pins}\n==\n{EXES}{exes}"


def test_an_unchanged_guest_has_nothing_left() -> None:
    assert vitals.leftovers(_guest(_now()), _fresh(), 1) == []


def test_what_is_left_is_named() -> None:
    now = _now(
        programs="ffffffffc0001000 t bpf_prog_0123456789abcdef_on_open\t[bpf]\n",
        mounts="tmpfs /tmp/x tmpfs rw 0 0\ntmpfs / tmpfs rw 0 0\n",
        pins="/sys/fs/bpf/fim",
        exes="lrwxrwxrwx 1 root root 0 Nov 22 12:00 /proc/99/exe -> /usr/bin/python3.11\n",
    )
    assert vitals.leftovers(_guest(now), _fresh(), 0) == [
        "program bpf_prog_0123456789abcdef_on_open",
        "mount / (2)",
        "mount /tmp/x",
        "pin /sys/fs/bpf/fim",
        "process /usr/bin/python3.11",
    ]


def test_a_mount_that_comes_by_itself_is_not_left() -> None:
    """The kernel mounts tracefs, and systemd what is mounted when it is used first."""
    fresh, automatic = _fresh(), "systemd-1 /x autofs rw 0 0\n"
    before = replace(fresh, found={**fresh.found, "mount": frozenset({"/", "/x"})})
    now = _now(mounts=f"{automatic}binfmt_misc /x binfmt_misc rw 0 0\ntracefs /y tracefs rw 0 0\n")
    assert vitals.leftovers(_guest(now), before, 0) == []


def _script(tmp_path: Path, *values: str) -> str:
    for name, value in zip(("enable", "kallsyms", "harden"), values, strict=False):
        (tmp_path / f"bpf_jit_{name}").write_text(f"{value}\n")
    return vitals._programs(str(tmp_path))


@pytest.mark.parametrize(
    ("values", "asked"),
    [("110", "grep"), ("010", "python3"), ("100", "python3"), ("112", "python3"), ("", "python3")],
)
def test_programs_without_symbols_are_found(tmp_path: Path, values: str, asked: str) -> None:
    """The kernel has no symbols of programs that it interprets, or if it hardens its compiler."""
    for name in ("grep", "python3"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name).chmod(0o755)
    shell = ["/bin/sh", "-c", _script(tmp_path, *values)]
    done = subprocess.run(shell, env={"PATH": str(tmp_path)}, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{asked}\n==\n"


def _loaded(name: bytes) -> int:
    """Load a program of two instructions here; return its file descriptor, -1 if this host refuses it."""
    code = ctypes.create_string_buffer(struct.pack("<QQ", 0xB7, 0x95))
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(code), ctypes.addressof(licence)
    attr = struct.pack("<IIQQIIQII16s", 1, 2, *addresses, 0, 0, 0, 0, 0, name)
    number = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, -1)
    return int(ctypes.CDLL(None).syscall(number, 5, attr, len(attr)))


def test_a_program_is_found_by_its_number(tmp_path: Path) -> None:
    """With its tag and name, on the kernel of this host."""
    program = _loaded(b"on_open_of_15_c")
    if program < 0:
        pytest.skip("this host loads no BPF program")
    done = subprocess.run(["/bin/sh", "-c", _script(tmp_path)], capture_output=True, text=True, check=True)
    os.close(program)
    found = vitals._state(done.stdout, "", "", "").found["program"]
    assert [word for word in found if re.fullmatch(r"bpf_prog_[0-9a-f]{16}_on_open_of_15_c", word)]


def test_a_list_of_programs_that_fails_is_no_empty_list(tmp_path: Path) -> None:
    done = subprocess.run(["/bin/sh", "-c", _script(tmp_path)], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode != 0


def test_a_process_that_ends_a_moment_later_is_not_left() -> None:
    assert vitals.leftovers(_guest(_now(mounts="tmpfs /x tmpfs rw 0 0\n"), _now()), _fresh(), 5) == []


def test_the_processes_of_the_check_itself_are_not_left() -> None:
    exes = "".join(
        f"l 1 root root 0 Nov 22 12:00 /proc/9/exe -> /usr/bin/{name}\n" for name in ("ls", "dash")
    )
    assert vitals.leftovers(_guest(_now(exes=exes)), _fresh(), 0) == []


@pytest.mark.parametrize("guest", [_guest(""), _guest(_now(), status=1), _guest("x\n==\ny\n" + "==\n" * 4)])
def test_a_guest_that_cannot_be_checked_is_not_clean(guest: FakeGuest) -> None:
    with pytest.raises(InfrastructureError):
        vitals.measure(guest, 1)


@pytest.mark.parametrize(
    ("slowness", "load", "stretch"),
    [(1, 0.1, 1), (ORDINARY, 1, 1), (2 * ORDINARY, 1, 2), (ORDINARY, 3, 3), (9 * ORDINARY, 9, MOST)],
)
def test_deadlines_grow_with_slowness_and_load(slowness: float, load: float, stretch: float) -> None:
    pace = Pace(slowness=slowness, load=lambda: load)
    assert pace.within(10) == pytest.approx(10 * stretch)


def test_no_deadline_ends_after_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 s before the end of the run every longer deadline is 5 s; after the end it is 0."""
    monkeypatch.setattr(deadlines, "time", Mock(monotonic=lambda: 1000.0))
    pace = Pace(ends_at=1005.0, limit_s=60, load=lambda: 1.0)
    assert (pace.within(3), pace.within(100)) == (3, 5)
    with pytest.raises(OutOfTimeError, match="deadline of 60 s"):
        Pace(ends_at=0.0, limit_s=60).within(1)
