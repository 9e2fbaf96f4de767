"""What kinds of programs this kernel lets in, found by trying: load, attach, trigger, look.

A version number says nothing, and neither does success: an LSM program attaches on a kernel whose `lsm=`
lacks bpf, and is never called. So each kind is attached to the opening of a file, this process opens one, and
the program's own count is read. A control that every kernel has must count too, else the experiment has
failed and not the kernel.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.kernel import btf as types
from agent.kernel import lockdown, remembered
from agent.kernel.choose import FIRES, SKIPS
from agent.kernel.libbpf import Btf, Link, Object, Program, failed_program

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
_BAITED = "security_file_open"  # what the probes at functions are attached to
_LSM_LIST = Path("/sys/kernel/security/lsm")
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
    name = "capabilities.json" if _typed() else "capabilities-untyped.json"
    mark = remembered.stamp(path)
    try:
        known = remembered.recall(name, mark)
        return {kind: Capability(*known[kind]) for kind in _TRIED}
    except (KeyError, TypeError):
        found = observe(path, external)
        remembered.keep(name, mark, found)
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
    targets = _targets() if _typed() else ()
    for name, program in probe.programs.items():
        kind = name.removeprefix("probe__")
        chosen = kind in _TRIED and name != kind and kind not in failed
        program.choose(chosen)
        if chosen:
            program.keep_log(_LOG_BYTES)
            if kind in _TYPED:
                program.target(targets[kind == "lsm"])
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


def _targets() -> tuple[int, int]:
    """The numbers of the function that programs on trampolines are attached to, and of its LSM hook."""
    kernel = Btf.parse(types.KERNEL)
    try:
        function, hook = (kernel.find(name, types.FUNC) or 0 for name in (_BAITED, "bpf_lsm_file_open"))
        return function, hook
    finally:
        kernel.close()


def _watch(probe: Object, failed: dict[str, Capability]) -> dict[str, Capability]:
    found: dict[str, Capability] = {}
    links: list[Link] = []
    try:
        for kind in _TRIED:
            if kind not in failed and kind != RUNS:
                try:
                    links.append(_attach(probe.programs[f"probe__{kind}"], kind))
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


def _attach(program: Program, kind: str) -> Link:
    """As its section says, but kprobe.multi by name: for a section's pattern libbpf reads all of kallsyms."""
    return program.attach_kprobe_multi(_BAITED, False) if kind == "kprobe_multi" else program.attach()


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
