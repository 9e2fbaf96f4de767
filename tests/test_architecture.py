"""Packages import only packages of lower layers; the list of layers is complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT

# From the lowest layer to the highest; a package imports only packages of lower layers. A word is a package
# of the program, or a module beside its `__init__`; every module belongs to exactly one.
LAYERS = {
    "harness": [
        "text errors",
        "host",
        "plan console guest",
        "results kernels",
        "images",
        "vm",
        "run",
        "lab",
        "watch cluster bench report",
        "commands",
        "cli",
        "__main__",
    ],
    "agent": [
        "errors",
        "events",
        "hooks rules",
        "filters context",
        "kernel",
        "sinks",
        "ledger",
        "pipeline",
        "service",
        "selftest",
        "commands",
        "cli",
        "__main__",
    ],
}

# A library, and the only places that may import it.
ONLY = {
    "libvirt": ("harness/vm",),
    "libvirtaio": ("harness/vm",),
    "distributed": ("harness/cluster",),
    "dask": ("harness/cluster",),
    "cryptography": ("harness/cluster", "harness/guest"),
    "paramiko": ("harness/guest",),
    "ctypes": (
        *(
            "agent/kernel",
            "agent/context/handles.py",
            "agent/selftest/scanner.py",
            "agent/service/privileges.py",
        ),
        "harness/host/processes.py",
    ),
    "bcc": ("agent/kernel/bcc/backend.py",),
}

# All that the harness may import of the agent, and the only packages that may import it.
AGENT_DATA = ("agent.selftest.catalogue", "agent.selftest.protocol", "agent.hooks")
WITH_AGENT = {"plan", "guest", "kernels", "results"}


@cache
def modules(program: str) -> dict[str, Path]:
    """Return the modules of a program by dotted name."""
    found = {}
    for path in sorted((ROOT / program).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the names that a file imports, anywhere in it; `from a import b` counts as `a` and as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_modules(path: Path, known: Collection[str]) -> set[str]:
    """Return the modules of `known` that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            names |= {member if member in known else node.module for member in members}
    return names & set(known)


def package_of(module: str) -> str:
    """Return the package, or the module in the root of the program; empty for the program's `__init__`."""
    return module.split(".")[1] if "." in module else ""


def arrows(program: str) -> Iterator[tuple[str, str, str]]:
    """Yield (importing module, package, imported package) across packages of one program."""
    known = modules(program)
    for module, path in known.items():
        here = package_of(module)
        for name in imports(path):
            there = package_of(name) if name in known else ""
            if there and there != here:
                yield module, here, there


def late_imports(path: Path) -> Iterator[ast.stmt]:
    """Yield the imports inside the functions of a file."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            yield from (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))


def explained(before: Sequence[str]) -> bool:
    """Return whether an import has a comment above it, or follows one in the same group."""
    above = next(line.strip() for line in reversed(before) if not re.match(r"\s*(from|import) ", line))
    return above.startswith("#")


def within(name: str, package: str) -> bool:
    """Return whether a dotted name is a package, or is in it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("program", LAYERS)
def test_every_package_has_a_layer(program: str) -> None:
    """The list has no package that does not exist."""
    listed = [word for layer in LAYERS[program] for word in layer.split()]
    present = {package_of(module) for module in modules(program)} - {""}
    if not (ROOT / program / "__main__.py").exists():
        listed.remove("__main__")
    assert sorted(listed) == sorted(present)


@pytest.mark.parametrize("program", LAYERS)
def test_imports_go_to_lower_layers(program: str) -> None:
    """Also imports inside functions."""
    rank = {word: number for number, layer in enumerate(LAYERS[program]) for word in layer.split()}
    wrong = [
        f"{module} imports {there}"
        for module, here, there in arrows(program)
        if here and rank[here] <= rank[there]
    ]
    assert sorted(set(wrong)) == []


@pytest.mark.parametrize("program", LAYERS)
def test_no_two_packages_import_each_other(program: str) -> None:
    pairs = {(here, there) for _, here, there in arrows(program)}
    assert [pair for pair in pairs if pair[::-1] in pairs] == []


@pytest.mark.parametrize("program", LAYERS)
def test_no_modules_import_each_other_in_a_cycle(program: str) -> None:
    """Imports inside functions count; `from package import module` imports only the module."""
    known = modules(program)
    graph = {module: imported_modules(path, known) - {module} for module, path in known.items()}
    assert list(TopologicalSorter(graph).static_order())


def test_tests_mirror_the_packages() -> None:
    """Each folder of tests/harness and tests/agent is named like the package that its files test."""
    strangers = [
        str(path.relative_to(ROOT))
        for program in LAYERS
        for path in sorted((ROOT / "tests" / program).rglob("*.py"))
        if not (ROOT / path.relative_to(ROOT / "tests")).parent.is_dir()
    ]
    assert strangers == []


def test_tests_that_boot_a_kernel_lie_in_one_folder() -> None:
    """All test files of tests/guest have the marker `guest`, and no other file has it."""
    marked = {
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^(pytestmark = |@)pytest\.mark\.guest$", path.read_text(), flags=re.MULTILINE)
    }
    assert marked == set((ROOT / "tests/guest").rglob("test_*.py"))


def test_the_agent_imports_nothing_of_the_harness() -> None:
    offenders = [
        f"{module} imports {name}"
        for module, path in modules("agent").items()
        for name in imports(path)
        if within(name, "harness")
    ]
    assert offenders == []


def test_the_harness_imports_data_of_the_agent() -> None:
    """The catalogue, the protocol and the hooks, in four packages; a report needs only results.json."""
    offenders = [
        f"{module} imports {name}"
        for module, path in modules("harness").items()
        for name in sorted(imports(path))
        if within(name, "agent")
        and not (
            package_of(module) in WITH_AGENT
            and any(within(name, part) or within(part, name) for part in AGENT_DATA)
        )
    ]
    assert offenders == []


def test_an_import_inside_a_function_says_why() -> None:
    """In a comment on its line or above it; a command may import what only its execution needs."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for module, path in modules("harness").items()
        if package_of(module) not in ("commands", "cli")
        for lines in [path.read_text().splitlines()]
        for node in late_imports(path)
        if "#" not in lines[node.lineno - 1] and not explained(lines[: node.lineno - 1])
    ]
    assert silent == []


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_in_one_place(library: str) -> None:
    offenders = [
        module
        for program in LAYERS
        for module, path in modules(program).items()
        if any(within(name, library) for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(ONLY[library])
    ]
    assert offenders == []
