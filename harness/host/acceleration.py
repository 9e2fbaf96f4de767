"""Whether this host can run guests at speed, found out by doing it.

/dev/kvm may exist, open and create a machine, and still boot nothing: nested hosts abort, stop at the switch
to long mode, or take a millisecond for each instruction. So a canary (`images/canary/`) is run with a
deadline, and what it showed is remembered for this boot of the host, this QEMU and this processor.
"""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.host.cache import default_root, digest
from harness.vm.domain import IMAGES

ALIVE = b"fim-canary: alive"

# The slowest host on which acceleration was worth having needed 0.4 s.
_DEADLINE_S = 5.0
_KVM = Path("/dev/kvm")
_CPUINFO = Path("/proc/cpuinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Accelerator:
    """`kind` is "kvm" or "tcg", `why` what showed it, in a few words."""

    kind: str
    why: str

    def __str__(self) -> str:
        if self.kind == "kvm":
            return f"KVM ({self.why})"
        return f"TCG, no hardware acceleration: guests run about 30 times slower ({self.why})"


@dataclass(frozen=True)
class Native:
    """What a host's own architecture needs for the canary."""

    emulator: str
    machine: str
    source: Path
    flags: tuple[str, ...]


_SOURCES = IMAGES / "canary"

NATIVE = {
    # -m32: the Multiboot loader takes a 32-bit ELF.
    "amd64": Native("qemu-system-x86_64", "q35", _SOURCES / "amd64.S", ("-m32", "-Wl,-Ttext=0x100000")),
    "arm64": Native("qemu-system-aarch64", "virt", _SOURCES / "arm64.S", ("-Wl,-Ttext=0x40080000",)),
}

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Canary = Callable[[Native, float], str]
"""Runs the canary within some seconds; returns why it failed, "" if it lives."""


def host_arch() -> str:
    """The host's architecture by Debian's name; the kernel's own where it is unknown to the harness."""
    return _MACHINES.get(platform.machine(), platform.machine())


def find(
    arch: str = "amd64",
    cache: Path | None = None,
    *,
    fresh: bool = False,
    canary: Canary | None = None,
    kvm: Path = _KVM,
) -> Accelerator:
    """How guests of `arch` run here; `fresh` asks the host again whatever is remembered.

    Takes seconds at most, nothing when remembered. Raises ConfigError without QEMU.
    """
    native = NATIVE[arch]
    if not shutil.which(native.emulator):
        raise ConfigError(f"{native.emulator} was not found", hint="install QEMU; `harness doctor` says how")
    if arch != host_arch():
        return Accelerator("tcg", f"an {arch} guest on an {host_arch()} host")
    if not kvm.exists():
        return Accelerator("tcg", f"there is no {kvm}")
    if not os.access(kvm, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"no permission for {kvm}: add yourself to its group")
    memory = (cache or default_root()) / "acceleration" / f"{_fingerprint(native)}.json"
    found = None if fresh else _recall(memory)
    return found or _remember(memory, _probe(native, canary or run_canary))


def _recall(memory: Path) -> Accelerator | None:
    # A memory that is damaged is none.
    with suppress(OSError, ValueError, TypeError):
        return Accelerator(**json.loads(memory.read_text()))
    return None


def _remember(memory: Path, found: Accelerator) -> Accelerator:
    memory.parent.mkdir(parents=True, exist_ok=True)
    partial = memory.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(asdict(found)))
    partial.replace(memory)
    return found


def _probe(native: Native, canary: Canary) -> Accelerator:
    started = time.monotonic()
    failure = canary(native, _DEADLINE_S)
    if failure:
        return Accelerator("tcg", f"/dev/kvm is there but runs nothing: {failure}")
    return Accelerator("kvm", f"a canary ran in {time.monotonic() - started:.1f} s")


def _fingerprint(native: Native) -> str:
    version = subprocess.run([native.emulator, "--version"], capture_output=True, check=False).stdout
    return digest(_BOOT_ID.read_text(), version, cpu_model(), native.source.read_bytes())[:32]


def cpu_model() -> str:
    """The line of this host's processor that names it, "" if none does."""
    lines = _CPUINFO.read_text().splitlines()
    return next((line for line in lines if line.startswith(("model name", "CPU part"))), "")


def run_canary(native: Native, deadline_s: float, accelerator: str = "kvm", cpu: str = "host") -> str:
    """Why the canary did not come alive in time, "" if it did. See `Canary`."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "canary"
        failure = _build(native, program)
        if failure:
            return failure
        argv = [native.emulator, "-machine", native.machine, "-accel", accelerator, "-cpu", cpu, "-m", "64"]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
        return _boot([*argv, "-kernel", str(program)], deadline_s)


def _build(native: Native, program: Path) -> str:
    compiler = shutil.which("cc")
    if not compiler:
        return "the canary could not be built without a C compiler"
    argv = [compiler, *native.flags, "-nostdlib", "-static", "-Wl,--build-id=none"]
    argv += ["-o", str(program), str(native.source)]
    built = subprocess.run(argv, capture_output=True, check=False)
    return f"the canary could not be built: {_first_line(built.stderr)}" if built.returncode else ""


def _boot(argv: list[str], deadline_s: float) -> str:
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as qemu:
        try:
            assert qemu.stdout
            return _listen(qemu.stdout.fileno(), deadline_s)
        finally:
            qemu.kill()


def _listen(output: int, deadline_s: float) -> str:
    deadline = time.monotonic() + deadline_s
    poller = select.poll()
    poller.register(output, select.POLLIN)
    heard = b""
    while ALIVE not in heard:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poller.poll(remaining * 1000):
            return f"the canary was silent for {deadline_s:.0f} s"
        chunk = os.read(output, 4096)
        if not chunk:
            return f"QEMU ended: {_first_line(heard)}"
        heard += chunk
    return ""


def _first_line(heard: bytes) -> str:
    lines = heard.decode("utf-8", "backslashreplace").split("\n")
    first = next((line.strip() for line in lines if line.strip()), "without a word")
    return first.rpartition("error: ")[2]
