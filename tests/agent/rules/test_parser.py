"""Expressions: what the parser accepts, what it refuses, and the place of each error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.rules import literals, syntax
from agent.rules.builder import ParseError
from agent.rules.parser import MAX_DEPTH, MAX_LENGTH, parse
from agent.rules.syntax import (
    Binary,
    Group,
    Logic,
    Name,
    Node,
    Number,
    Sequence,
    Text,
    Unary,
    Variable,
    unparse,
)


def bare(node: Node) -> object:
    """Return a tree without positions and parentheses."""
    if isinstance(node, Group):
        return bare(node.inner)
    return (type(node).__name__, *(bare_value(value) for value in node[2:]))


def bare_value(value: object) -> object:
    if isinstance(value, Name | Text | Number | Variable | Sequence | Group | Unary | Binary | Logic):
        return bare(value)
    if isinstance(value, tuple):
        return tuple(bare_value(item) for item in value)
    return value


names = st.sampled_from(
    ["open.file.path", "process.ancestors.file.name", "O_CREAT", "notify.in", "order.by", "r.x", "android"]
)
texts = st.one_of(
    st.binary(max_size=8).map(lambda value: Text(0, 0, "string", value)),
    st.sampled_from([b"/etc/*", b"**", b"a\\.b", b'"', b"\xff"]).flatmap(
        lambda value: st.sampled_from(["glob", "regex"]).map(lambda kind: Text(0, 0, kind, value))
    ),
)
atoms = st.one_of(
    names.map(lambda name: Name(0, 0, name)),
    st.integers(0, 2**40).map(lambda value: Number(0, 0, value)),
    st.just(Variable(0, 0, "process.pid")),
    texts,
)
lists = st.lists(atoms, max_size=3).map(lambda items: Sequence(0, 0, tuple(items)))


def grouped(node: Node) -> Node:
    return Group(0, 0, node)


def arithmetic(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    operators = st.sampled_from(["+", "-", "&", "|", "^"])
    return st.one_of(
        st.builds(lambda op, a, b: grouped(Binary(0, 0, op, a, b)), operators, inner, inner),
        st.builds(lambda op, a: Unary(0, 0, op, a), st.sampled_from(["-", "^"]), inner),
    )


values: st.SearchStrategy[Node] = st.recursive(atoms, arithmetic, max_leaves=4)
comparisons: st.SearchStrategy[Node] = st.one_of(
    st.builds(
        lambda op, a, b: Binary(0, 0, op, a, b),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "=~", "!~"]),
        values,
        values,
    ),
    st.builds(lambda op, a, b: Binary(0, 0, op, a, b), st.sampled_from(["in", "not in"]), values, lists),
)


def logic(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(inner.map(grouped), min_size=2, max_size=3)
    return st.one_of(
        st.builds(lambda op, items: Logic(0, 0, op, tuple(items)), st.sampled_from(["&&", "||"]), some),
        inner.map(lambda node: Unary(0, 0, "!", grouped(node))),
    )


expressions: st.SearchStrategy[Node] = st.recursive(comparisons, logic, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_a_printed_tree_parses_to_the_same_tree(tree: Node) -> None:
    """Except for positions and parentheses."""
    assert bare(parse(unparse(tree))) == bare(tree)


def refusal(text: str) -> ParseError | None:
    try:
        parse(text)
    except ParseError as error:
        return error
    return None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='()[]"~r&|!=<>,.$ {}ab1', max_size=60))
def test_any_text_parses_or_is_an_error_with_a_place(text: str) -> None:
    error = refusal(text)
    assert error is None or (0 <= error.at <= len(text) and error.message)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a == 1 and b == 2 or false", None),
        ("a == 1 or b == 2 and c == 3", "a == 1 || (b == 2 && c == 3)"),
        ("not a == 1", "!(a == 1)"),
        ("!a in [1] && b == 1", "(!(a in [1])) && (b == 1)"),
        ("a & b > 0", "(a & b) > 0"),
        ("a - 1 - 2 == 0", "((a - 1) - 2) == 0"),
        ("a == 0x1F", "a == 31"),
        ("a == 0755", "a == 493"),
        ("a == 1h30m", "a == 5400000000000"),
        ("a == 1 // remark", "a == 1"),
        ("a == 1 # remark", "a == 1"),
    ],
)
def test_precedence_and_spelling(text: str, same: str | None) -> None:
    if same is None:
        with pytest.raises(ParseError):
            parse(text)
    else:
        assert bare(parse(text)) == bare(parse(same))


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 0, "ends here"),
        ("a ==", 4, "ends here, expected a field"),
        ("a = 1", 2, "unexpected character ="),
        ("a == 'x'", 5, "unexpected character '"),
        ('a == "x', 5, "quote is not closed"),
        ("a == 09", 5, "invalid number"),
        ('a == "\\q"', 6, "unknown escape"),
        ("(a == 1", 7, "expected `)`"),
        ("a == 1)", 6, "unexpected `)`"),
        ("a & b | c == 1", 6, "without parentheses are ambiguous"),
        ("a == 1 && b == 2 || c == 3", 17, "Datadog"),
        ("a allin [1]", 2, "`allin`"),
        ("a in [10.0.0.0/8]", 6, "network addresses"),
        ("a == \x1b", 5, "U+001B"),
    ],
)
def test_errors_point_at_the_place(text: str, at: int, words: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert (caught.value.at, words in caught.value.message) == (at, True)


@pytest.mark.parametrize(
    "text",
    [
        "a" * (MAX_LENGTH + 1),
        "(" * MAX_LENGTH,
        "(" * 5000 + "a" + ")" * 5000,
        "!" * 10_000 + "a",
        "-" * 10_000 + "a == 1",
        "[" * 300 + "1" + "]" * 300,
        "a == " + "(" * (MAX_DEPTH + 2) + "1" + ")" * (MAX_DEPTH + 2),
    ],
    ids=["long", "open", "parentheses", "nots", "minuses", "lists", "just too deep"],
)
def test_hostile_expressions_are_refused(text: str) -> None:
    """They exhaust neither stack nor time."""
    with pytest.raises(ParseError):
        parse(text)


def test_long_chains_are_not_deep() -> None:
    tree = parse(" && ".join(["a == 1"] * 1000))
    assert isinstance(tree, Logic)
    assert len(tree.items) == 1000


@given(st.binary(max_size=40))
def test_strings_hold_any_bytes(value: bytes) -> None:
    assert literals.string(syntax.quote(value)) == value


def test_durations() -> None:
    assert [literals.duration(text) for text in ("10s", "1h30m", "5ms", "x", "10")] == [
        10 * 10**9,
        5400 * 10**9,
        5 * 10**6,
        0,
        0,
    ]
