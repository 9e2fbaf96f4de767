"""Looks up the running kernel's functions: in its BTF, or by name alone in kallsyms where BTF is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.hooks import points, sets
from agent.kernel import boot_cache
from agent.kernel import btf as types
from agent.kernel.libbpf import Btf

_KALLSYMS = Path("/proc/kallsyms")
_TRAMPOLINE_ARGUMENTS = 6
_FILE, _STAMP = "functions.json", "1"  # change the stamp with the format of the file


class Functions:
    """The kernel's functions. Without BTF (`typed` False) their parameters are not known."""

    def __init__(self, typed: bool) -> None:
        self._typed = typed
        self._btf: Btf | None = None
        self._known = _cached() if typed else {}
        self._names = frozenset() if typed else frozenset(_kallsyms())

    def present(self, kind: str, target: str) -> bool:
        """Return whether the kernel has the target; every kernel has the tracepoints."""
        if kind in (sets.RAW_TRACEPOINT, sets.TRACEPOINT):
            return True
        name = _name(kind, target)
        return self._function(name) is not None if self._typed else name in self._names

    def doubtful(self, kind: str, target: str) -> bool:
        """Return whether a trampoline may refuse the target: before 6.6 it passes six arguments at most."""
        return kind in ("fentry", "fexit") and len(self.parameters(target) or ()) > _TRAMPOLINE_ARGUMENTS

    def drift(self, hook: str, kind: str, target: str) -> str:
        """Describe a parameter of the hook's function that moved; empty if none did or none is known."""
        return points.drift(hook, self.parameters(_name(kind, target)) or ())

    def parameters(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a function's parameters; None if the function is absent or BTF is hidden."""
        function = self._function(name)
        return function.parameters if function else None

    def number(self, kind: str, target: str) -> int:
        """Return the BTF type number of a target that is present."""
        function = self._function(_name(kind, target))
        assert function is not None
        return function.number

    def close(self) -> None:
        """Cache the looked-up functions until the next boot, and free the BTF."""
        if self._btf:
            boot_cache.store(_FILE, _STAMP, self._known)
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


def _cached() -> dict[str, types.Function | None]:
    try:
        known = boot_cache.load(_FILE, _STAMP) or {}
        return {name: entry and types.Function(entry[0], tuple(entry[1])) for name, entry in known.items()}
    except (AttributeError, IndexError, TypeError):
        return {}


def _kallsyms() -> Iterator[str]:
    with _KALLSYMS.open("rb") as lines:
        for line in lines:
            _, kind, name = line.split()[:3]
            if kind in b"tT":
                yield name.decode("ascii", "replace")
