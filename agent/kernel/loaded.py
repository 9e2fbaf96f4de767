"""Programs that are attached, and what can be asked of them and told to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from agent.events.model import EventType
from agent.hooks import points
from agent.kernel import policy, sight
from agent.kernel.attach import Attached
from agent.kernel.choose import Attempt, Chosen
from agent.kernel.libbpf import Object, Program, RunCounting
from agent.kernel.maps import Tables
from agent.kernel.transport import Transport

if TYPE_CHECKING:
    from agent.filters.approvers import Approvers

_PROCESSED = re.compile(r"processed (\d+) insns")


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


class Loaded:
    """A loaded variant. Closing it, or the end of the process, detaches everything."""

    def __init__(
        self,
        opened: Object,
        attached: Attached,
        tables: Tables,
        transport: Transport,
        capabilities: Mapping[str, str],
    ) -> None:
        self.tables = tables
        self.ring = transport
        self.capabilities = dict(capabilities)
        self._object = opened
        self._attached = attached
        self._counting = RunCounting()
        self._insns: dict[str, int] = {}
        self._blinding = [
            (one.hook, opened.programs[one.program])
            for one in attached.plan.chosen.values()
            if one.hook.partition(".")[2] in points.BLINDING
        ]

    @property
    def hooks(self) -> list[HookState]:
        """Every hook and what became of it, now."""
        misses = self._attached.misses()
        chosen = [self._state(one, misses) for one in self._attached.plan.chosen.values()]
        return chosen + [_vain(attempt) for attempt in self._attached.plan.attempts]

    def skipped(self) -> dict[str, int]:
        """How often the kernel skipped each program without which an event is not seen, now, by hook."""
        misses = self._attached.misses()
        return {
            hook: program.info().recursion_misses + misses.get(program.name, 0)
            for hook, program in self._blinding
        }

    @property
    def coverage(self) -> dict[str, str]:
        """For each event type: full, degraded or none."""
        return sight.coverage(self._attached.plan.chosen, self.capabilities)

    @property
    def limits(self) -> dict[str, str]:
        """What cannot be seen of event types that are not seen whole, in words."""
        return sight.limits(self._attached.plan.chosen, self.capabilities)

    @property
    def discards(self) -> bool:
        """Whether discarders can be relied on: whatever makes one stale is seen."""
        return all(hook in self._attached.plan.chosen for hook in points.INVALIDATORS)

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

    def detach(self) -> None:
        """No new records from here on."""
        self._attached.close()

    def close(self) -> None:
        """Detach and free everything. May be called again."""
        self.detach()
        self.ring.close()
        self.tables.close()
        self._counting.close()
        self._object.close()

    def _state(self, chosen: Chosen, misses: Mapping[str, int]) -> HookState:
        program = self._object.programs[chosen.program]
        info = program.info()
        return HookState(
            event=chosen.hook,
            point=chosen.target,
            program=chosen.program,
            type=chosen.kind,
            state="attached",
            runs=info.runs,
            recursion_misses=info.recursion_misses + misses.get(chosen.program, 0),
            insns=self._insns.setdefault(program.name, info.insns or 0) or self._processed(program),
        )

    def _processed(self, program: Program) -> int:
        """Before 5.16 the kernel does not tell: read once from what the verifier said."""
        self._insns[program.name] = _processed(program)
        return self._insns[program.name]


def _processed(program: Program) -> int:
    """What the verifier's statistics say; before 5.16 the kernel does not tell it otherwise."""
    found = _PROCESSED.search(program.log())
    return int(found[1]) if found else 0


def _vain(attempt: Attempt) -> HookState:
    program = points.program(attempt.hook, attempt.kind)
    return HookState(attempt.hook, attempt.target, program, attempt.kind, attempt.state, attempt.reason)
