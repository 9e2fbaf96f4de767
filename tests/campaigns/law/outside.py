"""A second witness of the truth: what fanotify reported of the same operations.

It checks the campaign itself, from outside of the programs. An operation that `truth` takes for done must be
among fanotify's events, and an event on names must belong to an operation that a program reported. The kernel
merges equal events, so sets are compared: of process, kind and last name.
"""

from __future__ import annotations

import re
import stat
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.campaigns.law.calls import CALLS
from tests.campaigns.law.played import Outside, Record, Seen, Stat
from tests.campaigns.law.programs import SETUP
from tests.campaigns.law.truth import Claim, Happened

KINDS = {
    0x8: "close", 0x20: "open", 0x40: "moved from", 0x80: "moved to", 0x100: "create", 0x200: "delete",
    0x1000: "exec",
}  # fmt: skip
NAMES = frozenset({"moved from", "moved to", "create", "delete"})
ON_ITSELF = "."  # the name of an event on a directory itself
OVERFLOW = 0x4000
_HEAD = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_INFO = struct.Struct("=BBH")  # struct fanotify_event_info_header
_BY_NAME = (2, 10, 12)  # FAN_EVENT_INFO_TYPE_DFID_NAME, OLD_ and NEW_DFID_NAME
_FSID = 8
_HANDLE = struct.Struct("=Ii")
# What a copy-up of overlayfs makes in the upper layer and renames.
_OVERLAYS_OWN = re.compile(r"#[0-9a-f]+")

Event = tuple[int, str, str]  # process, kind, last name


@dataclass(frozen=True)
class Doubt:
    """An operation that only one of the two witnesses knows: `truth` or `fanotify` lacks it."""

    lacks: str
    event: Event
    type: str
    record: Record | None


def parsed(data: bytes) -> frozenset[Event]:
    """Return the events in what was read from a group. Raises ValueError if some were lost."""
    found: set[Event] = set()
    at = 0
    while at < len(data):
        length, _, _, head, mask, _, pid = _HEAD.unpack_from(data, at)
        if mask & OVERFLOW or not length:
            raise ValueError("fanotify lost events")
        name = _name(data[at + head : at + length])
        found.update((pid, kind, name) for bit, kind in KINDS.items() if mask & bit)
        at += length
    return frozenset(found)


def _name(infos: bytes) -> str:
    while infos:
        kind, _, length = _INFO.unpack_from(infos)
        if kind in _BY_NAME:
            size, _ = _HANDLE.unpack_from(infos, _INFO.size + _FSID)
            raw = infos[_INFO.size + _FSID + _HANDLE.size + size : length]
            return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        infos = infos[length:]
    return ""


def doubts(
    happened: Iterable[Happened | Claim], records: Sequence[Record], seen: Sequence[Outside]
) -> tuple[int, list[Doubt]]:
    """Return how many operations both witnesses know, and those that only one of them knows."""
    watched = {one.part: one for one in seen}
    made = {record.words[2] for record in records if record.call == "mount" and record.ret == 0}
    confirmed, found = 0, []
    for item in happened:
        one = watched.get(item.part if isinstance(item, Claim) else item.record.part)
        if one is None or isinstance(item, Claim) or not item.must or item.record.ret < 0:
            continue
        if any(f"{item.path}/".startswith(f"{top}/") for top in made):
            continue  # the kernel gives the number of a watched device that is gone to the next
        lacking = [event for event in _expected(item, one.devices) if event not in one.events]
        confirmed += not lacking
        found += [Doubt("fanotify", event, item.type, item.record) for event in lacking]
    for one in seen:
        found += _unknown(one, [record for record in records if record.part == one.part])
    return confirmed, found


def _expected(item: Happened, devices: frozenset[str]) -> Iterator[Event]:
    """Yield the events of an operation, as far as its file system is watched."""
    record = item.record
    state = _state(item)
    if item.path is None or state is None or state.dev not in devices:
        return
    name = item.path.rpartition("/")[2]
    if item.type == "rename":
        old, new = (record.at(place) for place in _places(record))
        if old and new and old.st and new.st and (old.st.dev, old.st.ino) == (new.st.dev, new.st.ino):
            return  # two names of one file: the kernel does nothing
        yield record.pid, "moved from", name
        yield record.pid, "moved to", (item.path2 or "").rpartition("/")[2]
    elif item.type in ("open", "close", "exec"):
        yield record.pid, item.type, ON_ITSELF if stat.S_ISDIR(state.mode) else name
    elif item.type in ("unlink", "rmdir"):
        yield record.pid, "delete", name
    elif item.type in ("mkdir", "mknod", "symlink", "link"):
        yield record.pid, "create", (item.path2 or item.path).rpartition("/")[2]


def _places(record: Record) -> tuple[int, int]:
    meaning = CALLS[record.call]
    return meaning.file or 0, meaning.file2 or 0


def _state(item: Happened) -> Stat | None:
    """Return the state of the object, or of the directory in which it was made."""
    record = item.record
    if item.type == "open":
        return record.fd.st if record.fd else None
    meaning = CALLS[record.call]
    seen = record.at(meaning.fd if meaning.fd is not None else meaning.file or 0)
    if seen is None:
        return None
    return seen.followed_st if item.type == "exec" else seen.st or seen.parent


def _unknown(one: Outside, records: Sequence[Record]) -> Iterator[Doubt]:
    """Yield the events on names of programs that no operation of theirs explains."""
    known: Mapping[int, set[str]] = _names(records)
    for event in sorted(one.events):
        pid, kind, name = event
        if kind in NAMES and pid in known and name not in known[pid] and not _OVERLAYS_OWN.fullmatch(name):
            yield Doubt("truth", event, kind, next(record for record in records if record.pid == pid))


def _names(records: Sequence[Record]) -> dict[int, set[str]]:
    """Return the last names in the successful operations of each process whose operations are witnessed."""
    found: dict[int, set[str]] = defaultdict(set)
    unwitnessed = {one.pid for one in records if one.program.startswith(SETUP) or not one.program}
    for record in records:
        if record.pid in unwitnessed:
            continue
        paths = [path for seen in record.seen for path in _paths(seen)]
        paths += [record.fd.path] if record.fd else []
        found[record.pid].update(path.removesuffix(" (deleted)").rpartition("/")[2] for path in paths)
    return found


def _paths(seen: Seen) -> list[str]:
    return [path for path in (seen.resolved, seen.followed) if path]
