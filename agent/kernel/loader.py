"""Loads a hook set: chooses programs, has them verified, attaches them and fills their maps.

    choose from the table  ->  verify together  ->  attach: returns first, entries last
          ^                          |                     |
          +--- without what failed --+---------------------+

A program that the verifier or the kernel refuses is left out, and the rest is chosen again. A hook that no
set can serve is reported with every reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError, MinimumNotMetError, UsageError
from agent.events.model import EventType
from agent.hooks import needs, points, sets, syscalls
from agent.kernel import btf as types
from agent.kernel import capabilities, causes, lockdown, map_writer, reads, tails, tracefs
from agent.kernel.attach import Attached, RefusedError
from agent.kernel.bcc import backend
from agent.kernel.choose import FIRES, REATTACHES, Attempt, Chooser, Plan
from agent.kernel.followed import FollowedCalls
from agent.kernel.functions import Functions
from agent.kernel.libbpf import Object, failed_program
from agent.kernel.loaded import HookState, Loaded, Parts
from agent.kernel.map_writer import MapWriter
from agent.kernel.maps import Table, Tables
from agent.kernel.transport import PerfBuffer, RingBuffer, Transport

__all__ = ["BTF_SOURCES", "TRANSPORTS", "HookState", "Loaded", "Loader", "Variant", "load", "object_path"]

TRANSPORTS = ("ringbuf", "perf")
BTF_SOURCES = ("kernel", "external", "none")

_PACKAGE = Path(__file__).resolve().parent.parent
_OBJECTS = (_PACKAGE / "bpf" / "fim.bpf.o", _PACKAGE.parent / "build" / "fim.bpf.o")
_BTF_FOLDER = _PACKAGE / "btf"
_COMPILED = (
    "kprobe",
    "kretprobe",
    sets.BCC,
)  # kinds that fire if bcc could compile and run its first program
_LOG_BYTES = 1 << 16
_CALLS = f"{points.SYSCALL}.enter"
_PERF_BYTES = 1 << 20  # for each CPU


class Variant(NamedTuple):
    """What to load, and how.

    `ring_bytes` is the size of the ring buffer, or of each CPU's perf buffer; `discarders` is the number of
    entries. 0 means the default of either. Of the programs for `events`, those that `attach` needs are
    attached at once. None: all of them are, and they stay attached.
    """

    hookset: str = sets.AUTO
    btf: str = "kernel"
    transport: str = "ringbuf"
    ring_bytes: int = 0
    discarders: int = 0
    events: tuple[EventType, ...] = tuple(needs.EVENTS)
    attach: frozenset[EventType] | None = None

    def check(self) -> None:
        """Raise UsageError if the variant does not exist."""
        options = (
            ("hook set", self.hookset, sets.HOOKSETS),
            ("BTF source", self.btf, BTF_SOURCES),
            ("transport", self.transport, TRANSPORTS),
        )
        for option, value, choices in options:
            if value not in choices:
                raise UsageError(f"unknown {option} {value!r}", hint=f"use one of {', '.join(choices)}")
        if self.btf == "none" and self.hookset not in (sets.AUTO, sets.BCC):
            raise UsageError(
                f"hook set {self.hookset} needs type information, and the BTF source is none",
                hint=f"use --hookset {sets.BCC}, or another BTF source",
            )

    @property
    def compiled(self) -> bool:
        """Whether bcc compiles the programs on this host, instead of libbpf relocating them."""
        return self.hookset == sets.BCC or self.btf == "none"


def object_path() -> Path:
    """Return the path of the compiled programs: in the bundle, or in the folder of `make build`."""
    for path in _OBJECTS:
        if path.is_file():
            return path
    raise UsageError(
        f"{_OBJECTS[0]} does not exist", hint="run `make build`, or deploy the bundle with its object"
    )


def external_btf() -> Path:
    """Return the path of the reduced BTF for this kernel that was deployed with the agent."""
    path = _BTF_FOLDER / f"{os.uname().release}.btf"
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist", hint="make it from this kernel's BTF with bpftool gen min_core_btf"
        )
    return path


def load(
    hookset: str = sets.AUTO,
    btf: str = "kernel",
    transport: str = "ringbuf",
    *,
    ring_bytes: int = 0,
    discarders: int = 0,
    events: Iterable[EventType] = tuple(needs.EVENTS),
    attach: Iterable[EventType] | None = None,
) -> Loaded:
    """Observe this kernel's capabilities and attach a variant; it reports no event before `set_policy`.

    `events` are those that can be seen, `attach` those whose programs are attached at once: others follow by
    `Loaded.attach`. None: all of them, for good.

    Raises UsageError for an unknown variant, MinimumNotMetError for one that this kernel cannot serve. If
    lockdown is the cause, the error names it.
    """
    at_once = None if attach is None else frozenset(attach)
    variant = Variant(hookset, btf, transport, ring_bytes, discarders, tuple(events), at_once)
    variant.check()
    try:
        return _compiled(variant) if variant.compiled else _relocated(variant)
    except KernelError as error:
        if lockdown.active() and isinstance(error, MinimumNotMetError):
            raise lockdown.refusal(error) from error
        causes.name(error, causes.kinds_of(hookset))
        raise


def _relocated(variant: Variant) -> Loaded:
    """Load the object that was compiled beforehand; with `auto`, let bcc compile one if that fails."""
    try:
        path = object_path()
        observed = capabilities.cached(path, external_btf() if variant.btf == "external" else None)
        states = {kind: capability.state for kind, capability in observed.items()}
        if by_bcc := backend.known():
            states[sets.BCC] = by_bcc.state
        return Loader(states, variant, path).load()
    except KernelError as error:
        if variant.hookset != sets.AUTO or lockdown.active() or backend.lacking():
            raise
        return _compiled_instead(variant, error)


def _compiled(variant: Variant) -> Loaded:
    """Load programs that bcc compiles. With BTF source none, do not observe kinds that need BTF."""
    if lockdown.active():  # compiling takes a minute, and these programs read the kernel's memory too
        raise lockdown.refusal()
    path = backend.object_path()
    if variant.btf == "none":
        states = {capabilities.RUNS: FIRES if map_writer.works(path) else capabilities.LOAD_FAIL}
    else:
        observed = capabilities.cached(object_path())
        states = {kind: capability.state for kind, capability in observed.items()}
    states |= dict.fromkeys(_COMPILED, FIRES)
    return Loader(states, variant._replace(hookset=sets.BCC), path).load()


def _compiled_instead(variant: Variant, error: KernelError) -> Loaded:
    try:
        return _compiled(variant._replace(btf="none"))
    except KernelError as last:
        error.detail = f"{error.detail}\nand by {sets.BCC}: {last.message}\n{last.detail}".strip()
        raise error from last


class Loader:
    """Loads one variant on a kernel with these states of capabilities."""

    def __init__(self, states: Mapping[str, str], variant: Variant, path: Path) -> None:
        self._variant = variant
        self._path = path
        self._external = external_btf() if variant.btf == "external" else None
        hidden = dict.fromkeys(sets.TRAMPOLINES, capabilities.LOAD_FAIL) if self._external else {}
        # Without tracefs the kernel loses the returns of kprobes while a few calls sleep.
        lossy = {} if tracefs.writable() else {"kretprobe": capabilities.LOSSY}
        self._states = {**states, **hidden, **lossy}

    def load(self) -> Loaded:
        """Attach the programs that the variant's events need.

        Raises MinimumNotMetError, with all attempts, if a required event cannot be seen.
        """
        with ExitStack() as stack:
            functions = Functions(typed=self._variant.btf == "kernel")
            stack.callback(functions.close)
            chooser = Chooser(self._variant.hookset, self._states, functions)
            casts = self._casts(functions)
            while True:
                plan = chooser.plan(self._variant.events)
                check_minimum(plan, self._variant.hookset)
                try:
                    return self._load(plan, functions, chooser, casts)
                except RefusedError as refused:
                    chooser.refuse(refused.attempt)

    def _casts(self, functions: Functions) -> int:
        """Return the BTF type of the function that reads the kernel's memory; 0 where the helper does.

        Raises MinimumNotMetError if the kernel permits neither.
        """
        if self._states.get(capabilities.READ, FIRES) == FIRES:
            return 0
        if self._states.get(capabilities.CAST) == FIRES and functions.present("fentry", reads.CAST):
            return functions.number("fentry", reads.CAST)
        raise MinimumNotMetError(
            "this kernel does not permit programs to read its memory",
            hint="`agent probe` shows what the kernel said",
        )

    def _load(self, plan: Plan, functions: Functions, chooser: Chooser, casts: int) -> Loaded:
        with ExitStack() as undo:
            path = reads.with_casts(self._path) if casts else self._path
            opened = Object(str(path), str(self._external) if self._external else None)
            undo.callback(opened.close)
            self._prepare(opened, plan, functions)
            if casts:
                _rewrite(opened, reads.by_cast(casts))
            _verify(opened, plan)
            tails.fill(opened, plan)
            tables = Tables(opened.maps, os.getpid(), self._map_writers(opened))  # before the first event
            undo.callback(tables.close)
            transport = self._transport(opened)
            undo.callback(transport.close)
            attached = Attached(opened, plan, self._states.get(REATTACHES) == FIRES)
            undo.callback(attached.close)
            calls = FollowedCalls(opened.maps["syscalls"] if _CALLS in plan.chosen else None)
            undo.callback(calls.close)
            parts = Parts(opened, attached, tables, transport, calls)
            loaded = Loaded(parts, self._states, lambda refused: self._replan(chooser, refused))
            loaded.attach(self._variant.events if self._variant.attach is None else self._variant.attach)
            loaded.by_rules = self._variant.attach is not None
            undo.pop_all()
            return loaded

    def _replan(self, chooser: Chooser, refused: Attempt) -> Plan:
        """Return the plan without a program that could not be attached, if that still meets the minimum."""
        plan = chooser.replan(refused, self._variant.events)
        check_minimum(plan, self._variant.hookset)
        return plan

    def _map_writers(self, opened: Object) -> dict[str, Table]:
        """Return the tables that are written by programs, where such programs work."""
        if not self._has_map_writers(opened):
            return {}
        return {name: MapWriter(opened.maps[name], opened.programs) for name in map_writer.WRITTEN}

    def _has_map_writers(self, opened: Object) -> bool:
        """Return whether the object has programs that write maps, and the kernel runs them (from 5.14)."""
        runs = self._states.get(capabilities.RUNS) == FIRES
        return runs and any(name.startswith(map_writer.PREFIX) for name in opened.programs)

    def _transport(self, opened: Object) -> Transport:
        if self._variant.transport == "perf":
            return PerfBuffer(opened.maps["perf"], self._variant.ring_bytes or _PERF_BYTES)
        return RingBuffer(opened.maps["ring"])

    def _prepare(self, opened: Object, plan: Plan, functions: Functions) -> None:
        wanted = {chosen.program: chosen for chosen in plan.chosen.values()}
        writes = self._has_map_writers(opened)
        for name, program in opened.programs.items():
            program.choose(name in wanted or (writes and name.startswith(map_writer.PREFIX)))
            if chosen := wanted.get(name):
                program.keep_log(_LOG_BYTES)
                if chosen.kind in sets.TRAMPOLINES:
                    program.target(functions.number(chosen.kind, chosen.target))
        perf = self._variant.transport == "perf"
        unused = ["ring" if perf else "perf", *capabilities.MAPS]
        unused += set(tails.MAPS) - tails.choose(opened, plan, _LOG_BYTES)
        if _CALLS not in plan.chosen:
            unused += ["syscalls", "calls"]
        for name in unused:
            if name in opened.maps:  # an object that bcc compiled has only the maps that it needs
                opened.maps[name].skip()
        if self._variant.ring_bytes and not perf:
            opened.maps["ring"].resize(self._variant.ring_bytes)
        if self._variant.discarders:
            opened.maps["discarders"].resize(self._variant.discarders)
        _preset(opened, _constants(plan, functions) | {"fim_use_perf": bytes([perf])})


def check_minimum(plan: Plan, hookset: str) -> None:
    """Raise MinimumNotMetError if required hooks are missing, with the attempts for each of them."""
    present = frozenset(plan.chosen)
    wanted = [name for event in needs.MINIMUM for name in needs.missing(needs.EVENTS[event].minimum, present)]
    if not wanted:
        return
    tried = {attempt.hook for attempt in plan.attempts}
    lacking = [name for name in dict.fromkeys(wanted) if name in tried]
    raise MinimumNotMetError(
        f"hook set {hookset}: this kernel does not serve {', '.join(lacking)}",
        hint="try --hookset auto; `agent probe` shows what this kernel supports",
        detail="\n".join(_describe(attempt) for attempt in plan.attempts if attempt.hook in lacking),
    )


def _describe(attempt: Attempt) -> str:
    target = f" at {attempt.target}" if attempt.target else ""
    return f"{attempt.hook} by {attempt.kind}{target}: {attempt.state}: {attempt.reason}"


def _constants(plan: Plan, functions: Functions) -> dict[str, bytes]:
    """Return the programs' constants that depend on the functions of this kernel."""
    counts = bytearray(points.MAX_POINTS)
    numbers = list(points.POINTS)
    targets = {chosen.hook: chosen.target for chosen in plan.chosen.values()}
    for chosen in plan.chosen.values():
        if chosen.kind == "fexit":
            counts[numbers.index(chosen.hook.split(".")[0])] = len(functions.parameters(chosen.target) or ())
    hooks = (functions.parameters(f"bpf_lsm_{name}") for name in points.RESOLVES["rename"].lsm)
    renames = next((parameters for parameters in hooks if parameters is not None), None)
    by_filename = points.LINK_BY_FILENAME in (functions.parameters(targets.get("link.enter", "")) or ())
    return {
        "fim_account_seed": os.urandom(8),
        "fim_arguments": bytes(counts),
        "fim_changes": syscalls.changes(os.uname().machine),
        "fim_ftruncate_by_fd": bytes([targets.get("ftruncate.enter") in points.BY_DESCRIPTOR]),
        "fim_ftruncate_of_file": bytes([targets.get("ftruncate.resolve") in points.OF_FILE]),
        "fim_link_by_filename": bytes([by_filename]),
        "fim_exchange_twice": bytes([renames is not None and points.EXCHANGE_ONCE not in renames]),
    }


def _preset(opened: Object, constants: Mapping[str, bytes]) -> None:
    variables = types.variables(opened.btf(), ".rodata")
    rodata = next(bpf_map for name, bpf_map in opened.maps.items() if name.endswith(".rodata"))
    for name, value in constants.items():
        rodata.preset(variables[name].offset, value)


def _rewrite(opened: Object, rewrite: Callable[[bytes], bytes]) -> None:
    for program in opened.programs.values():
        program.rewrite(rewrite)


def _verify(opened: Object, plan: Plan) -> None:
    try:
        opened.load()
    except KernelError as error:
        failed = failed_program(error)
        users = tails.users(failed, plan)
        if not users:
            raise
        chosen = users[0]
        reason = (opened.programs[failed].rejection() or error.detail).strip()
        raise RefusedError(Attempt(chosen.hook, chosen.kind, "load-fail", reason, chosen.target)) from error
