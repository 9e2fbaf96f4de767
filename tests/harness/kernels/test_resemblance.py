"""Which distribution's configuration a kernel resembles."""

from __future__ import annotations

from harness.kernels import resemblance

TRIXIE = """\
CONFIG_SECURITY_PATH=y
CONFIG_LSM="landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor,selinux,smack,tomoyo,bpf,ipe"
CONFIG_FPROBE=y
CONFIG_IO_URING=y
CONFIG_DEBUG_INFO_BTF=y
# CONFIG_BPF_JIT_ALWAYS_ON is not set
CONFIG_PREEMPT_VOLUNTARY=y
"""


def test_a_configuration_with_all_traits_of_a_distribution() -> None:
    assert str(resemblance.of(TRIXIE)) == "configuration: has all 7 compared traits of Debian 13"


def test_what_differs_from_the_nearest_is_named() -> None:
    """A name that contains `bpf` is not in the list of security modules."""
    found = resemblance.of(TRIXIE.replace("IO_URING=y", "IO_URING=n").replace(",bpf,", ",bpfish,"))
    assert found.names == ("Debian 11", "Debian 13", "RHEL 9.2")
    assert found.differences == (("FPROBE", "y", "n"), ("IO_URING", "n", "y"))
    assert str(found).startswith("configuration: resembles Debian 11 and Debian 13 and RHEL 9.2 most")


def test_rows_differ_from_each_other() -> None:
    """Two rows with the same traits could never be told apart."""
    rows = [tuple(sorted(row.items())) for row in resemblance.DISTRIBUTIONS.values()]
    assert len(set(rows)) == len(rows)
    assert {trait for row in resemblance.DISTRIBUTIONS.values() for trait in row} <= set(
        resemblance.traits("")
    )
