"""Every program of the object passes the verifier of this kernel, in every shape that a load can give it."""

from __future__ import annotations

from pathlib import Path

from agent.hooks import sets
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.scenarios import proves


def _all_load(bench: Bench, hookset: str, *kinds: str) -> None:
    """Check the programs of these types, or say why this kernel cannot load any."""
    from agent.kernel import btf, causes, loader, shapes  # lazy: the unit tests load no libbpf

    if not Path(btf.KERNEL).is_file():
        raise CannotTellError(f"the object needs type information, and {btf.KERNEL} is missing")
    for cause in causes.of_loads(kinds):
        raise CannotTellError(f"this kernel loads no such program: {cause.text}")
    states = bench.subject.facts()["capabilities"]
    lacking = {kind for kind in kinds if states.get(sets.CAPABILITIES.get(kind, kind)) == "load-fail"}
    casts = [value for value, way in enumerate(("read", "cast")) if states.get(way) == "fires"]
    if casts == [1]:  # these would read by the helper that the kernel refuses
        lacking |= set(kinds) & set(sets.PERF)
    if lacking == set(kinds):
        raise CannotTellError(f"this kernel loads no program of type {' or '.join(kinds)}")
    checked = shapes.check(loader.object_path(), set(kinds) - lacking, casts)
    rejected = [f"{one.program} ({one.shape}):\n" + "\n".join(one.lines) for one in checked.rejections]
    name = f"programs of {hookset} that the verifier rejects, in {len(shapes.SHAPES) * len(casts)} shapes"
    bench.evidence.equal(name, [], rejected)
    bench.evidence.record("programs checked", bool(checked.programs), "more than 0", len(checked.programs))
    bench.evidence.add("programs without a target here", sorted(checked.absent))
    bench.evidence.note = f"{len(checked.programs)} programs, largest {checked.largest:,} instructions"


@proves("shapes.lsm")
def shapes_lsm(bench: Bench) -> None:
    """Load the programs at LSM hooks."""
    _all_load(bench, "lsm", "lsm")


@proves("shapes.fentry")
def shapes_fentry(bench: Bench) -> None:
    """Load the programs at entries and returns of functions, on trampolines."""
    _all_load(bench, "fentry", "fentry", "fexit")


@proves("shapes.kprobe")
def shapes_kprobe(bench: Bench) -> None:
    """Load the kprobes and what they call."""
    _all_load(bench, "kprobe", "kprobe", "kretprobe")


@proves("shapes.kprobe_multi")
def shapes_kprobe_multi(bench: Bench) -> None:
    """Load the programs for fprobe and what they call."""
    _all_load(bench, "kprobe-multi", "kprobe_multi", "kretprobe_multi")


@proves("shapes.tracepoint")
def shapes_tracepoint(bench: Bench) -> None:
    """Load the programs at tracepoints."""
    _all_load(bench, "tracepoint", "raw_tp", "tracepoint")
