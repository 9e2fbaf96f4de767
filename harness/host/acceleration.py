"""Chooses the accelerator for guests on this host, KVM or TCG (emulation), by measuring which is faster.

/dev/kvm may exist, open and create a machine, and still boot nothing, or run an instruction 1000 times
slower than TCG: nested hosts do that. So the canary runs under both. The result is stored for this boot
of the host, this QEMU and this processor. If a guest then contradicts the canary, `reject` corrects the
stored result, which every process of the user reads before each machine.
"""

from __future__ import annotations

import functools
import grp
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError, InfrastructureError
from harness.host import canary, deadlines
from harness.host.cache import default_root, digest
from harness.host.canary import NATIVE, BuildError, Native, Sample, host_arch
from harness.host.locks import locked

CHOICES = ("auto", "kvm", "tcg")

# If the two times are within this factor, measure again: the host may have been busy during one of the runs.
_CLOSE = 4.0

_KVM = Path("/dev/kvm")
_CPUINFO = Path("/proc/cpuinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OTHER_HOST = "enable nested virtualisation, or run on a host with KVM"
_LEAVE_OUT = "leave out --accelerator kvm"
FIX = f"{_OTHER_HOST}, or {_LEAVE_OUT}"

Measure = Callable[[Native], tuple[Sample, Sample]]
"""Measures (KVM, TCG) with the canary."""


class Obstacle(NamedTuple):
    """Why KVM cannot work, and what the user can do about it."""

    reason: str
    fix: str


@dataclass(frozen=True)
class Accelerator:
    """`kind` is "kvm" or "tcg"; `why` is the evidence for the choice, in a few words.

    `fix` is what the user can do to get KVM.
    """

    kind: str
    why: str
    fix: str = _OTHER_HOST

    def __str__(self) -> str:
        if self.kind == "kvm":
            return f"KVM ({self.why})"
        return f"TCG, no hardware acceleration: guests run about 30 times slower ({self.why})"


@dataclass(frozen=True)
class Memory:
    """The stored result for this host: the canary's times, and what guests showed.

    `rejected` is the reason why guests do not use KVM in spite of the times; `proven` is whether a guest has
    booted under KVM.
    """

    kvm: Sample
    tcg: Sample
    rejected: str = ""
    proven: bool = False

    @property
    def times(self) -> str:
        """Both times of the canary, to print."""
        return f"canary: TCG {self.tcg}, KVM {self.kvm}"

    @property
    def kvm_is_faster(self) -> bool:
        """Whether the canary ended under KVM, and ended later or not at all under TCG."""
        if self.kvm.seconds is None:
            return False
        return self.tcg.seconds is None or self.kvm.seconds < self.tcg.seconds


def find(
    arch: str = "amd64",
    wanted: str = "auto",
    *,
    cache: Path | None = None,
    fresh: bool = False,
    measure: Measure | None = None,
    kvm: Path = _KVM,
) -> Accelerator:
    """Return the accelerator for guests of `arch`; `wanted` is one of CHOICES, `fresh` measures again.

    Takes a few seconds the first time. Raises ConfigError without QEMU, and InfrastructureError if KVM is
    wanted and does not work, or if the canary runs under no accelerator.
    """
    native = NATIVE[arch]
    if not shutil.which(native.emulator):
        raise ConfigError(f"{native.emulator} was not found", hint="install QEMU; `harness doctor` says how")
    if wanted == "tcg":
        return Accelerator("tcg", "as --accelerator tcg asks")
    if obstacle := _obstacle(arch, kvm):
        if wanted == "kvm":
            problem = f"KVM cannot be used: {obstacle.reason}{_tcg_time(arch, measure)}"
            raise InfrastructureError(problem, hint=f"{obstacle.fix}, or {_LEAVE_OUT}")
        return Accelerator("tcg", *obstacle)
    try:
        known = _known(native, cache or default_root(), measure or _measure, fresh=fresh)
    except BuildError as error:
        return Accelerator("tcg", error.message, error.hint)
    return _choose(known, wanted)


def _choose(known: Memory, wanted: str) -> Accelerator:
    if wanted == "kvm":
        if known.kvm.seconds is None:
            raise InfrastructureError(f"KVM boots nothing on this host ({known.times})", hint=FIX)
        return Accelerator("kvm", f"as --accelerator kvm asks; {known.times}")
    if known.rejected:
        return Accelerator("tcg", f"{known.rejected}; {known.times}")
    return Accelerator("kvm" if known.kvm_is_faster else "tcg", known.times)


def _obstacle(arch: str, kvm: Path) -> Obstacle | None:
    """Return why KVM cannot work; None if it has to be measured."""
    if arch != host_arch():
        return Obstacle(f"KVM cannot run an {arch} guest on an {host_arch()} host", f"use an {arch} host")
    try:
        # Not os.access: for root it grants what a container's device rules deny.
        os.close(os.open(kvm, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Obstacle(f"{kvm} does not exist", _OTHER_HOST)
    except PermissionError:
        return _forbidden(kvm)
    except OSError as error:
        return Obstacle(f"{kvm} cannot be opened: {error.strerror}", _OTHER_HOST)
    return None


def _forbidden(kvm: Path) -> Obstacle:
    reason = f"no permission to open {kvm}"
    if os.geteuid() == 0:
        return Obstacle(reason, f"let this container use it (docker run --device {kvm})")
    group = _name(kvm.stat().st_gid)
    fix = f'sudo usermod -aG {group} "$USER", and log in again'
    return Obstacle(f"{reason}: add yourself to the group {group}", fix)


def _name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:  # a container has the device and not the group of the host
        return str(group)


def _measure(native: Native) -> tuple[Sample, Sample]:
    """Return (KVM, TCG), the better of two runs if they are close. Raises BuildError, InfrastructureError."""
    with canary.built(native) as program:
        kvm, tcg = _once(native, program)
        if kvm.seconds and tcg.seconds and tcg.seconds <= kvm.seconds < tcg.seconds * _CLOSE:
            again = _once(native, program)
            kvm, tcg = _better(kvm, again[0]), _better(tcg, again[1])
    if kvm.seconds is None and tcg.seconds is None:
        raise InfrastructureError(f"the canary ran under no accelerator: KVM {kvm}, TCG {tcg}")
    return kvm, tcg


def _once(native: Native, program: Path) -> tuple[Sample, Sample]:
    tcg = canary.run(native, program, "tcg", deadlines.CANARY_TCG_S)
    deadline_s = max(deadlines.CANARY_KVM_S, deadlines.CANARY_KVM_TIMES * (tcg.seconds or 0.0))
    return canary.run(native, program, "kvm", deadline_s), tcg


def _better(one: Sample, other: Sample) -> Sample:
    return min((one, other), key=lambda sample: float("inf") if sample.seconds is None else sample.seconds)


def _tcg_time(arch: str, measure: Measure | None) -> str:
    """Return the canary's time without KVM, for a message about a KVM that cannot be measured."""
    if measure or arch != host_arch():
        return ""
    native = NATIVE[arch]
    with canary.built(native) as program:
        return f" (canary: KVM did not run, TCG {canary.run(native, program, 'tcg', deadlines.CANARY_TCG_S)})"


def _known(native: Native, root: Path, measure: Measure, *, fresh: bool) -> Memory:
    memory = _path(native, root)
    known = _recall(memory)
    if known and not fresh:
        return known
    kvm, tcg = measure(native)
    found = replace(known, kvm=kvm, tcg=tcg) if known else Memory(kvm, tcg)
    return _remember(memory, found)


def reject(arch: str, why: str, *, cache: Path | None = None) -> Accelerator:
    """Make `auto` choose TCG on this host from now on, because of `why`; return what `find` would.

    If several processes reject at the same time, the first reason stays.
    """
    return _choose(_change(arch, cache, lambda known: replace(known, rejected=known.rejected or why)), "auto")


def accept(arch: str, *, asked: bool = False, cache: Path | None = None) -> None:
    """Record that a guest booted under KVM; if the user `asked` for KVM, drop an earlier rejection."""

    def change(known: Memory) -> Memory:
        return replace(known, rejected="" if asked else known.rejected, proven=True)

    if not proven(arch, cache=cache):
        _change(arch, cache, change)


def proven(arch: str, *, cache: Path | None = None) -> bool:
    """Whether a guest has booted under KVM on this host, and KVM was not rejected since."""
    known = _recall(_path(NATIVE[arch], cache or default_root()))
    return bool(known and known.proven and not known.rejected)


def given_up(found: Accelerator) -> str:
    """Return the line to print when a run that began under KVM continues under TCG."""
    return f"KVM is given up, machines use TCG from now on: {found.why}"


def _change(arch: str, cache: Path | None, change: Callable[[Memory], Memory]) -> Memory:
    memory = _path(NATIVE[arch], cache or default_root())
    with locked(memory.with_suffix(".lock")):
        unknown = Sample(failure="not measured")
        return _remember(memory, change(_recall(memory) or Memory(unknown, unknown)))


def _path(native: Native, root: Path) -> Path:
    return root / "acceleration" / f"{_fingerprint(native)}.json"


def _recall(memory: Path) -> Memory | None:
    # Ignore a file that is damaged, or of an older layout.
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(memory.read_text(encoding="utf-8"))
        kvm, tcg = Sample(**found["kvm"]), Sample(**found["tcg"])
        return Memory(kvm, tcg, str(found["rejected"]), bool(found["proven"]))
    return None


def _remember(memory: Path, known: Memory) -> Memory:
    memory.parent.mkdir(parents=True, exist_ok=True)
    partial = memory.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(asdict(known)), encoding="utf-8")
    partial.replace(memory)
    return known


@functools.cache
def _fingerprint(native: Native) -> str:
    version = subprocess.run([native.emulator, "--version"], capture_output=True, check=False).stdout
    return digest(_BOOT_ID.read_text(), version, cpu_model(), native.source.read_bytes())[:32]


def cpu_model() -> str:
    """Return the line of /proc/cpuinfo that names the processor, "" without such a line."""
    lines = _CPUINFO.read_text().splitlines()
    return next((line for line in lines if line.startswith(("model name", "CPU part"))), "")
