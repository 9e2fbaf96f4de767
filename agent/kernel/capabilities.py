"""What kinds of programs this kernel lets in, found by trying: load, attach, trigger, look.

A version number says nothing, and neither does success: an LSM program attaches on a kernel whose `lsm=`
lacks bpf, and is never called. So each kind is attached to the opening of a file, this process opens one, and
the program's own count is read. A control that every kernel has must count too, else the experiment has
failed and not the kernel.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.kernel import btf as types
from agent.kernel import lockdown
from agent.kernel.choose import FIRES, SKIPS
from agent.kernel.libbpf import Link, Object, failed_program

LOAD_FAIL, ATTACH_FAIL, SILENT = "load-fail", "attach-fail", "silent"

# In the order of `enum fim_probe`, bpf/probe.bpf.c, whose first entry is the process to look for. Raw
# tracepoints are the control: every kernel has them.
CONTROL = "raw_tp"
KINDS = (CONTROL, "lsm", "fentry", "fexit", "kprobe", "kretprobe", "kprobe_multi", "tracepoint")

# Beside the ways in: programs that run when they are told to, from 5.14; and a flaw, which fires where a
# preempted program hides what others do on its CPU.
RUNS = "syscall"
_COUNTED = (*KINDS, RUNS)
_TRIED = (*_COUNTED, SKIPS)
_TYPED = ("lsm", "fentry", "fexit", SKIPS)  # libbpf loads nothing with one of these where there are no types
_CROWD = 5  # files that each of two threads opens to run into the other
_BAIT = "/proc/self/stat"
_LSM_LIST = Path("/sys/kernel/security/lsm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CACHE = Path("/run/fim/capabilities.json")
_LOG_BYTES = 1 << 16


class Capability(NamedTuple):
    """What became of one kind of program: its state, and libbpf's and the verifier's words if it failed."""

    state: str
    words: str = ""


def observe(path: Path, external: Path | None = None) -> dict[str, Capability]:
    """Try every kind, with this type information where the kernel has none.

    Raises KernelError if not even the control fired: then nothing is known.
    """
    failed = {} if _typed() else dict.fromkeys(_TYPED, Capability(LOAD_FAIL, f"no {types.KERNEL}"))
    while True:
        with _opened(path, external) as probe:
            refused = _load(probe, failed)
            if refused:
                failed[refused] = Capability(LOAD_FAIL, probe.programs[f"probe__{refused}"].log())
                continue
            found = failed | _watch(probe, failed)
            if found[CONTROL].state != FIRES:
                raise KernelError(
                    f"the control program is {found[CONTROL].state}: nothing is known of this kernel",
                    hint="loading programs takes root, or CAP_BPF and CAP_PERFMON",
                    detail=found[CONTROL].words,
                )
            return {kind: found[kind] for kind in _TRIED}


def cached(path: Path, external: Path | None = None) -> dict[str, Capability]:
    """As `observe`, remembered until the next boot; apart, where the kernel's type information is hidden."""
    boot = _BOOT_ID.read_text("ascii").strip()
    place = _CACHE if _typed() else _CACHE.with_stem("capabilities-untyped")
    try:
        known = json.loads(place.read_bytes())
        if known["boot"] == boot:
            return {kind: Capability(*known["kinds"][kind]) for kind in _TRIED}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours: look again
    found = observe(path, external)
    _remember(place, {"boot": boot, "kinds": found})
    return found


def remedy(kind: str, capability: Capability) -> str:
    """What would make a kind fire that does not; empty if nothing is known."""
    if capability.state != FIRES and lockdown.active():
        return f"boot without lockdown={lockdown.CONFIDENTIALITY}"
    if kind == "lsm" and capability.state in (SILENT, ATTACH_FAIL):
        try:
            active = _LSM_LIST.read_text("ascii").strip()
        except OSError:
            return "boot with bpf in lsm="
        return "" if "bpf" in active.split(",") else f"boot with lsm={active},bpf"
    if kind == "bcc" and capability.state == "absent":
        return capability.words.partition("\n")[0]
    if kind == "kprobe_multi" and capability.state == ATTACH_FAIL:
        return "needs a kernel with CONFIG_FPROBE, 5.18 or later"
    return ""


@contextmanager
def _opened(path: Path, external: Path | None) -> Iterator[Object]:
    probe = Object(str(path), str(external) if external else None)
    try:
        yield probe
    finally:
        probe.close()


def _load(probe: Object, failed: dict[str, Capability]) -> str:
    """Load what has not failed yet; the kind that made it fail, or nothing."""
    for name, program in probe.programs.items():
        kind = name.removeprefix("probe__")
        chosen = kind in _TRIED and name != kind and kind not in failed
        program.choose(chosen)
        if chosen:
            program.keep_log(_LOG_BYTES)
    for name, one in probe.maps.items():
        if name != "probes":
            one.skip()
    try:
        probe.load()
    except KernelError as error:
        refused = failed_program(error).removeprefix("probe__")
        if refused not in _TRIED or refused in failed:
            raise
        return refused
    return ""


def _watch(probe: Object, failed: dict[str, Capability]) -> dict[str, Capability]:
    found: dict[str, Capability] = {}
    links: list[Link] = []
    try:
        for kind in _TRIED:
            if kind not in failed and kind != RUNS:
                try:
                    links.append(probe.programs[f"probe__{kind}"].attach())
                except KernelError as error:
                    found[kind] = Capability(ATTACH_FAIL, f"{error.message}\n{error.detail}".strip())
        tried = [kind for kind in _TRIED if kind not in failed and kind not in found]
        counts = _trigger(probe, RUNS in tried)
        if SKIPS in tried:
            counts[SKIPS] = _crowd(probe)
    finally:
        for link in links:
            link.close()
    return found | {kind: Capability(FIRES if counts[kind] else SILENT) for kind in tried}


def _trigger(probe: Object, runs: bool) -> dict[str, int]:
    probes = probe.maps["probes"]
    probes.update(struct.pack("=I", 0), struct.pack("=Q", os.getpid()))
    os.close(os.open(_BAIT, os.O_RDONLY))
    if runs:
        probe.programs[f"probe__{RUNS}"].run(bytes(8))
    values = [probes.lookup(struct.pack("=I", 1 + index)) or bytes(8) for index in range(len(_COUNTED))]
    return {kind: struct.unpack("=Q", value)[0] for kind, value in zip(_COUNTED, values, strict=True)}


def _crowd(probe: Object) -> int:
    """How often one of two threads on one CPU was not seen, because the other had been preempted."""
    threads = [threading.Thread(target=_open_in_turn, args=(min(os.sched_getaffinity(0)),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return probe.programs[f"probe__{SKIPS}"].info().recursion_misses


def _open_in_turn(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})  # of this thread alone
    for _ in range(_CROWD):
        os.close(os.open(_BAIT, os.O_RDONLY))


def _typed() -> bool:
    return Path(types.KERNEL).is_file()


def _remember(place: Path, known: dict[str, object]) -> None:
    """Written aside and renamed; a host without /run, or that is read-only, looks again next time."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = place.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(known), "ascii")
        aside.replace(place)
    except OSError:
        return
