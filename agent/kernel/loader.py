"""From a hook set's name to programs that are attached and maps that are filled.

    chosen from the table  ->  verified together  ->  attached: returns first, entries last
          ^                          |                     |
          +---- without what failed -+---------------------+

A program that the verifier or the kernel refuses is left out and the rest is chosen again; what has no rung
left is reported with every reason.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError, MinimumNotMetError, UsageError
from agent.events.model import EventType
from agent.hooks import points, syscalls
from agent.kernel import btf as types
from agent.kernel import capabilities, lockdown, tails, tell
from agent.kernel.attach import Attached, RefusedError
from agent.kernel.bcc import backend
from agent.kernel.choose import FIRES, Attempt, Chooser, Plan
from agent.kernel.functions import Functions
from agent.kernel.libbpf import Object, failed_program
from agent.kernel.loaded import HookState, Loaded
from agent.kernel.maps import Table, Tables
from agent.kernel.tell import Told
from agent.kernel.transport import PerfBuffer, RingBuffer, Transport

__all__ = ["BTF_SOURCES", "TRANSPORTS", "HookState", "Loaded", "Loader", "Variant", "load", "object_path"]

TRANSPORTS = ("ringbuf", "perf")
BTF_SOURCES = ("kernel", "external", "none")

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "bpf" / "fim.bpf.o", _PACKAGE.parent / "build" / "fim.bpf.o")
_BTF_PLACE = _PACKAGE / "btf"
_COMPILED = ("kprobe", "kretprobe", points.BCC)  # observed while it was compiled
_LOG_BYTES = 1 << 16
_WORD = struct.Struct("=I")
_PERF_BYTES = 1 << 20  # a processor


class Variant(NamedTuple):
    """What to load and how.

    `ring_bytes` 0 is the default size, for perf buffers of each processor; so is `discarders` 0, of entries.
    """

    hookset: str = points.AUTO
    btf: str = "kernel"
    transport: str = "ringbuf"
    ring_bytes: int = 0
    discarders: int = 0
    events: tuple[EventType, ...] = tuple(points.EVENTS)

    def check(self) -> None:
        """Raise UsageError if there is no such variant."""
        known = (
            ("hook set", self.hookset, points.HOOKSETS),
            ("BTF source", self.btf, BTF_SOURCES),
            ("transport", self.transport, TRANSPORTS),
        )
        for what, value, choices in known:
            if value not in choices:
                raise UsageError(f"no {what} {value!r}", hint=f"one of {', '.join(choices)}")
        if self.btf == "none" and self.hookset not in (points.AUTO, points.BCC):
            raise UsageError(
                f"hook set {self.hookset} needs type information, which BTF source none has not",
                hint=f"without, there is {points.BCC}",
            )

    @property
    def compiled(self) -> bool:
        """Whether its programs are compiled on the spot, and never relocated."""
        return self.hookset == points.BCC or self.btf == "none"


def object_path() -> Path:
    """Where the compiled programs are: in the bundle, or as `make build` left them."""
    for place in _PLACES:
        if place.is_file():
            return place
    raise UsageError(f"no {_PLACES[0]}", hint="run `make build`, or deploy the bundle with its object")


def external_btf() -> Path:
    """The reduced type information that was made for this kernel and came with the agent."""
    place = _BTF_PLACE / f"{os.uname().release}.btf"
    if not place.is_file():
        raise UsageError(f"no {place}", hint="bpftool gen min_core_btf makes it from this kernel's BTF")
    return place


def load(
    hookset: str = points.AUTO,
    btf: str = "kernel",
    transport: str = "ringbuf",
    *,
    ring_bytes: int = 0,
    discarders: int = 0,
    events: Iterable[EventType] = tuple(points.EVENTS),
) -> Loaded:
    """Find out what this kernel can do and attach a variant; nothing is reported before `set_policy`.

    Raises UsageError for an unknown variant, MinimumNotMetError for one that this kernel cannot serve; under
    lockdown it names that as the cause.
    """
    variant = Variant(hookset, btf, transport, ring_bytes, discarders, tuple(events))
    variant.check()
    try:
        return _compiled(variant) if variant.compiled else _relocated(variant)
    except KernelError as error:
        if lockdown.active():
            raise lockdown.refusal(error) from error
        raise


def _relocated(variant: Variant) -> Loaded:
    """Programs that were compiled beforehand, and the last rung where none of them can be had."""
    try:
        path = object_path()
        found = capabilities.cached(path, external_btf() if variant.btf == "external" else None)
        tried = backend.known()
        states = {kind: one.state for kind, one in found.items()} | (
            {points.BCC: tried.state} if tried else {}
        )
        return Loader(states, variant, path).load()
    except KernelError as error:
        if variant.hookset != points.AUTO or lockdown.active() or backend.lacking():
            raise
        return _last(variant, error)


def _compiled(variant: Variant) -> Loaded:
    """The last rung. What else this kernel can do is not asked where that takes type information."""
    if lockdown.active():  # compiling takes a minute, and what it makes reads the kernel's memory as well
        raise lockdown.refusal()
    path = backend.object_path()
    found = {} if variant.btf == "none" else capabilities.cached(object_path())
    states = {kind: one.state for kind, one in found.items()} | dict.fromkeys(_COMPILED, FIRES)
    return Loader(states, variant._replace(hookset=points.BCC), path).load()


def _last(variant: Variant, error: KernelError) -> Loaded:
    try:
        return _compiled(variant._replace(btf="none"))
    except KernelError as last:
        error.detail = f"{error.detail}\nand by {points.BCC}: {last.message}\n{last.detail}".strip()
        raise error from last


class Loader:
    """Loads one variant on a kernel with these capabilities."""

    def __init__(self, states: Mapping[str, str], variant: Variant, path: Path) -> None:
        self._variant = variant
        self._path = path
        self._external = external_btf() if variant.btf == "external" else None
        hidden = dict.fromkeys(points.TRAMPOLINES, capabilities.LOAD_FAIL) if self._external else {}
        self._states = {**states, **hidden}

    def load(self) -> Loaded:
        """Attach what the variant's events need. Raises MinimumNotMetError with all that was tried."""
        with ExitStack() as stack:
            functions = Functions(typed=self._variant.btf == "kernel")
            stack.callback(functions.close)
            chooser = Chooser(self._variant.hookset, self._states, functions)
            while True:
                plan = chooser.plan(self._variant.events)
                check_minimum(plan, self._variant.hookset)
                try:
                    return self._load(plan, functions, chooser)
                except RefusedError as refused:
                    if lockdown.active():  # no other program would fare better
                        raise KernelError(str(refused)) from refused
                    chooser.refuse(refused.attempt)

    def _load(self, plan: Plan, functions: Functions, chooser: Chooser) -> Loaded:
        with ExitStack() as undo:
            opened = Object(str(self._path), str(self._external) if self._external else None)
            undo.callback(opened.close)
            self._prepare(opened, plan, functions)
            _verify(opened, plan)
            tails.fill(opened, plan)
            tables = Tables(opened.maps, os.getpid(), self._told(opened))  # before the first event
            undo.callback(tables.close)
            self._follow(opened, plan)
            transport = self._transport(opened)
            undo.callback(transport.close)
            attached = Attached(opened, plan)
            undo.callback(attached.close)
            attached.attach(lambda refused: chooser.replan(refused, self._variant.events))
            undo.pop_all()
            return Loaded(opened, attached, tables, transport, self._states)

    def _follow(self, opened: Object, plan: Plan) -> None:
        """Tell the programs at system calls which are theirs: those of events that nothing else sees."""
        present = frozenset(plan.chosen)
        events = frozenset(event for event in self._variant.events if points.by_syscalls(event, present))
        if events:
            for place, row in syscalls.rows(os.uname().machine, events):
                opened.maps["syscalls"].update(_WORD.pack(place), row)

    def _told(self, opened: Object) -> dict[str, Table]:
        """The tables that programs write for us, where there are such programs."""
        if not self._tells(opened):
            return {}
        return {name: Told(opened.maps[name], opened.programs) for name in ("approvers", "discarders")}

    def _tells(self, opened: Object) -> bool:
        """Not before 5.14, and not in what was compiled on the spot."""
        runs = self._states.get(capabilities.RUNS) == FIRES
        return runs and any(name.startswith(tell.PREFIX) for name in opened.programs)

    def _transport(self, opened: Object) -> Transport:
        if self._variant.transport == "perf":
            return PerfBuffer(opened.maps["perf"], self._variant.ring_bytes or _PERF_BYTES)
        return RingBuffer(opened.maps["ring"])

    def _prepare(self, opened: Object, plan: Plan, functions: Functions) -> None:
        wanted = {chosen.program: chosen for chosen in plan.chosen.values()}
        tells = self._tells(opened)
        for name, program in opened.programs.items():
            program.choose(name in wanted or (tells and name.startswith(tell.PREFIX)))
            if chosen := wanted.get(name):
                program.keep_log(_LOG_BYTES)
                if chosen.kind in points.TRAMPOLINES:
                    program.target(functions.number(chosen.kind, chosen.target))
        perf = self._variant.transport == "perf"
        unused = ["ring" if perf else "perf", "probes"]
        if not tails.choose(opened, plan, _LOG_BYTES):
            unused.append(tails.MAP)
        if f"{points.SYSCALL}.enter" not in plan.chosen:
            unused += ["syscalls", "calls"]
        for name in unused:
            if name in opened.maps:  # what is compiled on the spot has only what it needs
                opened.maps[name].skip()
        if self._variant.ring_bytes and not perf:
            opened.maps["ring"].resize(self._variant.ring_bytes)
        if self._variant.discarders:
            opened.maps["discarders"].resize(self._variant.discarders)
        _preset(opened, _constants(plan, functions) | {"fim_use_perf": bytes([perf])})


def check_minimum(plan: Plan, hookset: str) -> None:
    """Raise MinimumNotMetError, naming all that is lacking and what was tried for it."""
    present = frozenset(plan.chosen)
    wanted = [
        name for event in points.MINIMUM for name in points.missing(points.EVENTS[event].minimum, present)
    ]
    if not wanted:
        return
    tried = {one.hook for one in plan.attempts}
    lacking = [name for name in dict.fromkeys(wanted) if name in tried]
    words = [_told(one) for one in plan.attempts if one.hook in lacking]
    raise MinimumNotMetError(
        f"hook set {hookset}: this kernel does not serve {', '.join(lacking)}",
        hint="try --hookset auto, and `agent probe` for what this kernel can do",
        detail="\n".join(words),
    )


def _told(attempt: Attempt) -> str:
    where = f" at {attempt.target}" if attempt.target else ""
    return f"{attempt.hook} by {attempt.kind}{where}: {attempt.state}: {attempt.reason}"


def _constants(plan: Plan, functions: Functions) -> dict[str, bytes]:
    """The programs' constants that depend on which functions this kernel has."""
    counts = bytearray(points.MAX_POINTS)
    numbers = list(points.POINTS)
    targets = {chosen.hook: chosen.target for chosen in plan.chosen.values()}
    for chosen in plan.chosen.values():
        if chosen.kind == "fexit":
            counts[numbers.index(chosen.hook.split(".")[0])] = len(functions.parameters(chosen.target) or ())
    renames = functions.parameters(f"bpf_lsm_{points.RESOLVES['rename'].lsm}")
    by_filename = points.LINK_BY_FILENAME in (functions.parameters(targets.get("link.enter", "")) or ())
    return {
        "fim_arguments": bytes(counts),
        "fim_ftruncate_by_fd": bytes([targets.get("ftruncate.enter") in points.BY_DESCRIPTOR]),
        "fim_link_by_filename": bytes([by_filename]),
        "fim_exchange_twice": bytes([renames is not None and points.EXCHANGE_ONCE not in renames]),
    }


def _preset(opened: Object, constants: Mapping[str, bytes]) -> None:
    places = types.variables(opened.btf(), ".rodata")
    rodata = next(one for name, one in opened.maps.items() if name.endswith(".rodata"))
    for name, value in constants.items():
        rodata.preset(places[name].offset, value)


def _verify(opened: Object, plan: Plan) -> None:
    try:
        opened.load()
    except KernelError as error:
        blamed = failed_program(error)
        users = tails.users(blamed, plan)
        if not users:
            raise
        chosen = users[0]
        words = (opened.programs[blamed].log() or error.detail).strip()
        raise RefusedError(Attempt(chosen.hook, chosen.kind, "load-fail", words, chosen.target)) from error
