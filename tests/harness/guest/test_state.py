"""The check for what a test left in a guest, and the deadlines of a guest."""

from __future__ import annotations

from collections.abc import Sequence
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
        mounts="tmpfs /tmp/x tmpfs rw 0 0\n",
        pins="/sys/fs/bpf/fim",
        exes="lrwxrwxrwx 1 root root 0 Nov 22 12:00 /proc/99/exe -> /usr/bin/python3.11\n",
    )
    assert vitals.leftovers(_guest(now), _fresh(), 0) == [
        "program bpf_prog_0123456789abcdef_on_open",
        "mount /tmp/x",
        "pin /sys/fs/bpf/fim",
        "process /usr/bin/python3.11",
    ]


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
