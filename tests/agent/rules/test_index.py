"""The index finds exactly the rules that match, and leaves alone those that an event cannot match."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.actors import NOTHING
from agent.events.model import Event, EventType, File
from agent.filters.discarders import LEVELS
from agent.rules import evaluate
from agent.rules.engine import Ruleset
from agent.rules.index import DIRECTORY, NAME, PATH, Index, Key, keys
from agent.rules.load import loads
from agent.rules.patterns import MAX_DEPTH, Matcher, Pattern

NAMES = ("a", "b", "conf", "")
PATHS = st.lists(st.sampled_from(NAMES[:3]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
GLOBS = st.lists(st.sampled_from(("a", "b", "*", "**", "a*", "*b")), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
FIELDS = st.sampled_from(("rename.file", "rename.file.destination"))
LEAVES = st.one_of(
    st.builds('{}.path == "{}"'.format, FIELDS, PATHS),
    st.builds('{}.path =~ "{}"'.format, FIELDS, GLOBS),
    st.builds('{}.name == "{}"'.format, FIELDS, st.sampled_from(NAMES)),
    st.builds('{}.path != "{}"'.format, FIELDS, PATHS),
    st.builds('{}.name in ["a", ~"b*"]'.format, FIELDS),
    st.builds('{}.path =~ r"^{}"'.format, FIELDS, PATHS),
    st.just("rename.retval == 0"),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner), st.builds("({} || {})".format, inner, inner)
    ),
    max_leaves=5,
)


def ruleset(expressions: Sequence[str]) -> Ruleset:
    lines = [f"  - id: r{number}\n    expression: '{text}'" for number, text in enumerate(expressions)]
    return loads("\n".join(["rules:", *lines]))


@settings(max_examples=300, deadline=None)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=6), PATHS, st.one_of(st.none(), PATHS), st.integers(-1, 0))
def test_the_same_rules_match_as_without_an_index(
    expressions: list[str], path: str, second: str | None, retval: int
) -> None:
    """In the order of the file, whatever keys the rules share."""
    rules = ruleset(expressions)
    file2 = File(second.encode()) if second else None
    event = Event(EventType.RENAME, file=File(path.encode()), file2=file2, retval=retval)
    compiled = rules.by_type[EventType.RENAME]
    plain = [rule.id for rule in compiled if evaluate.predicate(rule.condition)(event, NOTHING, {})]
    assert rules.evaluate(event) == plain
    assert rules.evaluate(event) == plain  # with what was compiled for the first


def needed(expression: str) -> set[tuple[str, str]] | None:
    (rule,) = ruleset([expression]).by_type[EventType.OPEN]
    found = keys(rule.condition)
    return None if found is None else {(key.kind, key.value.decode()) for key in found}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('open.file.path == "/etc/passwd" && open.flags == 0', {(PATH, "/etc/passwd")}),
        ('open.file.path in ["/a", ~"/srv/x/**"]', {(PATH, "/a"), (DIRECTORY, "/srv/x/")}),
        ('open.file.path =~ "/home/*/.ssh/config"', {(NAME, "config")}),
        ('open.file.path =~ "/etc/**" && open.file.name == "x"', {(NAME, "x")}),
        ('open.file.name == "x" || open.file.path == "/y"', {(NAME, "x"), (PATH, "/y")}),
        ('open.file.path =~ "/srv/app*"', {(DIRECTORY, "/srv/")}),
        ('open.file.path =~ r"^/etc/ssh/"', {(DIRECTORY, "/etc/ssh/")}),
        ('open.file.path =~ "/**"', None),
        ('open.file.name =~ "*.pem"', None),
        ('open.file.path != "/x"', None),
        ('open.file.name == "x" || open.retval == 0', None),
        ('process.file.path == "/x" && open.retval == 0', None),
    ],
)
def test_what_a_rule_needs(expression: str, wanted: set[tuple[str, str]] | None) -> None:
    assert needed(expression) == wanted


@pytest.mark.parametrize("count", [10, 4_000])
def test_an_event_without_a_match_meets_no_rule(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, none is compiled or evaluated; a match compiles its own alone."""
    compiled: list[int] = []
    judge = evaluate.judge

    def counted(conditions: list[tuple[int, object]]) -> object:
        compiled.append(len(conditions))
        return judge(conditions)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "judge", counted)
    paths = [f'open.file.path == "/srv/a{number}" && open.retval == 0' for number in range(count // 2)]
    trees = [f'open.file.path =~ "/opt/a{number}/**"' for number in range(count // 2)]
    conditions = [rule.condition for rule in ruleset([*paths, *trees]).by_type[EventType.OPEN]]
    compiled.clear()
    made = Index(conditions)
    assert made.evaluate(Event(EventType.OPEN, file=File(b"/var/lib/x/y")), NOTHING, {}) == []
    assert compiled == []
    for _ in range(2):
        found = made.evaluate(Event(EventType.OPEN, file=File(b"/opt/a3/x")), NOTHING, {})
        assert found == [count // 2 + 3]
    assert compiled == [1]


def test_keys_are_of_the_right_file() -> None:
    """A rule on a rename needs its values of either file, as an exchange has both orders."""
    for label, slots in (("link", {"file2"}), ("rename", {"file", "file2"})):
        kind = EventType[label.upper()]
        (rule,) = ruleset([f'{label}.file.destination.path == "/x"']).by_type[kind]
        found = keys(rule.condition)
        assert found is not None
        assert Key("file2", PATH, b"/x") in found
        assert {key.slot for key in found} == slots


@settings(max_examples=300, deadline=None)
@given(st.lists(GLOBS, max_size=6), st.lists(PATHS, max_size=4), PATHS, st.integers(1, LEVELS))
def test_a_large_matcher_answers_as_its_parts_do(
    globs: list[str], exact: list[str], path: str, depth: int
) -> None:
    """All, none or some of the paths below a directory; and whether a path matches."""
    patterns = tuple(Pattern("glob", glob.encode(), path=True) for glob in globs)
    whole = Matcher(frozenset(value.encode() for value in exact), patterns)
    parts = [Matcher(frozenset({value.encode()})) for value in exact]
    directory = path.encode()
    single = [part.below(directory, depth) for part in parts]
    single += [pattern.below(directory, depth) for pattern in patterns]
    wanted = True if True in single else None if None in single else False
    assert whole.below(directory, depth) is wanted
    found = [part.matches(directory) for part in parts]
    assert whole.matches(directory) == any([*found, *(pattern.matches(directory) for pattern in patterns)])


def test_the_matcher_knows_as_many_levels_as_are_asked_for() -> None:
    assert MAX_DEPTH == LEVELS
