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


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('rename.file.path =~ "/srv/keep/**"', True),
        ('rename.file.path =~ "/s*/keep/conf/a"', True),
        ('rename.file.path == "/srv/keep/conf"', True),
        ('rename.file.path == "/srv/keep"', True),
        ('fim.write.file.path == "/tmp/k2/a"', True),
        ('rename.file.path == "/s*/keep/conf"', None),
        ('rename.file.path =~ "/srv/**/keep/a"', None),
        ('rename.file.path == "/srv/other/conf"', False),
    ],
)
def test_the_rename_of_a_directory_above_what_a_rule_watches(expression: str, expected: bool | None) -> None:
    """Matches if the rule is one comparison of a path; of other rules nothing is known."""
    event = {
        "rename.file.path": "/srv/keep",
        "rename.file.destination.path": "/tmp/k2",
        "rename.file.mode": 0o040755,
    }
    assert naive.matches(expression, event) is expected
