"""Compares three answers about one play: filters on, filters off, and the matches that truth expects."""

from __future__ import annotations

import itertools
import json
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.campaigns.law import outside
from tests.campaigns.law.calls import ALIASING, CALLS
from tests.campaigns.law.naive import matches
from tests.campaigns.law.played import Match, Played, Record, Stat
from tests.campaigns.law.policies import WRITE, WRITES, Rule
from tests.campaigns.law.steps import text
from tests.campaigns.law.truth import ANY, Key, Truth, events, truth
from tests.campaigns.law.world import World

_ESCAPES = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")
# Marks of a path of which the pages say that it is not the object's path.
_ODD_MARKS = frozenset({"truncated", "detached"})


@dataclass(frozen=True)
class Kind:
    """The properties by which two differences count as the same fault."""

    check: str  # filter, missing, extra, path, twice, change, witness, ledger, lost, problem, died
    lacks: str = ""  # on, off, both: the answers that lack it
    type: str = ""
    call: str = ""
    place: str = ""  # the kind of file system
    spelling: str = ""
    error: str = ""
    detail: str = ""

    def coarse(self) -> tuple[str, str, str, str]:
        """Return the properties that stay the same while a failure is shrunk."""
        return self.check, self.lacks, self.type, self.error

    def __str__(self) -> str:
        return " ".join(part for part in vars(self).values() if part)


@dataclass(frozen=True)
class Difference:
    """One difference, with its evidence."""

    kind: Kind
    program: str
    expected: str
    got: str
    evidence: tuple[str, ...] = field(default=())
    rule: str = ""
    key: Key | None = None  # the match that is missing


def unescape(shown: str) -> str:
    r"""A string of the agent's lines, which escapes bytes as \xHH."""
    raw = _ESCAPES.sub(lambda m: bytes.fromhex(m[1].decode()) if m[1] else b"\\", shown.encode())
    return raw.decode("utf-8", "surrogateescape")


def key_of(match: Match) -> Key:
    """Return a match in the form of the truth."""
    event, process = match["event"], match["process"]
    other = (event.get("destination") or {}).get("path")
    return Key(
        match.get("part", 0),
        match["rule"],
        event["type"],
        unescape(event["path"]),
        None if other is None else unescape(other),
        min(event["retval"], 0),
        process["pid"],
        process["tid"],
    )


def judge(played: Played, script: str, rules: Sequence[Sequence[Rule]], world: World) -> list[Difference]:
    """Return all differences of a play.

    If the agent without filters lost events, its answer is incomplete and says nothing about the other agent:
    then the truth judges the agent with filters alone.
    """
    if played.lost_off:
        played = replace(played, off=played.on)
    about = _About(played.records, world)
    known = truth(played.records, script, rules)
    found = [
        Difference(Kind("problem", detail=one.split(":")[0][:40]), "", "", one) for one in played.problems
    ]
    found += _filtered(played, about)
    found += _against(known, played, about)
    found += _doubted(played, script, about)
    found += _changes(played, rules, about)
    found += _ledger(played)
    return found


@dataclass
class _About:
    """Finds records."""

    records: Sequence[Record]
    world: World

    def place(self, path: str | None) -> str:
        """Return the kind of file system of a path."""
        inside = [one for one in self.world.places if path and f"{path}/".startswith(f"{one.path}/")]
        return max(inside, key=lambda one: len(one.path)).kind if inside else "elsewhere"

    def of(self, key: Key) -> Record | None:
        """Return the record that a match is most likely about."""
        mine = [
            one
            for one in self.records
            if (one.part, one.pid) == (key.part, key.pid)
            and one.call in CALLS
            and (
                CALLS[one.call].event == key.type
                or (key.type == "rmdir" and CALLS[one.call].event == "unlink")
            )
        ]
        same = [one for one in mine if min(one.ret, 0) == key.retval]
        near = [
            one
            for one in same
            if key.path in {p for seen in one.seen for p in (seen.resolved, seen.followed)}
        ]
        return next(iter([*near, *same, *mine]), None)

    def program(self, pid: int) -> str:
        return next((one.program for one in self.records if one.pid == pid), "")

    def kind(self, check: str, lacks: str, key: Key, record: Record | None, detail: str = "") -> Kind:
        import errno

        error = errno.errorcode.get(-key.retval, str(key.retval)) if key.retval < 0 else ""
        call = record.call if record else ""
        path = key.path
        if path is None and record and record.seen:
            path = record.seen[0].followed
        return Kind(check, lacks, key.type, call, self.place(path), spelling(record), error, detail)


def spelling(record: Record | None) -> str:
    """Return how the paths of a call were written: the first if it was not plain, else the second."""
    meaning = CALLS.get(record.call) if record else None
    if record is None or meaning is None:
        return ""
    places = [one for one in (meaning.file, meaning.file2) if one is not None and len(record.words) > one + 1]
    found = [_spelling(record, place) for place in places]
    return next((one for one in found if one != "plain"), "plain" if found else "")


def _spelling(record: Record, place: int) -> str:
    given = text(record.words[place + 1])
    seen = record.at(place)
    words = []
    if given.startswith("/proc/"):
        words.append("proc")
    elif not given.startswith("/"):
        words.append("relative")
    if "/../" in given or "//" in given or "/./" in given:
        words.append("dots")
    if seen and seen.resolved != seen.followed:
        words.append("link")
    elif seen and not words and seen.resolved and seen.resolved != given:
        words.append("through")
    return "+".join(words) or "plain"


def _whole(match: Match) -> str:
    """Return a match without the parts that may differ between two agents."""
    process = {name: match["process"].get(name) for name in ("pid", "tid", "ppid", "uid", "gid", "comm")}
    return json.dumps([match.get("part", 0), match["rule"], match["event"], process], sort_keys=True)


def _filtered(played: Played, about: _About) -> Iterator[Difference]:
    """Filters on and off have the same matches."""
    on, off = (Counter(map(_whole, some)) for some in (played.on, played.off))
    for lacks, more in (("on", off - on), ("off", on - off)):
        for shown in more.elements():
            part, rule, event, process = json.loads(shown)
            key = key_of({"part": part, "rule": rule, "event": event, "process": process})
            record = about.of(key)
            yield Difference(
                about.kind("filter", lacks, key, record),
                about.program(key.pid),
                f"{rule} in both answers",
                f"lacking with filters {lacks}: {shown}",
                _evidence(record),
                rule,
            )


def _against(known: Truth, played: Played, about: _About) -> Iterator[Difference]:
    """Compare each answer with the truth."""
    answers = {"on": played.on, "off": played.off}
    missing: dict[tuple[Key, int], list[str]] = defaultdict(list)
    extra: dict[tuple[Key, int], list[str]] = defaultdict(list)
    for name, answer in answers.items():
        lacks, more = _compare(known, answer)
        for key, count in lacks.items():
            missing[key, count].append(name)
        for key, count in more.items():
            extra[key, count].append(name)
    records = dict(known.must)
    for (key, count), names in missing.items():
        lacks_in = "both" if len(names) == 2 else names[0]
        other = _twin(key, names, extra)
        record = records.get(key)
        detail = "" if other is None else "path"
        kind = about.kind("path" if other else "missing", lacks_in, key, record, detail)
        yield Difference(
            kind,
            about.program(key.pid),
            f"{count} of {_shown(key)}",
            "" if other is None else _shown(other),
            _evidence(record),
            key.rule,
            key,
        )
    for (key, count), names in extra.items():
        record = about.of(key)
        certain = any(_loose(key) == _loose(one) for one, _ in known.must)
        check = "twice" if certain else "extra"
        lacks_in = "both" if len(names) == 2 else names[0]
        yield Difference(
            about.kind(check, lacks_in, key, record),
            about.program(key.pid),
            "none",
            f"{count} of {_shown(key)}",
            _evidence(record) or _match_of(key, played),
            key.rule,
        )


def _match_of(key: Key, played: Played) -> tuple[str, ...]:
    """Return a match by a process that no record is about."""
    found = (json.dumps(match) for match in (*played.on, *played.off) if key_of(match) == key)
    return tuple(itertools.islice(found, 1))


def _doubted(played: Played, script: str, about: _About) -> Iterator[Difference]:
    """The truth and fanotify agree about each operation that both must know."""
    for doubt in outside.doubts(events(played.records, script), played.records, played.outside)[1]:
        record = doubt.record
        path = record.seen[0].resolved if record and record.seen else None
        call, where = (record.call, about.place(path)) if record else ("", "")
        pid, kind, name = doubt.event
        yield Difference(
            Kind("witness", doubt.lacks, doubt.type, call, where, spelling(record), detail=kind),
            record.program if record else "",
            f"{kind} of {name!r} by pid {pid} in both witnesses",
            f"lacking in {doubt.lacks}",
            _evidence(record),
        )


def _loose(key: Key) -> tuple[Any, ...]:
    return key.part, key.rule, key.type, key.path, key.retval, key.pid


def _twin(key: Key, names: list[str], extra: dict[tuple[Key, int], list[str]]) -> Key | None:
    """Return the same event by another path, and remove it from `extra`."""
    for other, count in list(extra):
        same = (other.part, other.rule, other.type, other.retval, other.pid)
        if same == (key.part, key.rule, key.type, key.retval, key.pid) and extra[other, count] == names:
            del extra[other, count]
            return other
    return None


def _compare(known: Truth, answer: Iterable[Match]) -> tuple[Counter[Key], Counter[Key]]:
    """Return the matches that an answer lacks, and those that it may not have."""
    left = Counter(key_of(match) for match in answer)
    odd = {key_of(match) for match in answer if _ODD_MARKS & set(match["event"].get("path_marks", ()))}
    must = Counter(key for key, _ in known.must)
    lacks = Counter[Key]()
    for key, count in sorted(must.items(), key=lambda one: one[0].path is ANY or one[0].tid is ANY):
        lacks[key] = count - _take(left, key, count)
    for key, _ in known.may:
        _take(left, key, 1)
    for key in list(left):
        if key in odd or any(claim.covers(key) for claim in known.claims):
            del left[key]
    return +lacks, +left


def _take(left: Counter[Key], key: Key, count: int) -> int:
    """Take up to `count` of a key out of `left`; return how many. ANY as path or thread matches each."""
    candidates = [key]
    if key.path is ANY or key.tid is ANY:
        candidates = [one for one in left if _like(one, key)]
    taken = 0
    for one in candidates:
        some = min(left[one], count - taken)
        left[one] -= some
        taken += some
    return taken


def _like(one: Key, key: Key) -> bool:
    same = (one.part, one.rule, one.type, one.retval, one.pid) == (
        key.part, key.rule, key.type, key.retval, key.pid,
    )  # fmt: skip
    paths = key.path is ANY or (one.path, one.path2) == (key.path, key.path2)
    return same and paths and (key.tid is ANY or one.tid == key.tid)


def _shown(key: Key) -> str:
    arrow = f" -> {key.path2!r}" if key.path2 is not None else ""
    who = f"pid {key.pid} tid {key.tid} part {key.part}"
    return f"{key.rule} {key.type} {key.path!r}{arrow} retval {key.retval} {who}"


def _evidence(record: Record | None) -> tuple[str, ...]:
    if record is None:
        return ()
    seen = [
        f"arg {one.arg}: resolved {one.resolved!r} followed {one.followed!r} error {one.error}"
        for one in record.seen
    ]
    opened = [f"descriptor: {record.fd.path!r}"] if record.fd else []
    return (f"{' '.join(record.words)} = {record.ret} (uid {record.uid}, line {record.line})", *seen, *opened)


# Changes that a rule on the path cannot match: a detached tree has no path, and a change by another mount has
# the path there (docs/limits.md); of the rename of a directory above it the truth knows where docs/rules.md
# promises a match.
_BY_OTHER_RULES = ("detached", "other-mount", "ancestor-renamed")


def _changes(played: Played, rules: Sequence[Sequence[Rule]], about: _About) -> Iterator[Difference]:
    """A changed file, under a rule that matches all changes of it, is reported at least once."""
    by_program: dict[tuple[int, str], list[Record]] = defaultdict(list)
    for record in played.records:
        by_program[record.part, record.program].append(record)
    for (part, program), records in by_program.items():
        if program.startswith("setup") or any(one.call in ALIASING and one.ret >= 0 for one in records):
            continue
        for path, state in _changed(records, about):
            if _by_another_link(records, path):
                continue
            for rule in rules[part]:
                if rule.kind == WRITE and _wants(rule, path):
                    lacks = _silent(rule, part, {one.pid for one in records}, played)
                    how = _how(records, about.world.paths_of(path), path)
                    if lacks and how not in _BY_OTHER_RULES:
                        kind = Kind("change", lacks, place=about.place(path), detail=how)
                        expected = f"a match of {rule.id} ({rule.expression}): {path!r} changed: {state}"
                        shown = tuple(_evidence(one)[0] for one in records)
                        yield Difference(kind, program, expected, "none", shown, rule.id)


def _by_another_link(records: Sequence[Record], path: str) -> bool:
    """Whether a file has several links, and the program used it by none of this path."""
    seen = [one for record in records if record.call != "look" for one in record.seen]
    states = [record.at(0) for record in records if record.call == "look"]
    linked = any(one and one.resolved == path and one.st and one.st.nlink > 1 for one in states)
    return linked and path not in {one.resolved for one in seen}


def _silent(rule: Rule, part: int, pids: set[int], played: Played) -> str:
    """Return which answers have no match of a rule by these processes: on, off, both, or none."""
    silent = [
        name
        for name, answer in (("on", played.on), ("off", played.off))
        if not any(
            (match["rule"], match.get("part", 0)) == (rule.id, part) and match["process"]["pid"] in pids
            for match in answer
        )
    ]
    return "both" if len(silent) == 2 else "".join(silent)


def _how(records: Sequence[Record], shown: set[str], path: str) -> str:
    """Return how a program changed the object of a path; `shown` has all its paths in the world."""
    calls = {one.call for one in records if one.ret >= 0}
    for record in records:
        if "rename" not in record.call or record.ret < 0:
            continue
        moved = [f"{seen.resolved}/" for seen in record.seen if seen.resolved]  # an exchange moves both
        if any(one.startswith(above) for one in shown for above in moved):
            return "ancestor-renamed"
    if "open_tree" in calls:
        return "detached"
    named = {seen.resolved for one in records if one.call != "look" and one.ret >= 0 for seen in one.seen}
    return "other-mount" if named & (shown - {path}) else "other"


def _changed(records: Sequence[Record], about: _About) -> Iterator[tuple[str, str]]:
    """Return paths whose state differs between the first and the last probe of a program."""
    states: dict[str, list[Stat | None]] = defaultdict(list)
    for record in records:
        seen = record.at(0) if record.call == "look" else None
        if seen and seen.resolved == text(record.words[1]):
            states[seen.resolved].append(seen.st)
    for path, some in states.items():
        renumbered = about.place(path) in _RENUMBERED
        first, last = (_content(one, renumbered=renumbered) for one in (some[0], some[-1]))
        if len(some) > 1 and first != last:
            yield path, f"{first} -> {last}"


# A file gets another inode number here when the cache of inodes is dropped (`iunique()` in fs/fat/inode.c).
_RENUMBERED = frozenset({"vfat"})


def _content(st: Stat | None, *, renumbered: bool) -> tuple[int, ...] | None:
    """Return the part of a state that a change changes; entries of a directory are other objects."""
    if st is None:
        return None
    size, mtime = (0, 0) if stat.S_ISDIR(st.mode) else (st.size, st.mtime)
    return 0 if renumbered else st.ino, st.mode, st.uid, st.gid, size, mtime


def _wants(rule: Rule, path: str) -> bool:
    """Return whether a rule of fim.write matches every change of this path."""
    for kind in WRITES:
        fields: dict[str, Any] = {
            f"{kind}.file.path": path,
            f"{kind}.file.name": path.rpartition("/")[2],
            f"{kind}.retval": 0,
        }
        if kind == "open":
            fields["open.flags"] = 1
        if kind in ("rename", "link"):
            fields |= {f"{kind}.file.destination.path": "/", f"{kind}.file.destination.name": ""}
        if matches(rule.expression, fields) is not True:
            return False
    return True


_EQUATIONS = (
    ("seen", ("approver_rejected", "discarded", "submitted", "ring_full", "oversize")),
    ("submitted", ("delivered", "read_errors")),
    ("delivered", ("matched", "unmatched")),
)


def _ledger(played: Played) -> Iterator[Difference]:
    """The equations of each ledger hold for each type, and the agent with filters lost nothing."""
    ledgers = (("on", played.ledger_on), ("off", played.ledger_off))
    for name, ledger in ledgers:
        for kind, row in ledger.items():
            for left, parts in _EQUATIONS:
                right = sum(row[part] for part in parts)
                if row[left] != right:
                    words = f"{left} = {' + '.join(parts)}"
                    yield Difference(
                        Kind("ledger", name, kind, detail=left), "", words, f"{row[left]}: {dict(row)}"
                    )
    if played.lost:
        rows = [
            f"{kind}: {dict(row)}"
            for kind, row in played.ledger_on.items()
            if any(row[part] for part in ("ring_full", "oversize", "program_misses", "read_errors"))
        ]
        yield Difference(Kind("lost"), "", "lost 0", f"lost {played.lost}", tuple(rows))
