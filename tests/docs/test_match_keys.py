"""The page about matches names every key that a match can have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.events.actors import Container, Context, Process
from agent.events.model import Event, EventType, File, FileFlags
from agent.sinks.render import Renderer
from tests import ROOT

PAGE = (ROOT / "docs/operations.md").read_text().partition("## Reading a match")[2].partition("\n## ")[0]
PROCESS = Process(pid=7, ppid=1, tid=7, comm=b"c", exe=b"/c")
CONTEXT = Context(PROCESS, container=Container(b"a", b"docker", b""))


def keys(value: Any) -> Iterator[str]:
    """Yield every key, also of objects within."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from keys(part)


@pytest.mark.parametrize("kind", EventType)
def test_every_key_is_on_the_page(kind: EventType) -> None:
    """The section about reading a match has it as code."""
    file = File(b"/f", flags=FileFlags(1))
    event = Event(kind, 1, 7, 7, 1, file=file, file2=file, comm=b"c")
    line = Renderer({"name": "h", "kernel": "k", "boot_id": "b"}).body(event, CONTEXT, 1, "ab")
    found = set(keys(json.loads(Renderer.line("r", line))))
    assert {"time", "retval", "path_marks", "sha256", "runtime"} <= found
    assert {key for key in found if f"`{key}`" not in PAGE} == set()
