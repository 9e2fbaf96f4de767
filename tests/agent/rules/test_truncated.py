"""Events with a truncated path match whatever one of the whole paths with that end may match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events.model import Event, EventType, File, FileFlags
from agent.rules.patterns import Matcher, Pattern
from tests.agent.rules.samples import holds, opened, ruleset
from tests.agent.rules.test_patterns import components, globs

TAIL = b"/".join([b"d"] * 255 + [b"x.sh"])
CUT = FileFlags.TRUNCATED


def cut(path: bytes = TAIL) -> Event:
    return opened(file=File(path, mode=0o100644, flags=CUT))


@pytest.mark.parametrize(
    ("condition", "positive", "negative"),
    [
        ('.path =~ "/tmp/**"', True, True),  # it may lie there, and may lie elsewhere
        ('.path =~ "/srv/**/d/x.sh"', True, True),
        ('.path =~ "/srv/**/y/x.sh"', False, True),
        ('.path =~ "/srv/**.conf"', False, True),
        ('.path =~ "**/x.sh"', True, False),
        ('.path =~ "**/y"', False, True),
        ('.path =~ "/**"', True, False),
        ('.path =~ "/tmp/*"', False, True),
        ('.path =~ "/tmp/*/*/x.sh"', False, True),
        ('.path =~ "/tmp*"', False, True),
        ('.path =~ r"^/tmp/"', True, True),
        ('.path =~ r"/secret/"', True, True),
        ('.path =~ r"\\.sh$"', True, False),
        ('.path =~ r"\\.conf$"', False, True),
        ('.path == "/tmp/x.sh"', False, True),
        (f'.path == "/tmp/{TAIL.decode()}"', True, True),
        ('.path in ["/a", ~"/b/**"]', True, True),
        ('.path == "/${process.user}/x.sh"', True, True),  # only constants are compared with the end
        (".path.length > 9000", True, True),
        ('.name == "x.sh"', True, False),
        ('.name =~ "*.conf"', False, True),
        ('.extension == ".sh"', True, False),
        (".truncated", True, False),
    ],
)
def test_a_comparison_holds_if_it_holds_for_one_of_the_whole_paths(
    condition: str, positive: bool, negative: bool
) -> None:
    """The comparison and its negation: both hold if the missing beginning decides."""
    assert holds(f"open.file{condition}", cut()) is positive
    assert holds(f"open.retval == 0 && !(open.file{condition})", cut()) is negative


def test_other_conditions_of_the_rule_decide_as_before() -> None:
    rules = ruleset(
        'open.file.path =~ "/tmp/**" && open.flags & O_CREAT > 0',
        'open.file.path =~ "/tmp/**" && open.file.name == "y"',
        'open.file.path =~ "/etc/**" && process.uid == 0',
        'open.file.path =~ "/tmp/**" || open.file.name == "y"',
    )
    assert rules.evaluate(cut()) == ["r3"]
    assert rules.evaluate(opened(b"/tmp/x")) == ["r3"]  # complete paths are compared as they are
    assert rules.evaluate(opened(b"/tmp/y")) == ["r1", "r3"]


def test_only_the_path_that_is_truncated_is_uncertain() -> None:
    """Of a rename from a deep directory, the destination is known; and the other way round."""
    rules = ruleset(
        'rename.file.path =~ "/srv/**"',
        'rename.file.destination.path =~ "/srv/**"',
        'fim.write.file.path =~ "/srv/**"',
    )
    known, deep = File(b"/etc/x"), File(TAIL, flags=CUT)
    assert rules.evaluate(Event(EventType.RENAME, file=deep, file2=known)) == ["r0", "r2"]
    assert rules.evaluate(Event(EventType.RENAME, file=known, file2=deep)) == ["r1", "r2"]
    assert rules.evaluate(Event(EventType.RENAME, file=known, file2=known)) == []


def test_a_text_that_a_caller_wrote_in_a_deep_directory_may_be_any_path_with_that_end() -> None:
    """Enough `..` leave the known end; what follows them is the end of the whole path."""
    event = opened(file=File(b"etc/passwd", flags=CUT | FileFlags.AS_GIVEN))
    assert holds('open.file.path == "/etc/passwd"', event)
    assert holds('open.file.path == "/srv/etc/passwd"', event)
    assert not holds('open.file.path == "/etc/shadow"', event)


def test_a_detached_path_is_compared_as_it_is() -> None:
    """It begins where it says: no directory is missing."""
    assert not holds('open.file.path =~ "/tmp/**"', opened(file=File(TAIL, flags=FileFlags.DETACHED)))


@settings(max_examples=400, deadline=None)
@given(globs, st.lists(components, max_size=3), st.lists(components, min_size=1, max_size=3), st.booleans())
def test_what_is_said_of_an_end_holds_for_each_path(
    glob: bytes, beginning: list[bytes], tail: list[bytes], anchored: bool
) -> None:
    """All, none or some: the answer never contradicts a path with that end."""
    regex = (b"^" if anchored else b"") + re.escape(glob.replace(b"*", b""))
    for pattern in (Pattern("glob", glob, path=True), Pattern("regex", regex)):
        answer = Matcher(frozenset(), (pattern,)).ends(b"/".join(tail))
        path = b"/" + b"/".join([*beginning, *tail])
        assert answer is None or answer == pattern.matches(path)


def test_the_index_of_truncated_paths_is_made_once() -> None:
    rules = ruleset('open.file.path =~ "/tmp/**"')
    assert rules.evaluate(cut()) == rules.evaluate(cut()) == ["r0"]
    assert list(rules._truncated) == [EventType.OPEN]
