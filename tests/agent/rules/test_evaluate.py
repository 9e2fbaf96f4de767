"""Evaluation of expressions: every operator, every kind of field, and rules never become code."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.actors import NOTHING, Context
from agent.events.model import Event, EventType, File, FileFlags
from agent.rules import evaluate, fields, tree
from agent.rules.patterns import Matcher
from tests.agent.rules.samples import CONTEXT, holds, opened, ruleset

WRITE = 0o102  # O_CREAT | O_RDWR
A = File(b"/a", mode=0o644)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('open.file.path == "/etc/passwd"', True),
        ('open.file.path != "/etc/passwd"', False),
        ('open.file.path == ~"/etc/*"', True),
        ('open.file.path =~ "/etc/*"', True),
        ('open.file.path !~ "/e*"', True),
        ('open.file.path in ["/a", ~"/etc/**"]', True),
        ('open.file.path not in ["/a", r"^/etc/p"]', False),
        ("open.file.path in []", False),
        ('open.file.path =~ "*/passwd"', True),
        ('open.file.name == "passwd"', True),
        ('open.file.name =~ "pass*"', True),
        ("open.file.name.length == 6", True),
        ('open.file.extension == ""', True),
        ("open.flags & (O_WRONLY|O_RDWR) > 0", True),
        ("open.flags & O_TRUNC > 0", False),
        ("open.flags & ^O_CREAT == O_RDWR", True),
        ("open.flags in [O_RDWR, 0o102]", True),
        ("3 < open.flags && 1000 >= open.flags", True),
        ("open.flags + 1 == 0x43", True),
        ("open.flags - 1 == -1 + 0x42", True),
        ("open.retval == EACCES", False),
        ("open.retval == -13 || open.retval >= 0", True),
        ("open.file.mode & S_IFMT == S_IFREG", True),
        ("open.file.rights == 0644", True),
        ("open.file.in_upper_layer", False),
        ("!open.file.in_upper_layer", True),
        ("open.file.in_lower_layer == true", True),
        ("open.file.in_lower_layer != open.file.in_upper_layer", True),
        ('(open.file.name in ["a"]) == (process.user == process.group)', True),
        ('("${process.user}" == "anna") != open.file.in_upper_layer && open.retval >= 0', True),
        ('open.file.name !~ "${"', True),
        ("open.retval != EWOULDBLOCK && open.retval != ENOTSUP && open.retval != SIGPOLL", True),
        ('open.file.path == "/etc/passwd" && process.uid == 1000', True),
        ('open.file.path != "" && process.uid != 1000', False),
        ('open.file.path != "" && process.file.path == "/usr/bin/ls"', True),
        ('open.file.path != "" && process.file.name in ["ls", "cat"]', True),
        ('open.file.path != "" && process.args =~ "*--sort=*"', True),
        ('open.file.path != "" && process.argv == "/tmp"', True),
        ('open.file.path != "" && process.argv0 == "ls"', True),
        ('open.file.path != "" && process.args_flags in ["n"]', True),
        ('open.file.path != "" && process.args_flags == "all"', True),
        ('open.file.path != "" && process.args_options == "sort=size"', True),
        ('open.file.path != "" && process.args_options in [~"T=*"]', True),
        ('open.file.path != "" && process.user == "anna"', True),
        ('open.file.path != "" && process.ancestors.file.name == "systemd"', True),
        ('open.file.path != "" && process.ancestors.file.name != "systemd"', False),
        ('open.file.path != "" && process.ancestors.file.name not in ["bash"]', True),
        ('open.file.path != "" && process.ancestors.pid > 5', True),
        ('open.file.path != "" && process.ancestors.argv == "-c"', True),
        ('open.file.path != "" && process.ancestors.length == 2', True),
        ('open.file.path != "" && process.parent.file.path == "/usr/bin/dash"', True),
        ('open.file.path != "" && container.id != "" && container.runtime == "podman"', True),
        ('open.file.path == "/etc/${process.user}" || open.file.name == "passwd"', True),
        ('open.file.path == "/proc/${process.pid}/maps"', False),
        ("open.file.path == ${process.file.path}", False),
        ("open.file.uid == ${process.uid}", False),
        ('open.file.path in ["/x", "/etc/pass${process.ppid}"]', False),
        ("open.flags > 0 && true", True),
        ("open.flags > 0 && (false || 1 == 2)", False),
    ],
)
def test_operators(expression: str, expected: bool) -> None:
    event = opened(flags=WRITE)
    assert holds(expression, event) is expected
    assert holds(f"open.retval > -1 && !({expression})", event) is not expected


def test_templates_take_values_of_the_event() -> None:
    assert holds('open.file.path == "/proc/${process.pid}/${process.user}"', opened(b"/proc/42/anna"))


def test_paths_with_any_byte() -> None:
    path = b"/tmp/\xff\n\"'\\{}"
    assert holds('open.file.path == "/tmp/\\xff\\n\\"\\x27\\\\{}"', opened(path))


@pytest.mark.parametrize(
    ("expression", "event"),
    [
        (
            'rename.file.destination.path == "/b" && rename.file.path == "/a"',
            Event(EventType.RENAME, file=File(b"/a"), file2=File(b"/b")),
        ),
        ('link.file.destination.name == ""', Event(EventType.LINK, file=A)),
        ("chmod.file.destination.mode != chmod.file.mode", Event(EventType.CHMOD, mode=0o755, file=A)),
        ("chmod.file.destination.rights & S_ISUID > 0", Event(EventType.CHMOD, mode=0o104755, file=A)),
        ("chown.file.destination.uid != chown.file.uid", Event(EventType.CHOWN, new_uid=5, file=A)),
        (
            'setxattr.file.destination.namespace == "security"',
            Event(EventType.SETXATTR, name=b"security.capability"),
        ),
        ('symlink.target == "/etc/shadow"', Event(EventType.SYMLINK, name=b"/etc/shadow")),
        (
            'mount.fs_type == "tmpfs" && mount.mountpoint.path == "/a"',
            Event(EventType.MOUNT, name=b"tmpfs", file=A),
        ),
        ("umount.flags & MNT_DETACH > 0", Event(EventType.UMOUNT, flags=2)),
        ("exit.cause == SIGNALED && exit.code == SIGKILL", Event(EventType.EXIT, exit_code=9)),
        ("exit.cause == EXITED && exit.code == 3", Event(EventType.EXIT, exit_code=3 << 8)),
        ("exit.cause == COREDUMPED", Event(EventType.EXIT, exit_code=0x8B)),
        (
            'exec.args =~ "*needle*" || exec.args_truncated',
            Event(EventType.EXEC, args=(b"env", b"A=x"), args_truncated=True),
        ),
        (
            "!(exec.args_truncated || process.args_truncated || process.ancestors.args_truncated)",
            Event(EventType.EXEC),
        ),
        (
            'exec.argv in ["-x"] && exec.args == "-x y" && exec.argv0 == "a"',
            Event(EventType.EXEC, args=(b"a", b"-x", b"y")),
        ),
        ("fork.uid == 0", Event(EventType.FORK)),
        (
            "unlink.flags & AT_REMOVEDIR == 0 && unlink.retval == ENOENT",
            Event(EventType.UNLINK, retval=-2),
        ),
        (
            "truncate.file.truncated",
            Event(EventType.TRUNCATE, file=File(b"/a", flags=FileFlags.TRUNCATED)),
        ),
        ('close.file.path =~ "/a/**"', Event(EventType.CLOSE, file=File(b"/a/b"))),
    ],
)
def test_events(expression: str, event: Event) -> None:
    assert holds(expression, event)


def test_all_writes() -> None:
    """`fim.write` is a rule for each event that changes a file, and for either file of events with two."""
    rules = ruleset('fim.write.file.path == "/etc/passwd"')
    assert {kind for kind, found in rules.by_type.items() if found} == set(fields.WRITES)
    assert rules.evaluate(opened(flags=0)) == []
    assert rules.evaluate(opened(flags=WRITE)) == ["r0"]
    assert rules.evaluate(Event(EventType.RENAME, file=File(b"/x"), file2=File(b"/etc/passwd"))) == ["r0"]
    assert rules.evaluate(Event(EventType.LINK, file=File(b"/etc/passwd"), file2=File(b"/x"))) == ["r0"]


def test_an_unknown_process_has_no_user() -> None:
    """Without context the process has no user, and is never root."""
    assert not holds('open.file.path != "" && process.parent.uid == 0', opened(), Context())
    assert ruleset('open.file.path != "" && process.file.path == ""').evaluate(opened()) == ["r0"]


def test_order_and_index() -> None:
    rules = ruleset('open.file.path != ""', 'unlink.file.path != ""', "open.flags == 0", "open.flags == 1")
    assert rules.evaluate(opened()) == ["r0", "r2"]
    assert rules.evaluate(Event(EventType.MKDIR)) == []


def test_every_field_can_be_read() -> None:
    """Each getter in the table compiles and yields its type, with a context and without."""
    types = {fields.INT: int, fields.TEXT: bytes, fields.BOOL: bool}
    for kind in EventType:
        for field in [*fields.common().values(), *fields.of_event(kind).values()]:
            for context in (CONTEXT, NOTHING):
                event = Event(kind, args=(b"a", b"-b"), file=File(b"/a/b"))
                if field.source:
                    source = f"[{field.getter} for a in {field.source}]"
                    values = evaluate.reader(field._replace(getter=source))(event, context, {})
                    assert all(isinstance(value, types[field.type]) for value in values), field
                else:
                    value = evaluate.reader(field)(event, context, {})
                    assert isinstance(value, types[field.type]), (field, value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=30), st.integers(-(2**70), 2**70))
def test_constants_stay_constants(text: bytes, number: int) -> None:
    """No constant of a rule becomes part of the compiled source."""
    field = fields.of_event(EventType.OPEN)["open.file.name"]
    compiler = evaluate.Compiler()
    source = compiler.condition(tree.All((
        tree.Match(field, Matcher(frozenset({text}))),
        tree.Compare("==", tree.IntConst(number), tree.IntConst(number)),
        tree.FlagVariable(text.decode("latin-1")),
    )))  # fmt: skip
    names = {f"k{at}" for at in range(len(compiler.constants))}
    words = set("".join(char if char.isalnum() or char == "_" else " " for char in source).split())
    assert words <= names | {"e", "file", "name", "and", "v", "get", "False", str(abs(number))}


@pytest.mark.parametrize("text", ['x"); import os', '__import__("os")', "k1) or True or (k1"])
def test_rules_are_no_code(text: str) -> None:
    escaped = text.replace('"', '\\"')
    assert not holds(f'open.file.name == "{escaped}"', opened())
    assert not holds(f'open.file.name in ["{escaped}", ~"{escaped}*"]', opened())
