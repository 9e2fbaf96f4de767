"""An object of BPF programs: opened, loaded into this host's kernel, or with casts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.kernel import btf, reads
from agent.kernel.libbpf import Btf, Object
from agent.service import privileges
from agent.service.privileges import CAP_BPF
from tests import ROOT

BUILT = ROOT / "build" / "fim.bpf.o"
REFUSED = Path(__file__).parent / "refused-7.3.log"  # the end of a verifier's log, from a real kernel
_CAP_SYS_ADMIN = 21
_TRIVIAL = "Couldn't load trivial BPF program"  # libbpf, before it creates the object's maps
_CALL, _OF_KERNEL = 0x85, 0x20  # BPF_JMP | BPF_CALL; BPF_PSEUDO_KFUNC_CALL as source register, little endian


@pytest.fixture(scope="session")
def opened() -> Iterator[Object]:
    """The compiled object, opened and not loaded: that takes no privilege."""
    assert BUILT.is_file(), f"{BUILT} is missing: run `make build`"
    opened = Object(str(BUILT))
    yield opened
    opened.close()


def load_programs(opened: Object) -> None:
    """Load programs into this host's kernel; skip the test if this process may load none at all.

    Raises KernelError if the kernel refuses these programs.
    """
    try:
        opened.load()
    except KernelError as error:
        if reason := reason_without_programs(error):
            pytest.skip(reason)
        raise


def reason_without_programs(error: KernelError) -> str:
    """Return why this process can load no BPF program, whatever it does; empty if it can load some."""
    if _TRIVIAL in error.detail:
        return "the kernel refuses even a program of two instructions that libbpf tries first"
    # Without CAP_BPF the kernel may allow that one, and refuses other types of programs and maps.
    if "(EPERM)" in error.message and not {CAP_BPF, _CAP_SYS_ADMIN} & privileges.effective():
        return "this process has neither CAP_BPF nor CAP_SYS_ADMIN"
    return ""


def with_casts(folder: Path) -> Path:
    """Return an object that reads the kernel's memory by casts; skip the test if the kernel has none.

    libbpf rewrites programs of hooks while it loads them; programs that run on request are rewritten here.
    """
    if not Path(btf.KERNEL).is_file():
        pytest.skip(f"{btf.KERNEL} is missing")
    kernel = Btf.parse(btf.KERNEL)
    number = kernel.find(reads.CAST, btf.FUNC)
    kernel.close()
    if number is None:
        pytest.skip(f"the kernel has no {reads.CAST}(), which came with 6.2")
    old = struct.pack("=BBhI", _CALL, 0, 0, reads.MARK)
    new = struct.pack("=BBhI", _CALL, _OF_KERNEL, 0, number)
    built = reads.with_casts(BUILT).read_bytes()
    assert old in built, "the object has no cast: run `make build`"
    path = folder / reads.OBJECT
    path.write_bytes(built.replace(old, new))
    return path
