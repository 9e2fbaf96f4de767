"""The discarders that are learned from an event that matched no rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.model import Event, EventType, File, FileFlags
from agent.filters.discarders import MAX_CACHED, Discard, Known, Learner, learn
from agent.rules.tree import decide
from tests.agent.filters.expressions import of_kind
from tests.agent.rules.samples import ruleset

OPEN, UNLINK, RENAME, LINK = EventType.OPEN, EventType.UNLINK, EventType.RENAME, EventType.LINK
PROCESS = EventType.EXEC.mask | EventType.FORK.mask | EventType.EXIT.mask


def event(at: bytes, **other: object) -> Event:
    identities = tuple(
        number if level <= at.count(b"/") else 0 for level, number in enumerate((50, 40, 39, 38))
    )
    file = File(at, inode=50, nlink=1, identities=identities)
    for name, value in other.items():
        setattr(file, name, value)
    return Event(OPEN, file=file)


def levels(found: tuple[Discard, ...], kind: EventType) -> set[int]:
    """The levels at which events of a type are discarded."""
    return {discard.level for discard in found if discard.types & kind.mask}


@pytest.mark.parametrize(
    ("expression", "path", "expected"),
    [
        ('open.file.path =~ "/etc/**"', b"/usr/share/doc/x", {0, 1, 2, 3}),
        ('open.file.path == "/usr/share/doc/x"', b"/usr/share/doc/y", {0}),
        ('open.file.path == "/usr/share/x"', b"/usr/share/doc/y", {0, 1, 2, 3}),
        ('open.file.path =~ "/usr/**/x"', b"/usr/share/doc/y", {0}),
        ('open.file.path =~ "/usr/share/*/x"', b"/usr/share/doc/y", {0}),
        ('open.file.path =~ "/usr/*"', b"/usr/share/doc/y", {0, 1, 2, 3}),
        ('open.file.name == "x"', b"/usr/share/doc/y", {0}),
        ('open.file.name != "x"', b"/usr/share/doc/x", {0}),
        ("open.flags > 0", b"/usr/share/doc/y", set()),
        ('open.file.path !~ "/usr/share/**"', b"/usr/share/doc/y", {0, 1, 2}),
        ('open.file.path =~ "/etc/**" && process.uid == 0', b"/a/b", {0, 1}),
        ('open.file.path =~ "/etc/**" || process.uid == 0', b"/a/b", set()),
        ('open.file.path =~ "/etc/**"', b"/b", {0}),
        ('open.file.path =~ r"^/etc/"', b"/usr/share/doc/y", {0, 1, 2, 3}),
        ('open.file.path =~ r"etc"', b"/usr/share/doc/y", {0}),
        ('open.file.path == "/etc/${process.pid}"', b"/usr/share/doc/y", set()),
    ],
)
def test_levels(expression: str, path: bytes, expected: set[int]) -> None:
    """A directory one to three levels up, or the file itself; never `/`."""
    assert levels(learn(ruleset(expression), event(path)), OPEN) == expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, {0, 1, 2}),
        ({"nlink": 2}, {1, 2}),
        ({"nlink": 0}, {1, 2}),
        ({"identities": (0, 40, 39, 38)}, {1, 2}),
        ({"identities": (50, 40, 0, 0)}, {0, 1}),
        ({"identities": (50, 0, 0, 0)}, {0}),
        ({"identities": (0, 0, 0, 0)}, set()),
        ({"flags": FileFlags.TRUNCATED}, set()),
        ({"flags": FileFlags.AS_GIVEN}, set()),
        ({"flags": FileFlags.DETACHED}, set()),
        ({"flags": FileFlags.DELETED}, set()),
        ({"nlink": 2, "mode": 0o40755}, {0, 1, 2}),
        ({"flags": FileFlags.UPPER | FileFlags.CREATED}, {0, 1, 2}),
        ({"path": b"relative/a/b"}, set()),
        ({"path": b""}, set()),
    ],
)
def test_what_is_not_discarded(other: dict[str, object], expected: set[int]) -> None:
    """A file with several names, without identity, with a mount between, or with an uncertain path."""
    assert levels(learn(ruleset('open.file.path =~ "/etc/**"'), event(b"/a/b/c", **other)), OPEN) == expected


def test_event_types_are_independent() -> None:
    found = learn(ruleset('open.file.path =~ "/etc/**"', "unlink.retval < 0"), event(b"/a/b/c"))
    assert levels(found, OPEN) == {0, 1, 2}
    assert levels(found, UNLINK) == set()
    assert levels(found, EventType.MKDIR) == {0, 1, 2}  # no rules, no matches


def test_processes_are_never_discarded() -> None:
    """The context needs every exec, fork and exit."""
    assert all(not discard.types & PROCESS for discard in learn(ruleset("open.flags == 1"), event(b"/a/b/c")))
    started = event(b"/usr/bin/ls")
    started.type = EventType.EXEC
    assert learn(ruleset("open.flags == 1"), started) == ()


@pytest.mark.parametrize("kind", [RENAME, LINK])
def test_moves_out_of_discarded_directories_are_seen(kind: EventType) -> None:
    """If a rule is on either file, no directory of the other is discarded, because a move may end there."""
    for slot in ("file", "file.destination"):
        found = learn(ruleset(f'{kind.label}.{slot}.path =~ "/etc/**"'), event(b"/tmp/a/b"))
        assert levels(found, kind) == set()
    both = f'{kind.label}.file.path =~ "/etc/**" && {kind.label}.file.destination.path =~ "/etc/**"'
    assert levels(learn(ruleset(both), event(b"/tmp/a/b")), kind) == {0, 1, 2}


def test_the_same_operands_of_an_and_and_an_or_are_two_conditions() -> None:
    """A proof for the `&&` of two comparisons, which never holds here, is none for the `||` of them."""
    first, second = (f'open.file.path =~ "/a/{name}/**"' for name in "bc")
    both = f'open.retval == 0 && open.file.name == "x" && ({first} && {second})'
    either = f'open.retval == 0 && open.file.name == "x" && ({first} || {second})'
    for rules in ((both, either), (either, both), (f"({first} && {second}) || ({first} || {second})",)):
        assert levels(learn(ruleset(*rules), event(b"/a/b/y")), OPEN) <= {0}


def test_the_number_of_stored_directories_is_bounded() -> None:
    learner = Learner(ruleset('open.file.path =~ "/etc/**"'))
    for number in range(MAX_CACHED + 10):
        learner.learn(event(b"/a%d/b" % number))
    assert len(learner._directories) <= MAX_CACHED


names = st.sampled_from([b"a", b"b", b"c", b"passwd", b"x.conf"])
some_paths = st.lists(names, min_size=1, max_size=5).map(lambda parts: b"/" + b"/".join(parts))


@settings(max_examples=300, deadline=None)
@given(of_kind("open"), some_paths, st.integers(0, 3), st.integers(0, 2**32))
def test_proofs_are_sound(expression: str, path: bytes, depth: int, seed: int) -> None:
    """A condition that a path or directory alone decides has that value for any event there."""
    rules = ruleset(expression)
    if path.count(b"/") < depth:
        return
    known = Known("file", path.rsplit(b"/", depth)[0] if depth else path, depth)
    for rule in rules.by_type[OPEN]:
        verdict = decide(rule.condition, known.ask)
        opened = Event(
            OPEN,
            uid=seed % 3 * 500,
            flags=seed % 4096,
            retval=-(seed % 2),
            file=File(path, mode=seed % 65536),
        )
        if verdict is not None:
            assert verdict == (rules.evaluate(opened) == ["r0"])
