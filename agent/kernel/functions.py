"""What the running kernel has to attach to: by its type information, or by name only where that is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.hooks import points
from agent.kernel import btf as types
from agent.kernel.libbpf import Btf

_KALLSYMS = Path("/proc/kallsyms")
_TRAMPOLINE_ARGUMENTS = 6


class Functions:
    """The kernel's functions. Without type information their parameters are not known."""

    def __init__(self, btf: Btf | None) -> None:
        self._btf = btf
        self._known: dict[str, tuple[str, ...] | None] = {}
        self._names = frozenset(_kallsyms()) if btf is None else frozenset()

    def present(self, kind: str, target: str) -> bool:
        """Whether a program of this type finds its target; every kernel has the tracepoints."""
        name = f"bpf_lsm_{target}" if kind == "lsm" else target
        if kind in (points.RAW_TRACEPOINT, points.TRACEPOINT):
            return True
        return name in self._names if self._btf is None else self.parameters(name) is not None

    def doubtful(self, kind: str, target: str) -> bool:
        """Whether a trampoline may refuse the target: before 6.6 it carries six arguments at most."""
        return kind in ("fentry", "fexit") and len(self.parameters(target) or ()) > _TRAMPOLINE_ARGUMENTS

    def drift(self, hook: str, kind: str, target: str) -> str:
        """Which parameter of a hook's function has moved; empty if none has, or nothing is known of them."""
        name = f"bpf_lsm_{target}" if kind == "lsm" else target
        return points.drift(hook, self.parameters(name) or ())

    def parameters(self, name: str) -> tuple[str, ...] | None:
        """A function's parameters by name; None if it is not there or nothing is known of it."""
        if name not in self._known:
            self._known[name] = types.parameters(self._btf, name) if self._btf else None
        return self._known[name]


def _kallsyms() -> Iterator[str]:
    with _KALLSYMS.open("rb") as lines:
        for line in lines:
            _, kind, name = line.split()[:3]
            if kind in b"tT":
                yield name.decode("ascii", "replace")
