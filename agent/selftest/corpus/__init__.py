"""Failures that random programs found (`make law`), each as a script of a few lines that shows it.

In the texts `{base}` stands for a folder. `setup` makes the objects and is not watched; `script` is.
`refused` are the calls that the kernel must refuse, as in `Outcome.failures`. `arrives` has the one event
of each rule: type, path and retval, and `rights`, `asked` (for a mode) and `detached`
where its rule compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_HERE = Path(__file__).parent


class Entry(NamedTuple):
    """One failure. `difference` has the kinds that the campaign gave it, with commas between them."""

    name: str
    difference: str
    kernels: tuple[str, ...]
    rules: Mapping[str, str]
    setup: str
    script: str
    refused: Mapping[str, int]
    arrives: Mapping[str, Mapping[str, Any]]


def names() -> tuple[str, ...]:
    """Return the names of all entries."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.yaml")))


def load(name: str, base: str) -> Entry:
    """Return an entry whose objects are in the folder `base`. Raises KeyError for an incomplete entry."""
    text = (_HERE / f"{name}.yaml").read_text().replace("{base}", base)
    data = yaml.safe_load(text)
    fields = ("difference", "kernels", "rules", "setup", "script", "refused", "arrives")
    return Entry(name, *(data[field] for field in fields))
