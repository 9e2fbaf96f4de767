"""Finds out which kinds of programs work on this kernel: it loads, attaches and triggers one of each.

Neither the kernel's version nor a successful attachment proves that a kind works: on a kernel whose `lsm=`
list lacks bpf an LSM program attaches and is never called. So one program of each kind is attached where a
file is opened, this process opens a file, and the program's own count is read. A control program that works
on every kernel must count too; if it does not, the experiment failed and nothing is known of the kernel.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.hooks import points
from agent.kernel import boot_cache, causes, lockdown, reads
from agent.kernel import btf as types
from agent.kernel.choose import FIRES, REATTACHES, SKIPS
from agent.kernel.functions import Functions
from agent.kernel.libbpf import Btf, Link, Object, Program, failed_program

LOAD_FAIL, ATTACH_FAIL, SILENT = "load-fail", "attach-fail", "silent"

# The kind fires, and the kernel loses returns of functions while a few other calls of them sleep.
LOSSY = "lossy"

# In the order of `enum fim_probe` of bpf/probe.bpf.c, whose first entry holds the pid of the observed
# process. Raw tracepoints are the control, because every kernel has them.
CONTROL = "raw_tp"
KINDS = (CONTROL, "lsm", "fentry", "fexit", "kprobe", "kretprobe", "kprobe_multi", "tracepoint")

# Beside the kinds of hooks: programs that user space runs on request, from 5.14; and a flaw, which "fires"
# where a preempted program makes the kernel skip others on its CPU.
RUNS = "syscall"

# The ways to read the kernel's memory: bpf_probe_read_kernel(), which lockdown=confidentiality forbids, and
# bpf_rdonly_cast(), from 6.2.
READ, CAST = causes.READ, causes.CAST
_COUNTED = (*KINDS, RUNS, READ, CAST)
_TRIED = (*_COUNTED, SKIPS)
_OBSERVED = (*_TRIED, REATTACHES)
_TYPED = ("lsm", "fentry", "fexit", SKIPS)  # without BTF, libbpf loads no object that contains one of these
_COLLIDING_OPENS = 5  # files that each of two threads opens on one CPU, so that one preempts the other
_OPENED_FILE = "/proc/self/stat"
MAPS = frozenset({"probes", "probe_tails", "probe_multi_tails"})  # which no other program uses
_LOG_BYTES = 1 << 16


class Probed(NamedTuple):
    """The name of the probed function; the BTF type numbers of it, its LSM hook and the cast, 0 if unknown.

    `keeps_returns` is whether kprobe.multi has room for the return of each call.
    """

    function: str
    number: int = 0
    hook: int = 0
    cast: int = 0
    keeps_returns: bool = False


class Capability(NamedTuple):
    """The state of one kind of program, and the messages of libbpf and the verifier if it failed."""

    state: str
    reason: str = ""


def observe(path: Path, external: Path | None = None) -> dict[str, Capability]:
    """Try every kind; `external` is the BTF file to use where the kernel has none.

    Raises KernelError if the control did not fire.
    """
    target = probed()
    failed = {} if _typed() else dict.fromkeys(_TYPED, Capability(LOAD_FAIL, f"no {types.KERNEL}"))
    if not target.cast:
        failed[CAST] = Capability(LOAD_FAIL, f"{types.KERNEL} has no {reads.CAST}")
    while True:
        with _opened(path, external) as probe:
            refused = _load(probe, failed, target)
            if refused:
                failed[refused] = Capability(LOAD_FAIL, probe.programs[f"probe__{refused}"].rejection())
                continue
            observed = failed | _attach_and_trigger(probe, failed, target.function)
            if observed["kprobe_multi"].state == FIRES and not target.keeps_returns:
                observed["kprobe_multi"] = Capability(LOSSY, f"this kernel has no {points.KEEPS_RETURNS}")
            if observed[CONTROL].state != FIRES:
                raise KernelError(
                    f"cannot observe this kernel: the control program is {observed[CONTROL].state}",
                    hint="run as root, or with CAP_BPF and CAP_PERFMON",
                    detail=observed[CONTROL].reason,
                )
            return {kind: observed[kind] for kind in _OBSERVED}


def cached(path: Path, external: Path | None = None) -> dict[str, Capability]:
    """Like `observe`, cached until the next boot. Where the kernel's BTF is hidden another cache is used.

    The level of lockdown can rise while the kernel runs, so it belongs to the stamp.
    """
    name = "capabilities.json" if _typed() else "capabilities-untyped.json"
    stamp = f"{boot_cache.checksum(path)} {lockdown.level()}".rstrip()
    try:
        known = boot_cache.load(name, stamp)
        return {kind: Capability(*known[kind]) for kind in _OBSERVED}
    except (KeyError, TypeError):
        observed = observe(path, external)
        boot_cache.store(name, stamp, observed)
        return observed


def remedy(kind: str, capability: Capability) -> str:
    """Return what the user can do to make a kind fire; empty if nothing is known."""
    if capability.state not in (FIRES, LOSSY):
        for cause in causes.found({kind}):
            return cause.remedy
    if kind == CAST and capability.state == LOAD_FAIL:
        return "from 6.2 on; needed only under lockdown=confidentiality"
    if kind == "bcc" and capability.state == "absent":
        return capability.reason.partition("\n")[0]
    if kind == "kprobe_multi" and capability.state == ATTACH_FAIL:
        return "needs a kernel with CONFIG_FPROBE, 6.14 or later"
    if capability.state == LOSSY:
        return "loses returns while other calls sleep; needs a kernel with CONFIG_FPROBE, 6.14 or later"
    return ""


@contextmanager
def _opened(path: Path, external: Path | None) -> Iterator[Object]:
    probe = Object(str(path), str(external) if external else None)
    try:
        yield probe
    finally:
        probe.close()


def _load(probe: Object, failed: dict[str, Capability], target: Probed) -> str:
    """Load the kinds that have not failed yet; return the kind that made the load fail, or "" if none did."""
    for name, program in probe.programs.items():
        kind = name.removeprefix("probe__")
        chosen = kind in _TRIED and name != kind and kind not in failed
        program.choose(chosen)
        if chosen:
            program.keep_log(_LOG_BYTES)
            if kind in _TYPED:
                program.target(target.hook if kind == "lsm" else target.number)
            if kind == CAST:
                program.rewrite(reads.by_cast(target.cast))
    for name, bpf_map in probe.maps.items():
        if name not in MAPS:
            bpf_map.skip()
    try:
        probe.load()
    except KernelError as error:
        refused = failed_program(error).removeprefix("probe__")
        if refused not in _TRIED or refused in failed:
            raise
        return refused
    return ""


def probed() -> Probed:
    """Return what the programs are attached to: the first name of the point that this kernel has."""
    names = points.RESOLVES[points.PROBED]
    if not _typed():
        known = Functions(typed=False)
        present = (name for name in names.functions if known.present("kprobe", name))
        keeps = known.present("kprobe", points.KEEPS_RETURNS)
        return Probed(next(present, names.functions[0]), keeps_returns=keeps)
    kernel = Btf.parse(types.KERNEL)
    try:
        function, number = _first(kernel, names.functions)
        hook = _first(kernel, [f"bpf_lsm_{name}" for name in names.lsm])[1]
        cast = kernel.find(reads.CAST, types.FUNC) or 0
        return Probed(function, number, hook, cast, bool(kernel.find(points.KEEPS_RETURNS, types.FUNC)))
    finally:
        kernel.close()


def _first(kernel: Btf, names: Sequence[str]) -> tuple[str, int]:
    numbers = ((name, kernel.find(name, types.FUNC)) for name in names)
    return next(((name, number) for name, number in numbers if number), (names[0], 0))


def _attach_and_trigger(probe: Object, failed: dict[str, Capability], function: str) -> dict[str, Capability]:
    refused: dict[str, Capability] = {}
    links: dict[str, Link] = {}
    try:
        for kind in _TRIED:
            if kind not in failed and kind != RUNS:
                try:
                    links[kind] = attach(probe.programs[f"probe__{kind}"], kind, function)
                except KernelError as error:
                    refused[kind] = Capability(ATTACH_FAIL, f"{error.message}\n{error.detail}".strip())
        tried = [kind for kind in _TRIED if kind not in failed and kind not in refused]
        counts = _trigger(probe, RUNS in tried)
        if SKIPS in tried:
            counts[SKIPS] = _skipped_by_preemption(probe)
        refused[REATTACHES] = _reattach(probe, links, function)
    finally:
        for link in links.values():
            link.close()
    return refused | {kind: Capability(FIRES if counts[kind] else SILENT) for kind in tried}


def _reattach(probe: Object, links: dict[str, Link], function: str) -> Capability:
    """Detach a program on a trampoline and attach it again."""
    if "fentry" not in links:
        return Capability(ATTACH_FAIL, "no fentry program is attached")
    links["fentry"].close()
    try:
        links["fentry"] = attach(probe.programs["probe__fentry"], "fentry", function)
    except KernelError as error:
        return Capability(ATTACH_FAIL, f"{error.message}\n{error.detail}".strip())
    return Capability(FIRES)


def attach(program: Program, kind: str, function: str) -> Link:
    """Attach a loaded program of the probe: a kprobe by name, others to their target or their section's.

    For the pattern of a kprobe.multi section libbpf reads all of kallsyms.
    """
    if kind == "kprobe_multi":
        return program.attach_kprobe_multi(function, False)
    if kind in ("kprobe", "kretprobe"):
        return program.attach_kprobe(function, kind == "kretprobe")
    return program.attach()


def _trigger(probe: Object, runs: bool) -> dict[str, int]:
    probes = probe.maps["probes"]
    probes.update(struct.pack("=I", 0), struct.pack("=Q", os.getpid()))
    os.close(os.open(_OPENED_FILE, os.O_RDONLY))
    if runs:
        probe.programs[f"probe__{RUNS}"].run(bytes(8))
    values = [probes.lookup(struct.pack("=I", 1 + index)) or bytes(8) for index in range(len(_COUNTED))]
    return {kind: struct.unpack("=Q", value)[0] for kind, value in zip(_COUNTED, values, strict=True)}


def _skipped_by_preemption(probe: Object) -> int:
    """Let two threads open files on one CPU; return how often a preempted one hid the other."""
    cpu = min(os.sched_getaffinity(0))
    threads = [threading.Thread(target=_open_files_on, args=(cpu,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return probe.programs[f"probe__{SKIPS}"].info().recursion_misses


def _open_files_on(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})  # of this thread alone
    for _ in range(_COLLIDING_OPENS):
        os.close(os.open(_OPENED_FILE, os.O_RDONLY))


def _typed() -> bool:
    return Path(types.KERNEL).is_file()
