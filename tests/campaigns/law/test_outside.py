"""The second witness: fanotify's bytes become events, and what only one witness knows is found."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.campaigns.law import outside
from tests.campaigns.law.outside import Doubt
from tests.campaigns.law.played import Opened, Outside, Record, Seen, Stat
from tests.campaigns.law.truth import events

FILE = Stat("8:1", 12, 30, 0o100644)
FOLDER = Stat("8:1", 2, 30, 0o40755)
DEVICES = frozenset({"8:1"})


def raw(mask: int, pid: int, name: bytes) -> bytes:
    """An event as the kernel writes it: its head, then the directory's handle and the name."""
    info = struct.pack("=Ii", 8, 1) + bytes(8) + name + b"\0"
    info += bytes(-len(info) % 4)
    info = struct.pack("=BBHQ", 2, 0, 12 + len(info), 0) + info
    return struct.pack("=IBBHQii", 24 + len(info), 3, 0, 24, mask, -1, pid) + info


def record(call: str, *words: str, ret: int = 0, seen: tuple[Seen, ...] = (), **more: Any) -> Record:
    return Record("p0", 3, call, (call, *words), 10, 10, 1, 0, 0, ret, int(ret >= 0), seen=seen, **more)


def doubts(*records: Record, seen: set[tuple[int, str, str]]) -> tuple[int, list[Doubt]]:
    script = "witness on\nprogram p0\n" + "\n".join(" ".join(one.words) for one in records) + "\nend\n"
    return outside.doubts(events(records, script), records, [Outside(0, frozenset(seen), DEVICES)])


def test_bytes_become_events() -> None:
    """A merged event stands for each of its kinds; names are bytes of any sort."""
    data = raw(0x120, 10, b"a\xff") + raw(0x40000200, 11, b"gone")
    assert outside.parsed(data) == {
        (10, "open", "a\udcff"),
        (10, "create", "a\udcff"),
        (11, "delete", "gone"),
    }


def test_lost_events_are_an_error() -> None:
    with pytest.raises(ValueError, match="lost"):
        outside.parsed(raw(0x4000, 0, b""))


OPEN = record(
    "open", "/w/x", "O_RDONLY", ret=3, seen=(Seen(0, "/w/x", "/w/x", FILE, FILE),), fd=Opened("/w/x", FILE)
)
MKDIR = record("mkdir", "/w/d", "0755", seen=(Seen(0, "/w/d", "/w/d", error=2, parent=FOLDER),))
RENAME = record(
    "rename", "/w/x", "/w/y", seen=(Seen(0, "/w/x", "/w/x", FILE, FILE), Seen(1, "/w/y", "/w/y", error=2))
)
UNLINK = record("unlink", "/w/y", seen=(Seen(0, "/w/y", "/w/y", FILE, FILE),))
SEEN = {
    (10, "open", "x"), (10, "create", "d"), (10, "moved from", "x"), (10, "moved to", "y"),
    (10, "delete", "y"),
}  # fmt: skip


def test_operations_that_both_know_are_confirmed() -> None:
    assert doubts(OPEN, MKDIR, RENAME, UNLINK, seen=SEEN) == (4, [])


@pytest.mark.parametrize("missing", sorted(SEEN))
def test_an_operation_that_fanotify_lacks_is_found(missing: tuple[int, str, str]) -> None:
    """By its event; the others are confirmed."""
    confirmed, found = doubts(OPEN, MKDIR, RENAME, UNLINK, seen=SEEN - {missing})
    assert confirmed == 3
    assert [(one.lacks, one.event) for one in found] == [("fanotify", missing)]


def test_an_operation_that_no_program_reported_is_found() -> None:
    """Of a witnessed process; what other processes do is not the programs' business."""
    more = {(10, "create", "hidden"), (99, "create", "other"), (10, "create", "#1a"), (10, "open", "hidden")}
    assert doubts(OPEN, seen={(10, "open", "x"), *more}) == (
        1,
        [Doubt("truth", (10, "create", "hidden"), "create", OPEN)],
    )


def test_refusals_and_unwatched_file_systems_are_not_judged() -> None:
    """Nor is a rename of one name of a file onto another, which does nothing."""
    refused = record("mkdir", "/w/d", "0755", ret=-17, seen=(Seen(0, "/w/d", "/w/d", FOLDER, FOLDER),))
    there = Stat("0:30", 1, 31, 0o100644)
    elsewhere = record("unlink", "/t/y", seen=(Seen(0, "/t/y", "/t/y", there, there),))
    same = record(
        "rename",
        "/w/x",
        "/w/y",
        seen=(Seen(0, "/w/x", "/w/x", FILE, FILE), Seen(1, "/w/y", "/w/y", FILE, FILE)),
    )
    confirmed, found = doubts(refused, elsewhere, same, seen=set())
    assert found == []
    assert confirmed == 2


def test_operations_below_a_mount_of_a_program_are_not_judged() -> None:
    """Its file system may have got the device number of a watched one that was unmounted."""
    mounted = record("mount", "none", "/w/d", "tmpfs", "0")
    inner = Seen(0, "/w/d/x", "/w/d/x", FILE, FILE)
    opened = record("open", "/w/d/x", "O_RDONLY", ret=3, seen=(inner,), fd=Opened("/w/d/x", FILE))
    assert doubts(mounted, opened, seen=set()) == (0, [])
    assert doubts(opened, seen=set())[1] == [Doubt("fanotify", (10, "open", "x"), "open", opened)]
