"""Attaches the programs of a plan: those at returns first, those at entries last.

An entry without its return would leave the records of operations behind that never end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from agent.errors import KernelError
from agent.hooks.sets import TRAMPOLINES
from agent.kernel import steps
from agent.kernel.choose import Attempt, Chosen, Plan
from agent.kernel.libbpf import Link, Object, Program
from agent.kernel.tracefs import Kprobes

_PHASES = ("exit", "resolve", "given", "once", "enter")
_PROBES = ("kprobe", "kretprobe")
_MULTI = ("kprobe_multi", "kretprobe_multi")

Replan = Callable[[Attempt], Plan]


class RefusedError(KernelError):
    """The kernel refused a program; choose again without it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(f"the kernel refused {attempt.hook} by {attempt.kind}", detail=attempt.reason)
        self.attempt = attempt


class Attached:
    """The attached programs by hook; `plan` is the plan without the programs that were given up.

    Not all programs of the plan need be attached: `attach` and `detach` take hooks.
    """

    def __init__(self, opened: Object, plan: Plan, reattaches: bool = True) -> None:
        probes = any(chosen.kind in _PROBES for chosen in plan.chosen.values())
        self.plan = plan
        self._reattaches = reattaches  # programs on trampolines can be attached a second time
        self._opened = opened
        self._links: dict[str, Link] = {}
        self._missed: dict[str, int] = {}  # by programs that were detached since
        self._kprobes = Kprobes.available() if probes else None

    @property
    def hooks(self) -> frozenset[str]:
        """The hooks whose programs are attached now."""
        return frozenset(self._links)

    def attach(self, hooks: Collection[str], replan: Replan, between: Callable[[], object] = int) -> None:
        """Attach the programs of these hooks of the plan; call `between` after each: it may take a second.

        A program that the kernel refuses is left out if the new plan only removes programs. Otherwise raises
        RefusedError.
        """
        for chosen in self._ordered(hooks):
            if chosen.hook in self.plan.chosen and chosen.hook not in self._links:
                steps.taken()
                try:
                    self._links[chosen.hook] = self._attach(chosen)
                except RefusedError as refused:
                    if not self._shrink(replan(refused.attempt)):
                        raise
                between()

    def detach_one(self, hooks: Collection[str]) -> bool:
        """Detach one of these hooks' programs, entries first; return whether one was left to detach.

        With its entry gone, an operation that begins does not wait for a return that is never seen. Programs
        that this kernel cannot attach again stay.
        """
        for chosen in reversed(self._ordered(hooks)):
            if chosen.hook in self._links and (self._reattaches or chosen.kind not in TRAMPOLINES):
                self._unlink(chosen)
                return True
        return False

    def misses(self) -> dict[str, int]:
        """Return how often the kernel skipped each kprobe, by program, since the load."""
        now = self._kprobes.misses() if self._kprobes else {}
        return {name: now.get(name, 0) + self._missed.get(name, 0) for name in now | self._missed}

    def close(self) -> None:
        """Detach everything. May be called again."""
        for link in self._links.values():
            steps.taken()
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

    def _ordered(self, hooks: Collection[str]) -> list[Chosen]:
        return sorted((self.plan.chosen[hook] for hook in hooks if hook in self.plan.chosen), key=_order)

    def _unlink(self, chosen: Chosen) -> None:
        if self._kprobes and chosen.kind in _PROBES:
            self._missed[chosen.program] = self.misses().get(chosen.program, 0)
        self._links.pop(chosen.hook).close()
        if self._kprobes and chosen.kind in _PROBES:
            self._kprobes.remove(chosen.program)

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
