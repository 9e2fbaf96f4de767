"""From a hook set's name to programs that are attached and maps that are filled.

    chosen from the table  ->  verified together  ->  attached: returns first, entries last
          ^                          |                     |
          +---- without what failed -+---------------------+

A program that the verifier or the kernel refuses is left out and the rest is chosen again; what has no rung
left is reported with every reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent import hooks
from agent.errors import KernelError, MinimumNotMetError, UsageError
from agent.events import EventType
from agent.kernel import btf as types
from agent.kernel import capabilities, policy
from agent.kernel.choose import Attempt, Chooser, Chosen, Plan
from agent.kernel.libbpf import Btf, Link, Object, Program, RunCounting, failed_program
from agent.kernel.maps import Tables
from agent.kernel.tracefs import Kprobes
from agent.kernel.transport import RingBuffer

if TYPE_CHECKING:
    from agent.filters.approvers import Approvers

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "bpf" / "fim.bpf.o", _PACKAGE.parent / "build" / "fim.bpf.o")
_KALLSYMS = Path("/proc/kallsyms")

TRANSPORTS = ("ringbuf",)
BTF_SOURCES = ("kernel",)

_LOG_BYTES = 1 << 16
_PROCESSED = re.compile(r"processed (\d+) insns")
_TRAMPOLINE_ARGUMENTS = 6
_PHASES = (
    "exit",
    "resolve",
    "given",
    "once",
    "enter",
)  # an entry without its return would only leave things behind


class HookState(NamedTuple):
    """One hook as it came to be, and what the kernel counted of it, a kprobe's own misses included."""

    event: str
    point: str
    program: str
    type: str
    state: str  # attached, load-fail, attach-fail, silent, absent
    reason: str = ""
    runs: int = 0
    recursion_misses: int = 0
    insns: int = 0


def object_path() -> Path:
    """Where the compiled programs are: in the bundle, or as `make build` left them."""
    for place in _PLACES:
        if place.is_file():
            return place
    raise UsageError(f"no {_PLACES[0]}", hint="run `make build`, or deploy the bundle with its object")


class Functions:
    """What the running kernel has to attach to: by its BTF, or by name only where that is hidden."""

    def __init__(self, btf: Btf | None) -> None:
        self._btf = btf
        self._known: dict[str, tuple[str, ...] | None] = {}
        self._names = frozenset(_kallsyms()) if btf is None else frozenset()

    def present(self, kind: str, target: str) -> bool:
        """Whether a program of this type finds its target."""
        name = f"bpf_lsm_{target}" if kind == "lsm" else target
        if kind == hooks.RAW_TRACEPOINT:
            return True
        return name in self._names if self._btf is None else self.parameters(name) is not None

    def doubtful(self, kind: str, target: str) -> bool:
        """Whether a trampoline may refuse the target: before 6.6 it carries six arguments at most."""
        return kind in ("fentry", "fexit") and len(self.parameters(target) or ()) > _TRAMPOLINE_ARGUMENTS

    def parameters(self, name: str) -> tuple[str, ...] | None:
        """A function's parameters, as BTF names them."""
        if name not in self._known:
            self._known[name] = types.parameters(self._btf, name) if self._btf else None
        return self._known[name]


def _kallsyms() -> Iterable[str]:
    with _KALLSYMS.open("rb") as lines:
        for line in lines:
            _, kind, name = line.split()[:3]
            if kind in b"tT":
                yield name.decode("ascii", "replace")


class Loaded:
    """Programs that are attached. Closing it, or the end of the process, detaches all of them."""

    def __init__(
        self,
        opened: Object,
        plan: Plan,
        links: Mapping[str, Link],
        kprobes: Kprobes | None,
        tables: Tables,
        capabilities: dict[str, str],
    ) -> None:
        self.capabilities = capabilities
        self._object = opened
        self._plan = plan
        self._links = links
        self._kprobes = kprobes
        self.tables = tables
        self._counting = RunCounting()
        self.ring = RingBuffer(opened.maps["ring"])

    @property
    def hooks(self) -> list[HookState]:
        """Every hook and what became of it, now."""
        misses = self._kprobes.misses() if self._kprobes else {}
        chosen = [self._state(one, misses) for one in self._plan.chosen.values()]
        return chosen + [_vain(attempt) for attempt in self._plan.attempts]

    @property
    def coverage(self) -> dict[str, str]:
        """For each event type: full, degraded or none."""
        present = frozenset(self._plan.chosen)
        return {event.label: coverage_of(needs, present) for event, needs in hooks.EVENTS.items()}

    def set_scope(self, tgid: int) -> None:
        """See only what this process and its descendants do; 0: everything."""
        self.tables.set_scope(tgid)

    def set_policy(self, approvers: Mapping[EventType, Approvers]) -> int:
        """Put the filters in force in one step; the number that records judged by them carry."""
        return self.tables.set_policy(policy.policies(approvers), policy.values(approvers))

    def fileno(self) -> int:
        """Readable while there are records."""
        return self.ring.fileno()

    def drain(self) -> list[bytes]:
        """The records that are there now."""
        return self.ring.drain()

    @property
    def discards(self) -> bool:
        """Whether discarders can be relied on: whatever makes one stale is seen."""
        return all(hook in self._plan.chosen for hook in hooks.INVALIDATORS)

    def detach(self) -> None:
        """No new records from here on."""
        for link in self._links.values():
            link.close()
        if self._kprobes:
            self._kprobes.close()

    def close(self) -> None:
        """Detach and free everything. May be called again."""
        self.detach()
        self.ring.close()
        self._counting.close()
        self._object.close()

    def _state(self, chosen: Chosen, misses: Mapping[str, int]) -> HookState:
        program = self._object.programs[chosen.program]
        info = program.info()
        insns = info.insns or _processed(program)
        return HookState(
            chosen.hook, chosen.target, chosen.program, chosen.kind, "attached", "",
            info.runs, info.recursion_misses + misses.get(program.name, 0), insns,
        )  # fmt: skip


def _processed(program: Program) -> int:
    found = _PROCESSED.search(program.log())
    return int(found[1]) if found else 0


def _vain(attempt: Attempt) -> HookState:
    program = hooks.program(attempt.hook, attempt.kind)
    return HookState(attempt.hook, attempt.target, program, attempt.kind, attempt.state, attempt.reason)


def coverage_of(needs: hooks.Needs, present: frozenset[str]) -> str:
    """How much of an event type these hooks see."""
    if hooks.missing(needs.minimum, present):
        return "none"
    return "degraded" if hooks.missing(needs.wanted, present) else "full"


def load(
    hookset: str = hooks.AUTO,
    btf: str = "kernel",
    transport: str = "ringbuf",
    *,
    ring_bytes: int = 0,
    events: Iterable[EventType] = tuple(hooks.EVENTS),
) -> Loaded:
    """Find out what this kernel can do and attach a variant; nothing is reported before `set_policy`.

    Raises UsageError for a variant that there is not, MinimumNotMetError for one that is not to be had here.
    """
    _check_variant(hookset, btf, transport)
    path = object_path()
    found = capabilities.cached(path)
    states = {kind: capability.state for kind, capability in found.items()}
    return Loader(states, ring_bytes=ring_bytes, path=path).load(hookset, events)


def _check_variant(hookset: str, btf: str, transport: str) -> None:
    known = (
        ("hook set", hookset, hooks.HOOKSETS),
        ("BTF source", btf, BTF_SOURCES),
        ("transport", transport, TRANSPORTS),
    )
    for what, value, choices in known:
        if value not in choices:
            raise UsageError(f"no {what} {value!r}", hint=f"one of {', '.join(choices)}")


class _RefusedError(Exception):
    """A program did not make it; choose again without it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.reason)
        self.attempt = attempt


class Loader:
    """Loads one variant."""

    def __init__(
        self, capabilities: Mapping[str, str], *, ring_bytes: int = 0, path: Path | None = None
    ) -> None:
        self._capabilities = dict(capabilities)
        self._ring_bytes = ring_bytes
        self._path = path or object_path()

    def load(self, hookset: str = hooks.AUTO, events: Iterable[EventType] = tuple(hooks.EVENTS)) -> Loaded:
        """Attach what these events need. Raises MinimumNotMetError with all that was tried."""
        with closing(Btf.parse(types.KERNEL)) as btf:
            functions = Functions(btf)
            chooser = Chooser(hookset, self._capabilities, functions)
            while True:
                plan = chooser.plan(events)
                check_minimum(plan, hookset)
                try:
                    return self._load(plan, functions, lambda refused: chooser.replan(refused, events))
                except _RefusedError as refused:
                    chooser.refuse(refused.attempt)

    def _load(self, plan: Plan, functions: Functions, replan: Callable[[Attempt], Plan]) -> Loaded:
        opened = Object(str(self._path))
        links: dict[str, Link] = {}
        kprobes = Kprobes.available() if _probes(plan) else None
        try:
            self._prepare(opened, plan, functions)
            _verify(opened, plan)
            tables = Tables(opened.maps, os.getpid())  # before the first event
            plan = _attach_all(opened, plan, links, kprobes, replan)
            return Loaded(opened, plan, links, kprobes, tables, self._capabilities)
        except BaseException:
            for link in links.values():
                link.close()
            if kprobes:
                kprobes.close()
            opened.close()
            raise

    def _prepare(self, opened: Object, plan: Plan, functions: Functions) -> None:
        wanted = {chosen.program: chosen for chosen in plan.chosen.values()}
        for name, program in opened.programs.items():
            program.choose(name in wanted)
            if chosen := wanted.get(name):
                program.keep_log(_LOG_BYTES)
                if chosen.kind in ("lsm", "fentry", "fexit"):
                    program.target(chosen.target)
        if self._ring_bytes:
            opened.maps["ring"].resize(self._ring_bytes)
        opened.maps["perf"].skip()
        _preset(opened, plan, functions)


def _preset(opened: Object, plan: Plan, functions: Functions) -> None:
    """Set the constants that depend on which functions this kernel has."""
    places = types.variables(opened.btf(), ".rodata")
    rodata = next(one for name, one in opened.maps.items() if name.endswith(".rodata"))
    counts = bytearray(places["fim_arguments"].size)
    numbers = list(hooks.POINTS)
    for chosen in plan.chosen.values():
        if chosen.kind == "fexit":
            point = chosen.hook.split(".")[0]
            counts[numbers.index(point)] = len(functions.parameters(chosen.target) or ())
    rodata.preset(places["fim_arguments"].offset, bytes(counts))
    targets = {chosen.hook: chosen.target for chosen in plan.chosen.values()}
    by_fd = targets.get("ftruncate.enter") in hooks.BY_DESCRIPTOR
    rodata.preset(places["fim_ftruncate_by_fd"].offset, bytes([by_fd]))
    by_filename = hooks.LINK_BY_FILENAME in (functions.parameters(targets.get("link.enter", "")) or ())
    rodata.preset(places["fim_link_by_filename"].offset, bytes([by_filename]))


def _verify(opened: Object, plan: Plan) -> None:
    try:
        opened.load()
    except KernelError as error:
        chosen = {one.program: one for one in plan.chosen.values()}.get(failed_program(error))
        if chosen is None:
            raise
        words = opened.programs[chosen.program].log() or error.detail
        raise _RefusedError(
            Attempt(chosen.hook, chosen.kind, "load-fail", words.strip(), chosen.target)
        ) from error


def _attach_all(
    opened: Object,
    plan: Plan,
    links: dict[str, Link],
    kprobes: Kprobes | None,
    replan: Callable[[Attempt], Plan],
) -> Plan:
    """Attach what the plan says; the plan that is left. A refusal that costs nothing else is put up with."""
    for chosen in sorted(plan.chosen.values(), key=_order):
        if chosen.hook not in plan.chosen:
            continue
        try:
            links[chosen.hook] = _attach(opened.programs[chosen.program], chosen, kprobes)
        except _RefusedError as refused:
            rest = replan(refused.attempt)
            if not set(rest.chosen.values()) < set(plan.chosen.values()):
                raise
            plan = rest
            for hook in links.keys() - plan.chosen.keys():
                links.pop(hook).close()
    return plan


def _attach(program: Program, chosen: Chosen, kprobes: Kprobes | None) -> Link:
    try:
        if chosen.kind not in ("kprobe", "kretprobe"):
            return program.attach()
        at_return = chosen.kind == "kretprobe"
        if kprobes is None:
            return program.attach_kprobe(chosen.target, at_return)
        kprobes.define(program.name, chosen.target, at_return)
        return program.attach_tracepoint(kprobes.group, program.name)
    except (KernelError, OSError) as error:
        reason = f"{error}\n{getattr(error, 'detail', '')}".strip()
        raise _RefusedError(
            Attempt(chosen.hook, chosen.kind, "attach-fail", reason, chosen.target)
        ) from error


def _probes(plan: Plan) -> bool:
    return any(chosen.kind in ("kprobe", "kretprobe") for chosen in plan.chosen.values())


def _order(chosen: Chosen) -> int:
    return _PHASES.index(chosen.hook.split(".")[1])


def check_minimum(plan: Plan, hookset: str) -> None:
    """Raise MinimumNotMetError, naming all that is lacking and what was tried for it."""
    present = frozenset(plan.chosen)
    lacking = [
        name for event in hooks.MINIMUM for name in hooks.missing(hooks.EVENTS[event].minimum, present)
    ]
    if not lacking:
        return
    tried = [
        f"{one.hook} by {one.kind}: {one.state}: {one.reason}" for one in plan.attempts if one.hook in lacking
    ]
    raise MinimumNotMetError(
        f"hook set {hookset}: this kernel does not serve {', '.join(lacking)}",
        hint="try --hookset auto, and `agent probe` for what this kernel can do",
        detail="\n".join(tried),
    )
