"""Functions whose arguments moved are recognised by the names of their parameters."""

from __future__ import annotations

import pytest

from agent.hooks import points


@pytest.mark.parametrize(
    ("hook", "parameters", "drifted"),
    [
        ("setxattr.enter", ("dentry", "name", "value", "size", "flags"), False),
        ("setxattr.enter", ("idmap", "dentry", "name", "value", "size", "flags"), False),
        ("setxattr.enter", ("idmap", "sb", "dentry", "name", "value", "size", "flags"), True),
        ("open.enter", ("dfd", "filename", "op"), False),
        ("open.enter", ("dfd", "op", "pathname"), True),
        ("open.exit", ("whatever",), False),
    ],
)
def test_only_a_moved_argument_is_drift(hook: str, parameters: tuple[str, ...], drifted: bool) -> None:
    """A renamed parameter is no drift, and neither is a first parameter that programs skip."""
    assert bool(points.drift(hook, parameters)) is drifted
