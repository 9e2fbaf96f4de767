"""Rules on renamed files also match the rename of a directory above them, and are otherwise unchanged."""

from __future__ import annotations

import pytest

from agent.events.model import Event, EventType, File, FileFlags
from tests.agent.rules.samples import holds

DIRECTORY, REGULAR = 0o40755, 0o100644


def renamed(
    path: bytes, to: bytes = b"/x", mode: int = DIRECTORY, flags: FileFlags = FileFlags.NONE
) -> Event:
    """A rename; the mode is that of the file that moves."""
    return Event(EventType.RENAME, file=File(path, mode=mode, flags=flags), file2=File(to))


@pytest.mark.parametrize(
    ("expression", "path", "expected"),
    [
        ('rename.file.path == "/srv/keep/a"', b"/srv/keep", True),
        ('rename.file.path == "/srv/keep/a"', b"/srv", True),
        ('rename.file.path == "/srv/keep/a"', b"/srv/kee", False),
        ('rename.file.path == "/srv/keep/a"', b"/srv/keep/b", False),
        ('rename.file.path in ["/a/b", "/srv/keep/a"]', b"/srv/keep", True),
        ('rename.file.path =~ "/srv/keep/**"', b"/srv/keep", True),
        ('rename.file.path =~ "/srv/*/conf/**"', b"/srv/any", True),
        ('rename.file.path =~ "/srv/*/conf/**"', b"/srv/any/conf", True),
        ('rename.file.path =~ "/srv/*/conf/**"', b"/srv/any/other", False),
        ('rename.file.path =~ "/srv/**/conf"', b"/srv", True),
        ('rename.file.path =~ "/srv/**/conf"', b"/srv/any", False),
        ('rename.file.path =~ "**/conf"', b"/srv", False),
        ('rename.file.path =~ r"^/srv/keep/.*[.]conf$"', b"/srv/keep", True),
        ('rename.file.path =~ r"keep"', b"/srv", False),
        ('rename.file.name == "a"', b"/srv", False),
        ('rename.file.path == "/srv/keep/a" && rename.retval == 0', b"/srv", True),
        ('rename.file.path == "/srv/keep/a" && rename.retval != 0', b"/srv", False),
        ('fim.write.file.path == "/srv/keep/a"', b"/srv", True),
    ],
)
def test_directories_above(expression: str, path: bytes, expected: bool) -> None:
    assert holds(expression, renamed(path)) is expected


@pytest.mark.parametrize(("mode", "expected"), [(REGULAR, False), (DIRECTORY, True), (0, True)])
def test_only_directories(mode: int, expected: bool) -> None:
    """Only a directory can be above a file; one with an unknown mode counts."""
    assert holds('rename.file.path == "/srv/keep/a"', renamed(b"/srv/keep", mode=mode)) is expected


@pytest.mark.parametrize(
    "expression",
    [
        'rename.file.path != "/srv/keep/a"',
        'rename.file.path !~ "/srv/keep/**"',
        '!(rename.file.path == "/srv/keep/a")',
        'rename.file.path not in ["/srv/keep/a"]',
    ],
)
def test_negations_are_not_extended(expression: str) -> None:
    """An alternative below a negation would remove matches."""
    assert holds(expression, renamed(b"/srv/keep"))


def test_a_directory_that_is_moved_above_the_file() -> None:
    assert holds('rename.file.destination.path == "/srv/keep/a"', renamed(b"/x", b"/srv/keep"))


def test_no_other_event() -> None:
    """Removing a directory above a file is not the removal that the rule names."""
    event = Event(EventType.RMDIR, file=File(b"/srv/keep", mode=DIRECTORY))
    assert not holds('rmdir.file.path == "/srv/keep/a"', event)
