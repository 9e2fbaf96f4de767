"""Attaches the programs of a plan: those at returns first, those at entries last.

An entry without its return would leave the records of operations behind that never end.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import KernelError
from agent.kernel.choose import Attempt, Chosen, Plan
from agent.kernel.libbpf import Link, Object, Program
from agent.kernel.tracefs import Kprobes

_PHASES = ("exit", "resolve", "given", "once", "enter")
_PROBES = ("kprobe", "kretprobe")
_MULTI = ("kprobe_multi", "kretprobe_multi")

Replan = Callable[[Attempt], Plan]


class RefusedError(Exception):
    """The kernel refused a program; choose again without it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.reason)
        self.attempt = attempt


class Attached:
    """The attached programs by hook; `plan` is the plan without the programs that were given up."""

    def __init__(self, opened: Object, plan: Plan) -> None:
        probes = any(chosen.kind in _PROBES for chosen in plan.chosen.values())
        self.plan = plan
        self._opened = opened
        self._links: dict[str, Link] = {}
        self._kprobes = Kprobes.available() if probes else None

    def attach(self, replan: Replan) -> None:
        """Attach everything.

        A program that the kernel refuses is left out if the new plan only removes programs. Otherwise raises
        RefusedError.
        """
        for chosen in sorted(self.plan.chosen.values(), key=_order):
            if chosen.hook in self.plan.chosen:
                try:
                    self._links[chosen.hook] = self._attach(chosen)
                except RefusedError as refused:
                    if not self._shrink(replan(refused.attempt)):
                        raise

    def misses(self) -> dict[str, int]:
        """Return how often the kernel skipped each kprobe, by program."""
        return self._kprobes.misses() if self._kprobes else {}

    def close(self) -> None:
        """Detach everything. May be called again."""
        for link in self._links.values():
            link.close()
        if self._kprobes:
            self._kprobes.close()

    def _shrink(self, smaller: Plan) -> bool:
        """Continue with this plan if it is a proper subset of the current one; return whether it is."""
        if not set(smaller.chosen.values()) < set(self.plan.chosen.values()):
            return False
        self.plan = smaller
        for hook in self._links.keys() - smaller.chosen.keys():
            self._links.pop(hook).close()
        return True

    def _attach(self, chosen: Chosen) -> Link:
        try:
            return self._link(self._opened.programs[chosen.program], chosen)
        except (KernelError, OSError) as error:
            reason = f"{error}\n{getattr(error, 'detail', '')}".strip()
            attempt = Attempt(chosen.hook, chosen.kind, "attach-fail", reason, chosen.target)
            raise RefusedError(attempt) from error

    def _link(self, program: Program, chosen: Chosen) -> Link:
        at_return = chosen.kind.startswith("kretprobe")
        if chosen.kind in _MULTI:
            return program.attach_kprobe_multi(chosen.target, at_return)
        if chosen.kind not in _PROBES:
            return program.attach()
        if self._kprobes is None:
            return program.attach_kprobe(chosen.target, at_return)
        self._kprobes.define(program.name, chosen.target, at_return)
        return program.attach_tracepoint(self._kprobes.group, program.name)


def _order(chosen: Chosen) -> int:
    return _PHASES.index(chosen.hook.split(".")[1])
