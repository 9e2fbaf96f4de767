"""The Elastic Common Schema: names and types as published, and every member of a match is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events.actors import Container, Context, Live, Process
from agent.events.model import Event, EventType, File, FileFlags
from agent.sinks.base import Match
from agent.sinks.ecs import FIELDS, OWN, VERSION, convert, encode
from agent.sinks.render import Renderer

PUBLISHED = json.loads(Path(__file__).with_name("ecs_fields.json").read_text())
SCHEMA: dict[str, dict[str, Any]] = PUBLISHED["fields"]
TYPES = {"keyword": str, "wildcard": str, "date": str, "long": int}
HOST = {"name": "h", "kernel": "k", "boot_id": "b"}


def line(kind: EventType, **how: Any) -> dict[str, Any]:
    file = File(b"/etc/a\n\xff", 5, 6, mode=0o104755, uid=1, gid=2, flags=FileFlags(1))
    process = Process(7, 1, 8, b"mv", b"/bin/mv", (b"mv", b"a"), 0, 0, 9, b"root", b"wheel", (Process(1),))
    context = Context(process, Container(b"c", b"docker"), b"/jail", Live(b"/srv", 0, 5, 3, b"pts0"))
    values = {"file": file, "file2": file, "name": b"n", "source": b"s", "exit_code": 256, **how}
    body = Renderer(HOST).body(Event(kind, **values), context, 1, "ab")
    found: dict[str, Any] = json.loads(Renderer.line("r", body))
    return found


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), value


def test_the_version_is_that_of_the_names() -> None:
    assert PUBLISHED["version"] == VERSION
    assert len(SCHEMA) > 100


@pytest.mark.parametrize("kind", EventType)
def test_every_field_is_one_of_the_schema(kind: EventType) -> None:
    """With its type and, if the schema lists them, an allowed value; the agent's own are below `fim`."""
    document = convert(line(kind))
    for name, value in leaves(document):
        if name.startswith(f"{OWN}."):
            continue
        field = SCHEMA[name]
        values = value if field.get("array") else [value]
        assert isinstance(values, list), name
        assert all(isinstance(each, TYPES[field["type"]]) for each in values), name
        assert set(values) <= set(field.get("allowed", values)), name


@pytest.mark.parametrize("kind", EventType)
def test_every_member_of_a_match_is_kept(kind: EventType) -> None:
    """Each is in a field of the table, or has its own name below `fim`."""
    given, document = line(kind), dict(leaves(convert(line(kind))))
    for name, value in leaves(given):
        parent = name.rpartition(".")[0]
        mapped = FIELDS.get(name)
        if value in (None, ""):
            continue
        if mapped:
            assert all(document[field] == how(value) for field, how in mapped), name
        else:
            assert document.get(f"{OWN}.{name}", document.get(f"{OWN}.{parent}")) is not None, name


def test_an_event_in_ecs() -> None:
    document = convert(line(EventType.UNLINK, retval=-13))
    assert document["event"] == {
        "module": "fim",
        "kind": "event",
        "dataset": "fim.match",
        "category": ["file"],
        "type": ["deletion"],
        "outcome": "failure",
        "action": "unlink",
    }
    assert document["file"]["path"] == "/etc/a\n\\xff"
    assert (document["file"]["mode"], document["file"]["type"]) == ("4755", "file")
    assert document["process"]["working_directory"] == "/srv"
    assert document["fim"]["process"]["tty"] == "pts0"
    assert document["fim"]["event"]["retval"] == -13


def test_a_file_that_an_open_created() -> None:
    created = File(b"/x", mode=0o100644, flags=FileFlags.CREATED)
    assert convert(line(EventType.OPEN, file=created))["event"]["type"] == ["creation"]


def test_exits_by_a_signal_have_no_exit_code() -> None:
    assert convert(line(EventType.EXIT))["process"]["exit_code"] == 1
    killed = convert(line(EventType.EXIT, exit_code=9))
    assert "exit_code" not in killed["process"]
    assert killed["fim"]["event"]["exit_code"] == 9


def test_the_agents_own_events() -> None:
    own = Renderer(HOST).own("agent.loss", 1, {"dropped": {"otlp": 3}})
    document = json.loads(encode(Match("agent.loss", "agent", 1, own)).line)
    assert (document["event"]["kind"], document["rule"]["id"]) == ("state", "agent.loss")
    assert document["fim"] == {"agent": {"dropped": {"otlp": 3}}}


def test_a_line_stays_a_line() -> None:
    """It is printable ASCII for any file name; the other parts of the match stay."""
    text = Renderer.line("r", Renderer(HOST).body(Event(EventType.OPEN, file=File(b"/\x7f\n")), Context(), 1))
    encoded = encode(Match("r", "open", 1, text))
    assert all(0x20 <= byte < 0x7F for byte in encoded.line)
    assert encoded[:3] == ("r", "open", 1)
