"""The attached programs: their filters, records, counters and coverage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from agent.events.model import EventType
from agent.hooks import coverage, needs, sets
from agent.kernel import causes, policy
from agent.kernel.attach import Attached, RefusedError, Replan
from agent.kernel.choose import Attempt, Chosen, skips
from agent.kernel.followed import FollowedCalls
from agent.kernel.libbpf import Object, Program
from agent.kernel.maps import Tables
from agent.kernel.transport import Transport

if TYPE_CHECKING:
    from agent.filters.approvers import Approvers


class HookState(NamedTuple):
    """The state of one hook, and the kernel's counters of its program, including a kprobe's own misses."""

    event: str
    point: str
    program: str
    type: str
    state: str  # attached, unused, load-fail, attach-fail, silent, lossy, absent
    reason: str = ""
    runs: int = 0
    recursion_misses: int = 0
    insns: int = 0


class Parts(NamedTuple):
    """What a load makes in the kernel."""

    opened: Object
    attached: Attached
    tables: Tables
    transport: Transport
    calls: FollowedCalls


class Loaded:
    """A loaded variant. `close` detaches everything, and so does the end of the process.

    `by_rules` is whether programs are attached and detached with the rules; otherwise they stay attached.
    """

    def __init__(self, parts: Parts, capabilities: Mapping[str, str], replan: Replan) -> None:
        opened, attached, self.tables, self.ring, self._calls = parts
        self.by_rules = True
        self._perf_takes_admin = causes.perf_takes_admin()  # which `agent run` has only while it starts
        self.capabilities = dict(capabilities)
        self._object = opened
        self._attached = attached
        self._replan = replan
        self._insns: dict[str, int] = {}
        self._unseen = 0
        self._invalidating = [
            opened.programs[one.program]
            for one in attached.plan.chosen.values()
            if one.hook in needs.INVALIDATORS
        ]
        self._blinding = [
            (chosen.hook, opened.programs[chosen.program])
            for chosen in attached.plan.chosen.values()
            if chosen.hook.partition(".")[2] in needs.BLINDING
        ]

    @property
    def hooks(self) -> list[HookState]:
        """The current state of every hook, also of those that could not be attached."""
        misses = self._attached.misses()
        attached = [self._state(chosen, misses) for chosen in self._attached.plan.chosen.values()]
        return attached + [_not_attached(attempt) for attempt in self._attached.plan.attempts]

    def skipped(self) -> dict[str, int]:
        """Return how often the kernel skipped each program without which an event is not seen, by hook."""
        misses = self._attached.misses()
        return {
            hook: program.info().recursion_misses + misses.get(program.name, 0)
            for hook, program in self._blinding
        }

    def void_if_skipped(self) -> None:
        """Make all discarders stale if the kernel skipped a program that makes some of them stale."""
        misses = self._attached.misses()
        skipped = sum(one.info().recursion_misses + misses.get(one.name, 0) for one in self._invalidating)
        if skipped != self._unseen:
            self._unseen = skipped
            self.tables.void_discards()

    @property
    def coverage(self) -> dict[str, str]:
        """The coverage of each event type: full, degraded or none."""
        return coverage.levels(self._attached.plan.kinds, skips(self.capabilities))

    @property
    def limits(self) -> dict[str, str]:
        """For each event type without full coverage, a text about what is not seen."""
        return coverage.limits(self._attached.plan.kinds, skips(self.capabilities))

    @property
    def discards(self) -> bool:
        """Whether discarders can be used: every hook that makes one stale is attached."""
        return all(hook in self._attached.plan.chosen for hook in needs.INVALIDATORS)

    def attach(self, events: Collection[EventType], between: Callable[[], object] = int) -> None:
        """Attach the programs of these events that are not attached yet, before rules for them are applied.

        Calls `between` after each program. Raises RefusedError, a KernelError, if the kernel refuses one.
        """
        if self.by_rules:
            try:
                self._attached.attach(self._required(events), self._replan, between)
            except RefusedError as refused:
                causes.name(refused, {refused.attempt.kind})
                raise
            self._calls.set(events, self._chosen)

    def detach_one(self, events: Collection[EventType]) -> bool:
        """Detach one program that these events do not need; return whether there was one."""
        return self.by_rules and self._attached.detach_one(self._attached.hooks - self._required(events))

    @property
    def _chosen(self) -> frozenset[str]:
        return frozenset(self._attached.plan.chosen)

    def _required(self, events: Collection[EventType]) -> frozenset[str]:
        """Return the hooks of these events, and those that could not be attached later for others."""
        lasting = self._attached.plan.through_perf if self._perf_takes_admin else frozenset()
        return needs.required(events, self._chosen) | lasting

    def set_scope(self, tgid: int) -> None:
        """Report only events of this process and its descendants; with 0, of all processes."""
        self.tables.set_scope(tgid)

    def set_policy(self, approvers: Mapping[EventType, Approvers]) -> int:
        """Switch to these filters in one step; return their serial number, which their records have."""
        policies, values = policy.policies(approvers), policy.values(approvers)
        return self.tables.set_policy(policies, values, remembers=self.discards)

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""
        return self.ring.fileno()

    def drain(self) -> list[bytes]:
        """Return the waiting records."""
        return self.ring.drain()

    def detach(self) -> None:
        """Detach all programs; no new records follow."""
        self._attached.close()

    def close(self) -> None:
        """Detach and free everything. May be called again."""
        self.detach()
        self.ring.close()
        self.tables.close()
        self._calls.close()
        self._object.close()

    def _state(self, chosen: Chosen, misses: Mapping[str, int]) -> HookState:
        program = self._object.programs[chosen.program]
        info = program.info()
        return HookState(
            event=chosen.hook,
            point=chosen.target,
            program=chosen.program,
            type=chosen.kind,
            state="attached" if chosen.hook in self._attached.hooks else "unused",
            runs=info.runs,
            recursion_misses=info.recursion_misses + misses.get(chosen.program, 0),
            insns=self._verified_insns(program, info.insns),
        )

    def _verified_insns(self, program: Program, counted: int | None) -> int:
        """Return the kernel's counter; before 5.16, which has none, read the verifier's log once."""
        if program.name not in self._insns:
            self._insns[program.name] = counted or program.processed()
        return self._insns[program.name]


def _not_attached(attempt: Attempt) -> HookState:
    program = sets.program(attempt.hook, attempt.kind)
    return HookState(attempt.hook, attempt.target, program, attempt.kind, attempt.state, attempt.reason)
