"""Complaints in recorded consoles, and the fingerprints that distinguish them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console.complaints import fingerprint, scan
from harness.console.signatures import plain
from tests import ROOT

CONSOLES = ROOT / "tests/consoles"

FINGERPRINTS = {
    "bug": "oops: t_init < do_one_initcall < do_init_module",
    "garbage": "",
    "hung-task": "hung task: hung < kthread",
    "no-root": "no root: mount_block_root < prepare_namespace < kernel_init_freeable",
    "oops": "oops: t_init < do_one_initcall < do_init_module",
    "out-of-memory": "out of memory: __alloc_pages_slowpath < __alloc_pages < folio_alloc",
    "panic": "panic: sysrq_handle_crash < __handle_sysrq < write_sysrq_trigger",
    "rcu-stall": "RCU stall: stall < kthread",
    "silence": "",
    "soft-lockup": "soft lockup: spin < kthread",
    "warning": "warning: t_init < do_one_initcall < do_init_module",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_recorded_consoles_have_a_fingerprint(name: str) -> None:
    lines = (CONSOLES / name / "console.log").read_bytes().split(b"\n")
    assert fingerprint(lines) == FINGERPRINTS[name]
    assert bool(scan(lines).found) == bool(FINGERPRINTS[name])


def _report(build: str) -> list[bytes]:
    """Return one WARN as three builds print it."""
    return [
        b"[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:%d f+0x1%s/0x2" % (len(build), build.encode()),
        b"[    1.000001] RIP: 0010:inner%s+0x1/0x2" % build.encode(),
        b"[    1.000002]  ? noise_%s+0x1/0x2" % build.strip(".").encode(),
        b"[    1.000003]  bpf_prog_%016d_on_open+0x1/0x2" % len(build),
        b"[    1.000004]  </TASK>",
    ]


def test_a_fingerprint_is_the_same_on_every_build() -> None:
    found = {fingerprint(_report(build)) for build in ("", ".cold", ".isra.0", ".constprop.0.cold")}
    assert found == {"warning: inner < bpf:on_open"}


def test_a_test_is_whole_between_its_marks() -> None:
    log = [
        *_report(""),
        b"[    2.000000] agent selftest: begin a",
        *_report(""),
        b"[    2.000001] agent selftest: end a",
        b"[    2.000002] agent selftest: begin b",
        b"WARNING: a program said this",
    ]
    found = scan(log)
    assert len(found.found) == 2
    assert found.whole == {"a"}


OTHER = {
    "oom": b"python3 invoked oom-killer: gfp_mask=0xcc0",
    "hung": b"INFO: task a:1 blocked for more than 120 seconds.",
    "atomic": b"BUG: sleeping function called from invalid context at kernel/x.c:1",
    "lockdep": b"WARNING: possible circular locking dependency detected",
    "warning": b"WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2",
}


@pytest.mark.parametrize("first", OTHER)
@pytest.mark.parametrize(
    "second",
    [
        [b"BUG: KASAN: use-after-free in f+0x1/0x2"],
        [b"BUG: scheduling while atomic: b/2/0x2"],
        [b"INFO: task b:2 blocked for more than 120 seconds."],
        [b"------------[ cut here ]------------", b"WARNING: CPU: 0 PID: 2 at kernel/y.c:2 g+0x1/0x2"],
    ],
)
def test_a_report_without_an_end_hides_no_other(first: str, second: list[bytes]) -> None:
    """The first report may be allowed, and the kernels before 5.16 mark the end of few traces."""
    messages = [OTHER[first], b" f+0x1/0x2", *second, b" g+0x1/0x2"]
    found = scan([b"[    1.%06d] %s" % (number, line) for number, line in enumerate(messages)]).found
    assert [one.line.partition("] ")[2].encode() for one in found] == [OTHER[first], second[-1]]


@pytest.mark.parametrize(
    "lines",
    [
        [b"a invoked oom-killer: gfp_mask=0xcc0", b"Out of memory: Killed process 7 (a)"],
        [b"BUG: kernel NULL pointer dereference", b"Oops: 0000 [#1] SMP", b"Kernel panic - not syncing: x"],
        [b"rcu: INFO: rcu_sched self-detected stall on CPU", b"rcu: INFO: rcu_sched detected stalls on CPUs"],
    ],
)
def test_one_report_is_one_complaint(lines: list[bytes]) -> None:
    """Some reports have several lines that begin a report elsewhere."""
    assert len(scan([b"[    1.000000] " + line for line in lines]).found) == 1


def test_messages_that_the_console_lost_are_a_complaint() -> None:
    """The kernel prints the line itself and without a time; a report before it does not hide it."""
    log = [b"[    1.000000] WARNING: x", b"** 12 printk messages dropped **\r", b"[    9.000000] later"]
    assert scan(log).found[1].line == "** 12 printk messages dropped **"


def test_a_complaint_is_the_same_on_the_console_and_in_the_log() -> None:
    """The console pads the time, and may name the level and the task."""
    ways = (b"[    1.500000] BUG: x", b"[1.500000] BUG: x", b"<4>[    1.500000][  T123] BUG: x")
    assert {plain(line) for line in ways} == {b"[1.500000] BUG: x"}


@given(st.lists(st.binary(max_size=80)))
def test_any_log_can_be_searched(lines: list[bytes]) -> None:
    assert len(scan(lines).found) <= len(lines)
    assert isinstance(fingerprint(lines), str)
