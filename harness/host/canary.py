"""Measures an accelerator: runs a small program in QEMU that does what a kernel does first in its boot.

The program is `images/canary/`; it prints "begin" on its serial port, works, then prints "alive".
"""

from __future__ import annotations

import os
import platform
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host.resources import FOLDER

BEGIN = b"fim-canary: begin"
ALIVE = b"fim-canary: alive"

_SOURCES = FOLDER / "canary"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_CPUS = {"kvm": "host", "tcg": "max"}  # as in domain.xml.j2


class BuildError(InfrastructureError):
    """This host cannot build the canary, so nothing was measured."""


@dataclass(frozen=True)
class Native:
    """What QEMU and the compiler need to run the canary of one architecture."""

    emulator: str
    machine: str
    source: Path
    flags: tuple[str, ...]


NATIVE = {
    # -m32: the Multiboot loader takes a 32-bit ELF.
    "amd64": Native("qemu-system-x86_64", "q35", _SOURCES / "amd64.S", ("-m32", "-Wl,-Ttext=0x100000")),
    # The interrupt controller of domain.xml.j2; under KVM the host must have it.
    "arm64": Native(
        "qemu-system-aarch64", "virt,gic-version=3", _SOURCES / "arm64.S", ("-Wl,-Ttext=0x40080000",)
    ),
}


@dataclass(frozen=True)
class Sample:
    """One run of the canary: the `seconds` that its work took, or why it did not end (`failure`)."""

    seconds: float | None = None
    failure: str = ""

    def __str__(self) -> str:
        return self.failure if self.seconds is None else f"{self.seconds:.2f} s"


def host_arch() -> str:
    """Return the host's architecture by Debian's name, or by the kernel's name if it is unknown here."""
    return _MACHINES.get(platform.machine(), platform.machine())


@contextmanager
def built(native: Native) -> Iterator[Path]:
    """Compile the canary and yield its path; it is deleted when the block ends. Raises BuildError."""
    compiler = shutil.which("cc")
    if not compiler:
        raise BuildError("the canary needs a C compiler", hint="apt-get install gcc")
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "canary"
        argv = [compiler, *native.flags, "-nostdlib", "-static", "-Wl,--build-id=none"]
        argv += ["-o", str(program), str(native.source)]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode:
            raise BuildError(f"the canary could not be built: {_first_line(done.stderr)}")
        yield program


def run(native: Native, program: Path, accelerator: str, deadline_s: float, cpu: str = "") -> Sample:
    """Run the canary under "kvm" or "tcg" for at most `deadline_s` seconds, QEMU's own start included."""
    argv = [native.emulator, "-machine", native.machine, "-accel", accelerator]
    argv += ["-cpu", cpu or _CPUS[accelerator], "-m", "64", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-serial", "stdio", "-kernel", str(program)]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as qemu:
        try:
            assert qemu.stdout
            return _listen(qemu.stdout.fileno(), deadline_s)
        finally:
            qemu.kill()


def _listen(output: int, deadline_s: float) -> Sample:
    started = began = time.monotonic()
    poller = select.poll()
    poller.register(output, select.POLLIN)
    heard = b""
    while ALIVE not in heard:
        remaining = started + deadline_s - time.monotonic()
        if remaining <= 0 or not poller.poll(remaining * 1000):
            return Sample(failure=f"more than {deadline_s:.1f} s")
        chunk = os.read(output, 4096)
        if not chunk:
            return Sample(failure=f"aborted QEMU: {_first_line(heard)}")
        if BEGIN in heard + chunk and BEGIN not in heard:
            began = time.monotonic()
        heard += chunk
    return Sample(time.monotonic() - began)


def _first_line(heard: bytes) -> str:
    lines = heard.decode("utf-8", "backslashreplace").split("\n")
    first = next((line.strip() for line in lines if line.strip()), "without a message")
    return first.rpartition("error: ")[2]
