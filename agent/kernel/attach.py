"""Programs to their places: returns first and entries last, for an entry alone would leave things behind."""

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
    """A program did not make it; choose again without it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.reason)
        self.attempt = attempt


class Attached:
    """What is attached, by hook; `plan` is what was left of the plan."""

    def __init__(self, opened: Object, plan: Plan) -> None:
        probes = any(chosen.kind in _PROBES for chosen in plan.chosen.values())
        self.plan = plan
        self._opened = opened
        self._links: dict[str, Link] = {}
        self._kprobes = Kprobes.available() if probes else None

    def attach(self, replan: Replan) -> None:
        """Attach everything. A refusal that costs nothing else is put up with, else it is a RefusedError."""
        for chosen in sorted(self.plan.chosen.values(), key=_order):
            if chosen.hook in self.plan.chosen:
                try:
                    self._links[chosen.hook] = self._attach(chosen)
                except RefusedError as refused:
                    if not self._give_up(replan(refused.attempt)):
                        raise

    def misses(self) -> dict[str, int]:
        """How often the kernel skipped a probe, by program."""
        return self._kprobes.misses() if self._kprobes else {}

    def close(self) -> None:
        """Detach. May be called again."""
        for link in self._links.values():
            link.close()
        if self._kprobes:
            self._kprobes.close()

    def _give_up(self, rest: Plan) -> bool:
        """Go on with a smaller plan, if it is nothing but smaller."""
        if not set(rest.chosen.values()) < set(self.plan.chosen.values()):
            return False
        self.plan = rest
        for hook in self._links.keys() - rest.chosen.keys():
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
