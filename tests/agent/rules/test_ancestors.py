"""Rules also match changes of a directory or symbolic link above what they watch, and are else unchanged."""

from __future__ import annotations

import os

import pytest

from agent.events.model import Event, EventType, File, FileFlags
from agent.filters import approvers
from tests.agent.rules.samples import holds, ruleset

DIRECTORY, REGULAR, LINK, NOTHING = 0o40755, 0o100644, 0o120777, 0


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


@pytest.mark.parametrize(
    ("mode", "replaced", "expected"),
    [
        (REGULAR, NOTHING, False),
        (REGULAR, REGULAR, False),
        (DIRECTORY, NOTHING, True),
        (LINK, NOTHING, True),
        (NOTHING, NOTHING, True),
        (REGULAR, DIRECTORY, True),
        (REGULAR, LINK, True),
    ],
)
@pytest.mark.parametrize("field", ["rename.file.path", "rename.file.destination.path", "fim.write.file.path"])
def test_what_moves(field: str, mode: int, replaced: int, expected: bool) -> None:
    """One of both files must be able to lead to the watched one; a first file of unknown mode may."""
    paths = (b"/x", b"/srv/keep") if "destination" in field else (b"/srv/keep", b"/x")
    files = (File(paths[0], mode=mode), File(paths[1], mode=replaced))
    event = Event(EventType.RENAME, file=files[0], file2=files[1])
    assert holds(f'{field} == "/srv/keep/a"', event) is expected


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


def symlink(path: bytes) -> Event:
    """A new symbolic link; it has no mode before the event."""
    return Event(EventType.SYMLINK, file=File(path), name=b"/tmp/x")


@pytest.mark.parametrize("label", ["symlink", "fim.write"])
@pytest.mark.parametrize(
    ("watched", "path", "expected"),
    [
        ('== "/srv/keep/a"', b"/srv/keep", True),
        ('== "/srv/keep/a"', b"/srv", True),
        ('== "/srv/keep/a"', b"/srv/keep/a/b", False),
        ('!= "/srv/keep"', b"/srv/keep", False),
        ('=~ "/srv/keep/**"', b"/srv/keep", True),
        ('=~ "/home/*/.ssh/rc"', b"/home/u/.ssh", True),
        ('=~ "/home/*/.ssh/rc"', b"/home/u", False),
        ('=~ "/home/*/.ssh/rc"', b"/home", True),
        ('=~ "/srv/*/conf/**"', b"/srv/any", True),
        ('=~ r"^/srv/keep/.*[.]conf$"', b"/srv/keep", True),
    ],
)
def test_a_link_appears_above(label: str, watched: str, path: bytes, expected: bool) -> None:
    """Of a glob that ends in a name, no directory that ends in a star: see the test of its approvers."""
    assert holds(f"{label}.file.path {watched}", symlink(path)) is expected


@pytest.mark.parametrize("mode", [LINK, NOTHING, REGULAR])
def test_a_second_name_of_a_link_appears_above(mode: int) -> None:
    """A hard link to a symbolic link is one; that the old name lies above changes nothing."""
    event = Event(EventType.LINK, file=File(b"/tmp/x", mode=mode), file2=File(b"/srv/keep"))
    away = Event(EventType.LINK, file=File(b"/srv/keep", mode=mode), file2=File(b"/tmp/x"))
    for field in ("link.file.destination.path", "fim.write.file.path"):
        assert holds(f'{field} == "/srv/keep/a"', event) is (mode != REGULAR)
    for field in ("link.file.path", "fim.write.file.path"):
        assert not holds(f'{field} == "/srv/keep/a"', away)


@pytest.mark.parametrize("mode", [LINK, NOTHING, REGULAR, DIRECTORY])
def test_a_link_above_is_removed(mode: int) -> None:
    """Nothing but a link can have led to the file: a directory is not removed by unlink."""
    event = Event(EventType.UNLINK, file=File(b"/srv/keep", mode=mode))
    assert holds('fim.write.file.path == "/srv/keep/a"', event) is (mode in (LINK, NOTHING))


@pytest.mark.parametrize("kind", [EventType.SYMLINK, EventType.LINK, EventType.UNLINK])
def test_the_kernel_forwards_no_directory_more(kind: EventType) -> None:
    """A rule on one name, in any directory that a star stands for, still forwards single names alone."""
    names = 'fim.write.file.path in [~"/home/*/.ssh/rc", "/etc/passwd"]'
    found = approvers.derive(ruleset(names, 'fim.write.file.path =~ "/srv/*/x/**"'))[kind]
    assert found.mode is approvers.Mode.APPROVE
    assert found.prefixes == {b"/srv"}
    assert found.basenames == {b"rc", b".ssh", b"x"}
    assert found.paths == {b"/etc/passwd", b"/etc", b"/home", b"/srv"}


@pytest.mark.parametrize("kind", [EventType.RMDIR, EventType.MKDIR, EventType.OPEN, EventType.MKNOD])
def test_no_other_event(kind: EventType) -> None:
    """A directory is empty when it appears or is removed, and no other file leads to the watched one."""
    event = Event(kind, flags=os.O_CREAT, file=File(b"/srv/keep", mode=DIRECTORY))
    assert not holds('fim.write.file.path == "/srv/keep/a"', event)
