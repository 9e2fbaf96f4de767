"""Patterns: what they match, what they prove about directories, and that no pattern is slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.rules import automaton
from agent.rules.patterns import Matcher, Pattern
from agent.rules.regex import MAX_PATTERN, PatternError
from tests.campaigns.law.rules.bounds import bounded

components = st.sampled_from([b"a", b"b", b"ab", b"x.conf", b"c"])
paths = st.lists(components, min_size=1, max_size=5).map(lambda parts: b"/" + b"/".join(parts))
globs = st.lists(st.sampled_from([b"/", b"/", b"a", b"b", b"x.conf", b"*", b"**", b"/**/"]), max_size=7).map(
    b"".join
)


def reference(glob: bytes) -> re.Pattern[bytes]:
    """Return a glob as the re module has it: slow for some texts, but never wrong."""
    out, at = b"", 0
    while at < len(glob):
        stars = len(glob[at:]) - len(glob[at:].lstrip(b"*"))
        if glob.startswith(b"/**/", at):
            out, at = out + b"/(?:.*/)?", at + 4
        elif stars:
            out, at = out + (b".*" if stars > 1 else b"[^/]*"), at + stars
        else:
            out, at = out + re.escape(glob[at : at + 1]), at + 1
    return re.compile(out, re.DOTALL)


@settings(max_examples=400, deadline=None)
@given(globs, st.lists(paths, min_size=1, max_size=6))
def test_globs_match_as_the_reference_does(glob: bytes, texts: list[bytes]) -> None:
    pattern, expected = Pattern("glob", glob, path=True), reference(glob)
    for text in texts:
        assert pattern.matches(text) == bool(expected.fullmatch(text))


ATOMS = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    "\\d",
    "(a|b)",
    "(?:ab)",
    "a*",
    "b+?",
    "c?",
    "(a|bc)*",
    "a{2}",
    "b{1,2}",
    "c{2,}",
    "^",
    "$",
    "/",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(ATOMS), max_size=5).map("".join), st.text("abc0/\n", max_size=8))
def test_regular_expressions_match_as_re_does(expression: str, text: str) -> None:
    # `re` also matches `$` before a newline at the end, and an end before a start where the text is empty.
    assume(not re.search(r"\$.*\^", expression) and not text.endswith("\n"))
    expected = re.search(expression.replace("$", "\\Z"), text) is not None
    assert Pattern("regex", expression.encode()).matches(text.encode()) == expected


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        ("(?i)shadow", b"/ETC/SHADOW", True),
        ("(?i)[^a]", b"aA", False),
        ("(?i)[^A-C]", b"abcABC", False),
        ("(?i)[^a]", b"b", True),
        ("^(^|/)a", b"a", True),
        ("\\.so(\\.\\d+)*$", b"libc.so.6", True),
        ("[[:digit:]]{2}", b"a1b22", True),
        ("\\x2fetc", b"/etc", True),
        ("(?P<name>x)y", b"xy", True),
        ("a{2", b"a{2", True),
        ("a{0,1000}", b"", True),
        ("\\/tmp", b"/tmp", True),
        ("é", "é".encode(), True),
        ("", b"", True),
        ("^$", b"x", False),
    ],
)
def test_regular_expression_syntax(expression: str, text: bytes, matches: bool) -> None:
    assert Pattern("regex", expression.encode()).matches(text) == matches


@pytest.mark.parametrize(
    "expression",
    [
        "(",
        ")",
        "[a",
        "*a",
        "a{3,1}",
        "(?=a)",
        "(?<=a)b",
        "\\1",
        "\\ba",
        "[z-a]",
        "[é]",
        "a{9999}",
        "((a{99}){99}){99}",
        "(" * 40,
        "\\",
        "\\xZZ",
        "\\x+1",
        "\\x 1",
        "a{,2}",
        "a**",
        "a" + "*" * 1_000,
        "a{2}{3}",
        "(){100000000}",
        "(|){0,100000000}",
        "((){1000}){1000}",
        "a{0,2048}b",
        "a" * (MAX_PATTERN + 1),
    ],
)
def test_patterns_that_are_refused(expression: str) -> None:
    with pytest.raises(PatternError):
        Pattern("regex", expression.encode()).automaton  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("regex", b"(a+)+$", False),
        ("regex", b"(a|a)*$", True),
        ("regex", b"(.*a){12}$", False),
        ("regex", b"^(a?){30}a{30}$", False),
        ("glob", b"*a" * 12 + b"*b", False),
    ],
)
def test_no_pattern_is_slow(kind: str, text: bytes, expected: bool) -> None:
    """A backtracking matcher takes years for these; `bounded` ends the test if this one does."""
    with bounded(60):
        assert Pattern(kind, text).matches(b"a" * 4_096 + b"!") == expected


def test_memory_of_an_automaton_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """These texts need over 100 sets of states; with a smaller cache the answers are the same."""
    texts = [bytes(b"xa"[number >> bit & 1] for bit in range(8)) for number in range(256)]

    def sets() -> int:
        pattern = Pattern("regex", b"a.{6}b")
        assert not any(pattern.matches(text) for text in texts)
        assert pattern.matches(b"axxxxxxb")
        return len(pattern.automaton._rows)

    assert sets() > 100
    monkeypatch.setattr(automaton, "MAX_SETS", 20)
    assert sets() < 40


@settings(max_examples=400, deadline=None)
@given(globs, paths, st.integers(1, 3))
def test_proofs_about_a_directory_hold(glob: bytes, path: bytes, depth: int) -> None:
    """All, none or some of the paths at a depth: the verdict never contradicts a path that exists."""
    assume(path.count(b"/") >= depth)
    directory = path.rsplit(b"/", depth)[0]
    for pattern in (Pattern("glob", glob, path=True), Pattern("regex", re.escape(glob.replace(b"*", b"")))):
        verdict = pattern.below(directory, depth)
        assert verdict is None or verdict == pattern.matches(path)


@pytest.mark.parametrize(
    ("glob", "directory", "depth", "verdict"),
    [
        (b"/etc/**", b"/etc", 1, True),
        (b"/etc/**", b"/etc/ssh", 3, True),
        (b"/etc/*", b"/etc", 1, True),
        (b"/etc/*", b"/etc", 2, False),
        (b"/etc/cron.*/**", b"/etc", 1, False),
        (b"/etc/cron.*/**", b"/etc", 2, None),
        (b"/home/*/.ssh/authorized_keys", b"/home", 3, None),
        (b"/home/*/.ssh/authorized_keys", b"/home", 2, False),
        (b"/home/*/.ssh/authorized_keys", b"/usr", 3, False),
        (b"**/passwd", b"/usr", 1, None),
        (b"**", b"", 1, True),
    ],
)
def test_proofs(glob: bytes, directory: bytes, depth: int, verdict: bool | None) -> None:
    assert Pattern("glob", glob, path=True).below(directory, depth) is verdict


def test_proofs_of_exact_paths() -> None:
    matcher = Matcher(frozenset({b"/etc/passwd", b"/etc/ssh/sshd_config"}))
    assert [matcher.below(b"/etc", depth) for depth in (1, 2, 3)] == [None, None, False]
    assert matcher.below(b"/et", 1) is False


@pytest.mark.parametrize(
    ("kind", "text", "prefix", "last"),
    [
        ("glob", b"/etc/cron.*/x", b"/etc/cron.", b"x"),
        ("glob", b"/a/**/b", b"/a/", b"b"),
        ("glob", b"**/b*", b"", b""),
        ("regex", b"^/etc/ssh", b"/etc/ssh", b""),
        ("regex", b"^/(etc|usr)/", b"/", b""),
        ("regex", b"/etc", b"", b""),
        ("regex", b"^/etc/a?b", b"/etc/", b""),
    ],
)
def test_what_all_matches_share(kind: str, text: bytes, prefix: bytes, last: bytes) -> None:
    """A prefix of the path and its last component: the kernel can look both up."""
    pattern = Pattern(kind, text, path=kind == "glob")
    assert (pattern.prefix, pattern.last_component) == (prefix, last)
