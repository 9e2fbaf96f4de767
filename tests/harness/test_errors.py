"""The tree of errors that the docstring of harness/errors.py draws."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from harness import errors

HARNESS = Path(errors.__file__).parent


def parents() -> dict[str, str]:
    """Each error class of the harness with its first base."""
    classes = {
        node.name: node.bases[0].id
        for path in HARNESS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name)
    }
    tree = {"HarnessError": "Exception"}
    while new := {name: base for name, base in classes.items() if base in tree and name not in tree}:
        tree |= new
    return tree


def test_the_drawing_has_every_error() -> None:
    """The docstring draws each error below its base class, with the exit code where it changes."""
    drawn, path = {}, ["Exception"]
    for branch, name, code in re.findall(
        r"(?m)^    ([|+ -]*)(\w+Error)(?: +exit (\d))?", errors.__doc__ or ""
    ):
        path = [*path[: len(branch) // 4 + 1], name]
        drawn[name] = path[-2]
        if code:
            assert getattr(errors, name).exit_code == int(code)
    assert drawn == parents()
