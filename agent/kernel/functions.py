"""What the running kernel has to attach to: by its type information, or by name only where that is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.hooks import points
from agent.kernel import btf as types
from agent.kernel import remembered
from agent.kernel.libbpf import Btf

_KALLSYMS = Path("/proc/kallsyms")
_TRAMPOLINE_ARGUMENTS = 6
_FILE, _STAMP = "functions.json", "1"  # the second changes with what the file holds


class Functions:
    """The kernel's functions. Without type information their parameters are not known."""

    def __init__(self, typed: bool) -> None:
        self._typed = typed
        self._btf: Btf | None = None
        self._known = _recall() if typed else {}
        self._names = frozenset() if typed else frozenset(_kallsyms())

    def present(self, kind: str, target: str) -> bool:
        """Whether a program of this type finds its target; every kernel has the tracepoints."""
        if kind in (points.RAW_TRACEPOINT, points.TRACEPOINT):
            return True
        name = _name(kind, target)
        return self._function(name) is not None if self._typed else name in self._names

    def doubtful(self, kind: str, target: str) -> bool:
        """Whether a trampoline may refuse the target: before 6.6 it carries six arguments at most."""
        return kind in ("fentry", "fexit") and len(self.parameters(target) or ()) > _TRAMPOLINE_ARGUMENTS

    def drift(self, hook: str, kind: str, target: str) -> str:
        """Which parameter of a hook's function has moved; empty if none has, or nothing is known of them."""
        return points.drift(hook, self.parameters(_name(kind, target)) or ())

    def parameters(self, name: str) -> tuple[str, ...] | None:
        """A function's parameters by name; None if it is not there or nothing is known of it."""
        found = self._function(name)
        return found.parameters if found else None

    def number(self, kind: str, target: str) -> int:
        """The number of a target that is present in the kernel's type information."""
        found = self._function(_name(kind, target))
        assert found is not None
        return found.number

    def close(self) -> None:
        """Remember what was looked up, until the next boot, and free the rest."""
        if self._btf:
            remembered.keep(_FILE, _STAMP, self._known)
            self._btf.close()
            self._btf = None

    def _function(self, name: str) -> types.Function | None:
        if not self._typed:
            return None
        if name not in self._known:
            self._btf = self._btf or Btf.parse(types.KERNEL)
            self._known[name] = types.function(self._btf, name)
        return self._known[name]


def _name(kind: str, target: str) -> str:
    return f"bpf_lsm_{target}" if kind == "lsm" else target


def _recall() -> dict[str, types.Function | None]:
    try:
        known = remembered.recall(_FILE, _STAMP) or {}
        return {name: found and types.Function(found[0], tuple(found[1])) for name, found in known.items()}
    except (AttributeError, IndexError, TypeError):
        return {}


def _kallsyms() -> Iterator[str]:
    with _KALLSYMS.open("rb") as lines:
        for line in lines:
            _, kind, name = line.split()[:3]
            if kind in b"tT":
                yield name.decode("ascii", "replace")
