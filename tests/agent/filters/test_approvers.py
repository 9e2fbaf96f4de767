"""The approvers that are derived from rules, and the reasons why there are none."""

from __future__ import annotations

import os

import pytest

from agent.cli import main
from agent.commands.explain import explain
from agent.events.model import Event, EventType, File, FileFlags
from agent.filters import approvers
from agent.filters.approvers import Approvers, Mode, derive
from agent.filters.model import approves
from agent.rules.load import load
from tests import ROOT
from tests.agent.rules.samples import ruleset

DEFAULT = ROOT / "agent/policies/default.yaml"
OPEN = EventType.OPEN
UNSURE = (FileFlags.TRUNCATED, FileFlags.AS_GIVEN, FileFlags.DETACHED, FileFlags.DELETED)
WRITES = "open.flags & (O_WRONLY|O_RDWR) > 0"


def of(*expressions: str, kind: EventType = OPEN) -> Approvers:
    return derive(ruleset(*expressions))[kind]


def shape(found: Approvers) -> dict[str, object]:
    """The non-empty parts of a filter."""
    held = {name: getattr(found, name) for name in found.__slots__ if name not in ("mode", "reasons")}
    return {
        name: set(value) if isinstance(value, frozenset) else value for name, value in held.items() if value
    }


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('open.file.path == "/etc/passwd"', {"paths": {b"/etc/passwd"}}),
        ('open.file.path in ["/a/b", ~"/etc/**"]', {"paths": {b"/a/b"}, "prefixes": {b"/etc"}}),
        ('open.file.path =~ "/etc/*"', {"prefixes": {b"/etc"}}),
        ('open.file.path =~ "/etc/cron.*/**"', {"prefixes": {b"/etc"}}),
        ('open.file.path =~ "/usr/lib/x/y/*.so"', {"prefixes": {b"/usr/lib/x/y"}}),
        ('open.file.path =~ "/home/*/.ssh/id"', {"basenames": {b"id"}}),
        ('open.file.path =~ "**/passwd"', {"basenames": {b"passwd"}}),
        ('open.file.path =~ r"^/etc/ssh/.*key"', {"prefixes": {b"/etc/ssh"}}),
        ('open.file.name in ["a", "b"]', {"basenames": {b"a", b"b"}}),
        (WRITES, {"flags_any": 3}),
        ("open.flags & O_CREAT != 0", {"flags_any": os.O_CREAT}),
        ("open.flags & (O_CREAT|O_EXCL) == O_CREAT|O_EXCL", {"flags_any": os.O_CREAT}),
        ("open.flags & O_ACCMODE == O_RDONLY", {"rdonly": True}),
        ("open.flags == O_RDONLY", {"rdonly": True}),
        ("!(open.flags & (O_WRONLY|O_RDWR) > 0)", {"rdonly": True}),
        ("open.flags & O_ACCMODE in [O_RDONLY, O_RDWR]", {"rdonly": True, "flags_any": 2}),
        ("open.flags & O_ACCMODE < 4", {"rdonly": True, "flags_any": 3}),
        ('process.uid in [0, 33] && open.file.path != "/x"', {"uids": {0, 33}}),
        ('process.auid == 1000 && open.file.path != "/x"', {"auids": {1000}}),
        ("open.file.in_upper_layer", {"upper_layer": True}),
        (f'open.file.path == "/a" && {WRITES}', {"paths": {b"/a"}, "write_paths": {b"/a"}}),
        (
            f'(open.file.path =~ "/a/**" || open.file.name == "b") && ({WRITES} && process.uid == 0)',
            {"prefixes": {b"/a"}, "write_prefixes": {b"/a"}, "basenames": {b"b"}, "write_basenames": {b"b"}},
        ),
        (f'open.file.path == "/a" || {WRITES}', {"paths": {b"/a"}, "flags_any": 3}),
        ('!(open.file.path != "/a" || process.uid == 0)', {"paths": {b"/a"}}),
        ('open.file.path == "/a" && process.file.path == "/b" && container.id != ""', {"paths": {b"/a"}}),
        ("open.flags & 0 > 0", {}),
        ('open.file.path in [] && process.comm == "x"', {}),
        ("process.uid == -1 && open.flags != 7", {}),
    ],
)
def test_the_approvers_of_a_rule(expression: str, expected: dict[str, object]) -> None:
    found = of(expression)
    assert (found.mode, shape(found)) == (Mode.APPROVE if expected else Mode.REJECT_ALL, expected)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ('open.file.path != "/etc/passwd"', "tests what open.file.path is not"),
        ('open.file.path == "/a" || process.comm == "x"', "does not know process.comm"),
        ('open.file.path =~ "*"', "fixes no directory or file name"),
        ('open.file.path =~ r"conf"', "`conf`, which fixes no"),
        ('open.file.name =~ "x*"', "compared with a pattern"),
        ("open.flags & O_CREAT == 0", "flags that are not set"),
        ("open.flags & O_ACCMODE == 0 || open.flags & O_CREAT == 0", "flags that are not set"),
        ("open.flags > 5", "not compared with single flags"),
        ("process.uid >= 1000 && open.flags != 7", "not compared with single values"),
        ("!open.file.in_upper_layer", "tests what open.file.in_upper_layer is not"),
        ('open.file.path == "/proc/${process.pid}/mem"', "is not a constant"),
        ('open.file.path in ["/", "/a"]', "compared with /, an empty path"),
        ('open.file.name == ""', "compared with an empty name"),
        ("open.retval == EACCES", "does not know open.retval"),
        ("open.flags == 1 || true", "always true"),
    ],
)
def test_why_a_rule_has_no_approvers(expression: str, reason: str) -> None:
    """One rule without approvers makes its type forward everything, and is named."""
    found = of('open.file.path == "/fine"', expression)
    assert found.mode is Mode.FORWARD_ALL
    assert [refusal.rule for refusal in found.refusals] == ["r1"]
    assert reason in found.refusals[0].refusal


def test_event_types_are_independent() -> None:
    found = derive(ruleset('open.file.path == "/a"', 'unlink.file.path != "/b"'))
    modes = {kind: found[kind].mode for kind in (OPEN, EventType.UNLINK, EventType.MKDIR)}
    assert list(modes.values()) == [Mode.APPROVE, Mode.FORWARD_ALL, Mode.REJECT_ALL]


def test_approvers_are_derived_once_for_each_rule_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start asks twice. What a caller does with its answer changes no other one."""
    rules = ruleset('open.file.name == "passwd"')
    first = derive(rules)
    monkeypatch.setattr(approvers, "_derive", lambda _: pytest.fail("derived again"))
    first[EventType.OPEN] = Approvers(Mode.FORWARD_ALL)
    assert derive(rules)[EventType.OPEN].basenames == {b"passwd"}
    monkeypatch.undo()
    assert derive(ruleset('open.file.name == "shadow"'))[EventType.OPEN].basenames == {b"shadow"}


def test_a_value_needed_for_reads_too_is_no_write_value() -> None:
    found = of(f'open.file.path == "/a" && {WRITES}', 'open.file.path == "/a"')
    assert shape(found) == {"paths": {b"/a"}}


@pytest.mark.parametrize("flags", UNSURE)
def test_uncertain_paths_pass(flags: FileFlags) -> None:
    """If paths count, an event with an uncertain path passes; for rules on writing, only if it writes."""
    event = Event(OPEN, file=File(b"/nowhere", flags=flags))
    written = of(f'open.file.path == "/a" && {WRITES}')
    assert approves(of('open.file.path == "/a"'), event)
    assert not approves(written, event)
    assert not approves(of(WRITES), event)
    event.flags = os.O_WRONLY
    assert approves(written, event)


def test_the_second_file_can_approve() -> None:
    rules = ('rename.file.destination.path =~ "/etc/**"', 'rename.file.name == "x"')
    found = of(*rules, kind=EventType.RENAME)
    assert approves(found, Event(EventType.RENAME, file=File(b"/tmp/a"), file2=File(b"/etc/a")))
    assert approves(found, Event(EventType.RENAME, file=File(b"/x"), file2=File(b"/b")))
    assert not approves(found, Event(EventType.RENAME, file=File(b"/tmp/a"), file2=File(b"/tmp/b")))


def install(files: int) -> list[Event]:
    """The events of a package's installation: its data, and the other files of dpkg."""
    events: list[Event] = []
    for number in range(files):
        top = (
            b"/usr/share/doc/p",
            b"/usr/share/man/man1",
            b"/usr/lib/p",
            b"/usr/share/locale/de",
            b"/usr/include/p",
        )
        path = top[number % 5] + b"/f%d" % number
        path = b"/usr/bin/p" if number == 0 else path
        new = path + b".dpkg-new"
        events.append(Event(OPEN, flags=os.O_WRONLY | os.O_CREAT, file=File(new)))
        events += [
            Event(kind, file=File(new)) for kind in (EventType.CLOSE, EventType.CHOWN, EventType.CHMOD)
        ]
        events.append(Event(EventType.UTIMES, file=File(new)))
        events.append(Event(EventType.RENAME, file=File(new), file2=File(path)))
        events.append(Event(OPEN, flags=os.O_RDWR, file=File(b"/var/lib/dpkg/tmp.ci/f%d" % number)))
        events += [Event(OPEN, file=File(b"/etc/passwd")), Event(OPEN, file=File(b"/usr/bin/dpkg"))]
        events.append(Event(OPEN, file=File(b"x%d" % number, flags=FileFlags.AS_GIVEN), retval=-2))
    return events


def test_default_policy_keeps_noise_in_the_kernel() -> None:
    """At least 94 % of the events of an installation stay in the kernel; those of its program do not."""
    filters = derive(load([DEFAULT]))
    events = install(200)
    passed = [event for event in events if approves(filters[event.type], event)]
    assert len(passed) < len(events) * 0.06
    assert {event.type for event in passed} >= {OPEN, EventType.RENAME, EventType.CHMOD}


def test_default_policy_forwards_all_of_rare_events_only() -> None:
    filters = derive(load([DEFAULT]))
    assert [kind for kind, found in filters.items() if found.mode is Mode.FORWARD_ALL] == [EventType.SETXATTR]
    assert not filters[OPEN].looks_at_paths_of_reads


def test_explanation() -> None:
    rules = (
        f'open.file.path == "/etc/passwd" && {WRITES}',
        'open.file.path =~ "/etc/ssh/**"',
        "unlink.retval < 0",
        'mkdir.file.name == "a" && mkdir.file.name == "b" && 1 == 2',
    )
    text = "\n".join(explain(ruleset(*rules)))
    head = "open: the kernel forwards events that match one of\n"
    assert f"{head}    paths: /etc/passwd\n    below: /etc/ssh\n" in text
    assert "  r0: 1 path, of opens that write\n  r1: 1 directory\n" in text
    assert "unlink: the kernel forwards EVERYTHING, because of r2\n" in text
    assert "  r2: no approver: the kernel does not know unlink.retval\n" in text
    assert "mkdir: the kernel forwards nothing\n  r3: can never match\n" in text
    assert max(map(len, text.splitlines())) <= 79


def test_explanation_ends_with_the_notes() -> None:
    """They are wrapped like all lines."""
    rules = ruleset("open.flags == 0")
    rules.notes = ("r.yaml:2: rule `a` names /bin/sh, which leads through the symbolic link /bin -> usr/bin",)
    assert list(explain(rules))[-2:] == [
        "note: r.yaml:2: rule `a` names /bin/sh, which leads through the symbolic link",
        "    /bin -> usr/bin",
    ]


def test_explanation_of_the_default_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """Every rule is named, and no line is wider than a terminal."""
    assert main(["explain", str(DEFAULT)]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}: " in text for name in load([DEFAULT]).rules)
    assert max(map(len, text.splitlines())) <= 79
    assert "setxattr: the kernel forwards EVERYTHING, because of file_capabilities" in text


def test_names_in_explanations_cannot_control_a_terminal() -> None:
    text = "\n".join(explain(ruleset('open.file.path == "/a\\x1b[2J\\xff"', 'open.file.path =~ "*\\x1b*"')))
    assert "r1: no approver" in text
    assert all(char.isprintable() or char == "\n" for char in text)
