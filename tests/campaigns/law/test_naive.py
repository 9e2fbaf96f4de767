"""The naive evaluator answers as docs/rules.md says, None if the page does not say, without `agent`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.campaigns.law import naive
from tests.campaigns.law.naive_patterns import RefusedError

EVENT: Mapping[str, object] = {
    "open.file.path": "/etc/cron.d/job",
    "open.file.name": "job",
    "open.file.in_upper_layer": False,
    "open.flags": 0o101,
    "open.retval": -13,
    "process.pid": 7,
    "process.uid": 0,
    "process.comm": "sh\udcff",
    "process.argv": ["-a", "b"],
    "process.ancestors.pid": [1, 5],
    "process.ancestors.comm": [],
    "${name}": "job",
    "${names}": ["x", "job"],
}
MACROS = {"WRITES": "O_WRONLY|O_RDWR", "NAMES": ["x", '~"j*"']}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('open.file.path == "/etc/cron.d/job"', True),
        ('open.file.path == "/etc/*/job"', False),
        ('open.file.path =~ "/etc/*/job"', True),
        ('open.file.path =~ "/etc/*"', False),
        ('open.file.path == ~"/etc/**"', True),
        ('open.file.path =~ "/etc/**/cron.d/job"', True),
        ('open.file.path =~ "*/cron.d/*"', True),
        ('open.file.name =~ "*b"', True),
        ('open.file.path =~ r"D/j$"', False),
        ('open.file.path =~ r"(?i)D/J.b$"', True),
        ('open.file.name in ["a", ~"j?b"]', False),
        ("open.file.name in NAMES", True),
        ("open.flags & (WRITES) > 0", True),
        ("open.flags & O_CREAT > 0 && open.retval == EACCES", True),
        ('process.argv != "b" && open.retval < 0', False),
        ('process.argv == "b" && open.retval < 0', True),
        ("process.ancestors.pid & 4 > 0 && open.retval < 0", True),
        ('process.ancestors.comm != "x" && open.retval < 0', True),
        ('process.comm == "sh\\xff" && open.retval < 0', True),
        ("process.comm.length == 3 && open.retval < 0", True),
        ("open.file.name == ${name}", True),
        ('open.file.name == "j${name}"', False),
        ("open.file.name in ${names}", True),
        ('"/proc/${process.pid}" == "/proc/7" && open.retval < 0', True),
        ('fim.write.file.name == "job"', True),
        ('rename.file.name == "job"', False),
        ("open.file.uid == 0", None),
        ("open.file.uid == 0 && open.retval == 0", False),
        ('open.file.path == "etc"', None),
        ("open.file.path == 1", None),
        ("!open.file.in_upper_layer", True),
        ('not open.file.name == "job" or open.retval == -0xd', True),
        ("open.retval == 1s500ms # comment", False),
    ],
)
def test_value(expression: str, expected: bool | None) -> None:
    """Each operator, literal and kind of field gives the documented value."""
    assert naive.matches(expression, EVENT, MACROS) is expected


@pytest.mark.parametrize(
    "expression",
    [
        'open.file.path == "/a" && open.retval == 0 || open.retval == 1',
        "open.flags & 1 | 2 > 0",
        'open.file.path == "/a" && rename.retval == 0',
        'open.file.path == "/etc//passwd"',
        'open.file.name =~ "${process.pid}*"',
        "open.file.nonsense == 1",
        "open.file.name < 1",
        "open.retval == 09",
    ],
)
def test_refused(expression: str) -> None:
    """A documented error is refused."""
    with pytest.raises(RefusedError):
        naive.evaluate(expression, EVENT)


def test_either_file() -> None:
    """`fim.write` holds for a rename if it holds for one of its files, and for no other kind of event."""
    event = {"rename.file.path": "/a", "rename.file.destination.path": "/b"}
    assert naive.matches('fim.write.file.path == "/b"', event) is True
    assert naive.matches('fim.write.file.path == "/b" && fim.write.file.path == "/a"', event) is False
    assert naive.matches('fim.write.file.path == "/b"', {"close.file.path": "/b"}) is False
    assert naive.matches('fim.write.file.path == "/b"', {"open.file.path": "/b", "open.flags": 0}) is False


MOVED = {
    "rename.file.path": "/srv/keep",
    "rename.file.destination.path": "/tmp/k2",
    "rename.file.mode": 0o040755,
    "rename.flags": 0,
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('rename.file.path =~ "/srv/keep/**"', True),
        ('rename.file.path =~ "/s*/keep/conf/a"', True),
        ('rename.file.path =~ "/s*/kee*/a"', True),
        ('rename.file.path == "/srv/keep/conf"', True),
        ('rename.file.path == "/srv/keep"', True),
        ('fim.write.file.path == "/tmp/k2/a"', True),
        ('rename.file.path == "/s*/keep/conf"', False),
        ('rename.file.path =~ "/srv/**/keep/a"', False),
        ('rename.file.path == "/srv/other/conf"', False),
        ('rename.file.path == "/srv/keep/conf" && rename.retval == 0', None),
        ('rename.file.path =~ r"^/srv/keep/conf"', None),
        ('rename.file.path == "/srv/keep\\u002fconf" && rename.retval == 0', None),
    ],
)
def test_the_rename_of_a_directory_above_what_a_rule_watches(expression: str, expected: bool | None) -> None:
    """Matches if the rule is one comparison of a path; of other rules nothing is known."""
    assert naive.matches(expression, MOVED) is expected


@pytest.mark.parametrize(
    ("mode", "replaced", "expected"),
    [
        (0o100644, 0o040755, True),
        (0o100644, 0o120777, True),
        (0o120777, 0, True),
        (0o100644, 0, False),
        (0o100644, None, None),
        (0, 0, None),
    ],
)
@pytest.mark.parametrize("watched", ["/srv/keep/a", "/tmp/k2/a"])
def test_what_moves_above(mode: int, replaced: int | None, watched: str, expected: bool | None) -> None:
    """A directory or link that moves, or is replaced; a first file without a type is not known."""
    event: dict[str, object] = {**MOVED, "rename.file.mode": mode}
    if replaced is not None:
        event["rename.file.destination.mode"] = replaced
    assert naive.matches(f'fim.write.file.path == "{watched}"', event) is expected


@pytest.mark.parametrize("path", ["", "/", "memfd:a", "keep"])
def test_what_is_no_directory_above(path: str) -> None:
    """The root, and a path that does not begin at it, are above no path of a rule."""
    assert naive.matches('rename.file.path == "/keep/f"', {**MOVED, "rename.file.path": path}) is False


EXCHANGED = {
    "rename.file.path": "/tmp/x",
    "rename.file.mode": 0o100644,
    "rename.file.uid": 1000,
    "rename.file.destination.path": "/srv/keep/f",
    "rename.file.destination.mode": 0o100644,
    "rename.file.destination.uid": 0,
    "rename.retval": 0,
    "rename.flags": 2,
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('rename.file.path == "/tmp/x"', True),
        ('rename.file.path == "/srv/keep/f"', True),
        ('rename.file.destination.path == "/tmp/x"', True),
        ('rename.file.destination.path == "/srv/keep/g"', False),
        ('rename.file.path == "/srv/keep/f" && rename.file.destination.path == "/tmp/x"', True),
        ('rename.file.path == "/srv/keep/f" && rename.file.uid == 0', True),
        ('rename.file.path == "/srv/keep/f" && rename.file.uid == 1000', False),
        ('rename.file.path != "/tmp/x"', True),
        ('rename.file.path not in ["/tmp/x", "/srv/keep/f"]', False),
        ('rename.file.path == "/srv/keep/f" && rename.file.inode == 1', None),
    ],
)
def test_an_exchange(expression: str, expected: bool | None) -> None:
    """Matches if the whole rule holds for the rename of one of the files; other renames have one order."""
    assert naive.matches(expression, EXCHANGED) is expected
    if '/srv/keep/f"' in expression and "not in" not in expression:
        assert naive.matches(expression, {**EXCHANGED, "rename.flags": 1}) is False
    unknown = {name: value for name, value in EXCHANGED.items() if name != "rename.flags"}
    assert naive.matches(expression, unknown) in (expected, None)


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o040755, True), (0o120777, True), (0o100644, False), (0, None)]
)
def test_an_exchange_above_what_a_rule_watches(mode: int, expected: bool | None) -> None:
    """Both files are there: one without a type is not known, whichever is named first."""
    for slot in ("file", "file.destination"):
        for first, second in (("file", "file.destination"), ("file.destination", "file")):
            event = {
                **EXCHANGED,
                f"rename.{first}.path": "/srv/keep",
                f"rename.{first}.mode": mode,
                f"rename.{second}.path": "/tmp/x",
                f"rename.{second}.mode": 0o100644,
            }
            assert naive.matches(f'rename.{slot}.path == "/srv/keep/f"', event) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('symlink.file.path == "/home/u/.ssh/rc"', True),
        ('fim.write.file.path =~ "/home/*/.ssh/rc"', True),
        ('fim.write.file.path =~ "/home/*/.s*/rc"', False),
        ('fim.write.file.path =~ "/home/*/.s*/**"', True),
        ('fim.write.file.path == "/home/u/.ssh2/rc"', False),
    ],
)
def test_a_link_that_appears_or_is_removed_above(expression: str, expected: bool) -> None:
    """Of a glob that ends in a name, no directory that ends in a star."""
    path, mode = "/home/u/.ssh", 0o120777
    assert naive.matches(expression, {"symlink.file.path": path}) is expected
    if "symlink" not in expression:
        assert naive.matches(expression, {"unlink.file.path": path, "unlink.file.mode": mode}) is expected
        second = {"link.file.path": "/tmp/x", "link.file.destination.path": path, "link.file.mode": mode}
        assert naive.matches(expression, second) is expected


@pytest.mark.parametrize("mode", [0o100644, 0o040755])
def test_no_other_change_above(mode: int) -> None:
    """A file that is no link leads nowhere, and the old name of a link stays."""
    watched = 'fim.write.file.path == "/a/b"'
    paths = {"link.file.path": "/x", "link.file.destination.path": "/a"}
    assert naive.matches(watched, {**paths, "link.file.mode": mode}) is False
    assert naive.matches(watched, {"unlink.file.path": "/a", "unlink.file.mode": mode}) is False
    paths = {"link.file.path": "/a", "link.file.destination.path": "/x"}
    assert naive.matches(watched, {**paths, "link.file.mode": 0o120777}) is False
    assert naive.matches(watched, {"mkdir.file.path": "/a"}) is False
