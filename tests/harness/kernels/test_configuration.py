"""Kernel configurations: which program types they promise."""

from __future__ import annotations

import pytest

from harness.kernels.configuration import promised

COMMON = "CONFIG_BPF_LSM=y\nCONFIG_KPROBES=y\nCONFIG_DEBUG_INFO_BTF=y\n"
COMMON += "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\nCONFIG_FTRACE_SYSCALLS=y\n"
# As Debian's kernels have them.
OLD = COMMON + 'CONFIG_LSM="lockdown,yama,apparmor"\n'
MIDDLE = COMMON + 'CONFIG_LSM="lockdown,yama,apparmor,bpf"\n# CONFIG_FPROBE is not set\n'
NEW = (
    COMMON + 'CONFIG_LSM="lockdown,yama,apparmor,bpf,ipe"\nCONFIG_FPROBE=y\nCONFIG_HAVE_FTRACE_GRAPH_FUNC=y\n'
)


@pytest.mark.parametrize(
    ("kind", "config", "cmdline", "expected"),
    [
        ("lsm", OLD, "", False),
        ("lsm", OLD, "quiet lsm=lockdown,bpf", True),
        ("lsm", MIDDLE, "", True),
        ("lsm", MIDDLE, "lsm=bpf lsm=yama", False),
        ("kprobe_multi", MIDDLE, "", False),
        ("kprobe_multi", NEW, "", True),
        ("fentry", OLD, "", True),
        ("fentry", "CONFIG_DEBUG_INFO_BTF=y\n", "", False),
        ("tracepoint", NEW, "", True),
        ("tracepoint", NEW, "quiet lockdown=confidentiality", False),
        ("kprobe", NEW, "lockdown=integrity", True),
        ("fentry", NEW, "lockdown=confidentiality", True),
        ("bcc", NEW, "", False),
        ("kprobe", "", "", False),
    ],
)
def test_the_program_types_that_a_configuration_promises(
    kind: str, config: str, cmdline: str, expected: bool
) -> None:
    assert bool(promised(kind, config, cmdline)) == expected


@pytest.mark.parametrize(("kind", "expected"), [("kprobe", False), ("kprobe_multi", False), ("fentry", True)])
def test_programs_that_are_not_compiled_cannot_make_calls_and_tail_calls(kind: str, expected: bool) -> None:
    """So a forced set of kprobes is a SKIP with net.core.bpf_jit_enable=0, and not a FAIL."""
    assert bool(promised(kind, NEW, "", ("net.core.bpf_jit_enable=0",))) == expected
    assert promised(kind, NEW, "", ("net.core.bpf_jit_enable=1",))
