"""Complaints in recorded consoles, and the fingerprints that distinguish them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console.complaints import SPLATS, fingerprint, scan
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


def test_a_complaint_belongs_to_the_test_that_ran() -> None:
    log = [
        *_report(""),
        b"[    2.000000] agent selftest: begin a",
        *_report(""),
        b"[    2.000001] agent selftest: end a",
        b"[    2.000002] agent selftest: begin b",
        b"WARNING: a program said this",
    ]
    found = scan(log)
    assert [splat.test for splat in found.found] == ["", "a"]
    assert found.whole == {"a"}


def test_the_number_of_complaints_is_bounded() -> None:
    assert len(scan(_report("") * 1000).found) == SPLATS


@given(st.lists(st.binary(max_size=80)))
def test_any_log_can_be_searched(lines: list[bytes]) -> None:
    assert len(scan(lines).found) <= SPLATS
    assert isinstance(fingerprint(lines), str)
