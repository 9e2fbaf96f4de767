"""The rooms keep to their directions: who may import whom is a table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module and the only places that may import it.
ONLY = {
    "libvirt": ("harness/vm",),
    "libvirtaio": ("harness/vm",),
    "paramiko": ("harness/guest",),
    "ctypes": ("agent/kernel", "agent/service/privileges.py", "harness/host/processes.py"),
    "bcc": ("agent/kernel/bcc/backend.py",),
}

# A folder and what it must not import.
NEVER = {
    "agent": ("harness",),
    "agent/rules": ("agent.kernel", "agent.context", "agent.sinks", "agent.selftest", "agent.pipeline"),
    "harness/guest": ("harness.plan", "harness.results", "harness.run"),
    "harness/plan": ("harness.results", "harness.kernels", "harness.run"),
    "harness/report": ("harness.vm", "harness.guest"),
    "harness/results": ("harness.kernels", "harness.run", "harness.report"),
}

# The whole of what the harness may know of the agent: what a plan, a channel and a prediction are made of.
HARNESS_MAY = {"agent.selftest.catalogue", "agent.selftest.protocol", "agent.hooks.points"}


def imports(path: Path) -> set[str]:
    """Dotted names a file imports; `from a import b` counts as `a` and as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", ONLY)
def test_only_one_room_touches_it(module: str) -> None:
    """A library with a room of its own is imported nowhere else."""
    offenders = [
        str(path.relative_to(ROOT))
        for path in sources("agent") + sources("harness")
        if any(within(name, module) for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(ONLY[module])
    ]
    assert offenders == []


@pytest.mark.parametrize("folder", NEVER)
def test_directions(folder: str) -> None:
    """No room imports against the direction of the flow."""
    offenders = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in sorted(imports(path))
        if any(within(name, package) for package in NEVER[folder])
    ]
    assert offenders == []


def test_what_the_harness_knows_of_the_agent() -> None:
    """A plan needs the catalogue, the channel the protocol, a prediction the hooks, and that is all."""
    offenders = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("harness")
        for name in sorted(imports(path))
        if within(name, "agent")
        and not any(within(name, allowed) or within(allowed, name) for allowed in HARNESS_MAY)
    ]
    assert offenders == []
