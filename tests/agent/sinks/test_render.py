"""A match is one line for any file name, and the name's bytes can be restored from it."""

from __future__ import annotations

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events.actors import Container, Context, Live, Process
from agent.events.model import Event, EventType, File, FileFlags
from agent.sinks.render import Renderer, WallClock, escape, quote_name, this_host, timestamp, unescape

HOST = {"name": 'h"ost', "kernel": "6.1"}
NASTY = [
    b'a"b',
    b"\n",
    b"\x1b[2J",
    "\u2028".encode(),
    b"\xff\xfe",
    b"\\xff",
    b"\\",
    b"\x7f\x9b",
    b'"}\n{"rule":',
]


def render(event: Event, context: Context | None = None, sha256: str = "") -> dict[str, object]:
    line = Renderer(HOST).line("my rule", Renderer(HOST).body(event, context or Context(), 0, sha256))
    assert re.fullmatch(rb"[ -~]+", line)
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@given(st.binary())
def test_any_bytes_can_be_restored(name: bytes) -> None:
    assert unescape(json.loads(quote_name(name))) == name


@given(st.binary(), st.binary())
def test_two_names_are_never_rendered_alike(first: bytes, second: bytes) -> None:
    assert (escape(first) == escape(second)) == (first == second)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\\")))
def test_text_without_backslash_is_unchanged(text: str) -> None:
    assert escape(text.encode()) == text


def _events() -> st.SearchStrategy[Event]:
    name = st.one_of(st.binary(max_size=40), st.sampled_from(NASTY))
    file = st.builds(File, path=name, inode=st.integers(0, 2**64 - 1), flags=st.sampled_from(list(FileFlags)))
    return st.builds(
        Event,
        type=st.sampled_from(EventType),
        comm=name,
        name=name,
        source=name,
        file=file,
        file2=st.none() | file,
        flags=st.integers(0, 2**32 - 1),
        retval=st.integers(-4095, 100),
    )


@given(_events(), st.lists(st.sampled_from(NASTY)))
def test_a_line_is_printable_ascii_and_one_object(event: Event, args: list[bytes]) -> None:
    process = Process(
        7, comm=event.comm, exe=event.name, args=tuple(args), ancestors=(Process(exe=event.source),)
    )
    found = render(event, Context(process, Container(event.name + b"x", b"docker")))
    assert list(found) == ["rule", "time", "event", "process", "container", "host"]
    parts = found["event"], found["process"], found["container"]
    assert all(isinstance(part, dict) for part in parts)
    what, who, where = parts
    assert isinstance(what, dict)
    assert isinstance(who, dict)
    assert isinstance(where, dict)
    assert unescape(what["path"]) == event.file.path
    assert what["inode"] == event.file.inode
    assert what["retval"] == event.retval
    assert [unescape(arg) for arg in who["args"]] == args
    assert unescape(who["ancestors"][0]["exe"]) == event.source
    assert unescape(where["id"]) == event.name + b"x"


def test_a_match_as_documented() -> None:
    event = Event(
        EventType.RENAME,
        pid=7,
        tid=8,
        retval=-13,
        mount_ns=4,
        cgroup_id=9,
        file=File(
            b"/etc/passwd", 5, 6, mode=0o100644, uid=1, gid=2, flags=FileFlags.UPPER | FileFlags.TRUNCATED
        ),
        file2=File(b"/etc/\xff", 7),
    )
    process = Process(7, 1, 8, b"mv", b"/bin/mv", (b"mv", b"a"), 0, 0, 1000, b"root", b"wheel", (Process(1),))
    process.package_manager = b"dpkg"
    live = Live(b"/\xff", 0, 5, 3, b"pts0")
    assert render(event, Context(process, root=b"/srv/jail", live=live)) == {
        "rule": "my rule",
        "time": "1970-01-01T00:00:00.000000000Z",
        "event": {
            "type": "rename",
            "path": "/etc/passwd",
            "inode": 5,
            "device": 6,
            "mode": "100644",
            "uid": 1,
            "gid": 2,
            "path_marks": ["truncated", "upper"],
            "destination": {"path": "/etc/\\xff", "inode": 7, "device": 0, "mode": "0", "uid": 0, "gid": 0},
            "flags": 0,
            "retval": -13,
            "mount_ns": 4,
        },
        "process": {
            "pid": 7,
            "ppid": 1,
            "tid": 8,
            "comm": "mv",
            "exe": "/bin/mv",
            "args": ["mv", "a"],
            "uid": 0,
            "gid": 0,
            "auid": 1000,
            "user": "root",
            "group": "wheel",
            "root": "/srv/jail",
            "euid": 0,
            "egid": 5,
            "session": 3,
            "tty": "pts0",
            "cwd": "/\\xff",
            "package_manager": "dpkg",
            "cgroup_id": 9,
            "ancestors": [{"pid": 1, "comm": "", "exe": ""}],
        },
        "container": None,
        "host": HOST,
    }


def test_cut_arguments_are_marked() -> None:
    process = Process(args=(b"a",), args_truncated=True)
    who = render(Event(EventType.OPEN), Context(process))["process"]
    assert isinstance(who, dict)
    assert who["args_truncated"] is True


def test_a_process_of_which_not_all_was_seen_is_marked() -> None:
    for incomplete in (False, True):
        who = render(Event(EventType.OPEN), Context(Process(incomplete=incomplete)))["process"]
        assert isinstance(who, dict)
        assert who.get("incomplete", False) is incomplete


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (os.O_RDONLY, ["O_RDONLY"]),
        (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, ["O_WRONLY", "O_CREAT", "O_TRUNC"]),
        (os.O_RDWR | os.O_TMPFILE, ["O_RDWR", "O_TMPFILE"]),
        (os.O_RDWR | os.O_SYNC, ["O_RDWR", "O_SYNC"]),
        (os.O_RDONLY | 1 << 30, ["O_RDONLY", "0x40000000"]),
    ],
)
def test_open_flags_by_name(flags: int, names: list[str]) -> None:
    found = render(Event(EventType.OPEN, flags=flags, mode=0o600))["event"]
    assert isinstance(found, dict)
    assert (found["flags"], found["requested_mode"]) == (names, "600")


def test_a_digest_is_part_of_the_event() -> None:
    found = render(Event(EventType.CLOSE), sha256="ab")["event"]
    assert isinstance(found, dict)
    assert found["sha256"] == "ab"


def test_times_are_utc_with_nanoseconds() -> None:
    assert timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"


def test_a_change_of_the_wall_clock_is_followed() -> None:
    now = [100]
    clock = WallClock(lambda: now[0], lambda: 10)
    assert clock.unix_ns(5) == 95
    now[0] = 200
    assert clock.unix_ns(6) == 96  # within the same second of the stream
    assert clock.unix_ns(1_000_000_005) == 1_000_000_195


def test_this_host_has_a_name() -> None:
    assert this_host()["name"] == os.uname().nodename


def test_the_text_of_a_process_is_never_that_of_another() -> None:
    """Also where only its root, its cgroup or what `/proc` shows differs."""
    renderer, process = Renderer({}), Process(pid=7, args=(b"a",))
    event, moved = Event(EventType.OPEN), Event(EventType.OPEN, cgroup_id=9)
    contexts = [
        Context(process),
        Context(Process(pid=8, args=(b"a",))),
        Context(process, root=b"/jail"),
        Context(process, live=Live(cwd=b"/srv")),
    ]
    texts = [renderer.body(event, context, 0) for context in contexts]
    texts.append(renderer.body(moved, contexts[0], 0))
    assert len(set(texts)) == len(texts)
    assert [renderer.body(event, context, 0) for context in contexts] == texts[:-1]
