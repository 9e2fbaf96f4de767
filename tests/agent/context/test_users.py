"""The names of users and groups are those of the current files."""

from __future__ import annotations

from agent.context.users import CHECK_INTERVAL_S, Users, parse_names
from tests.agent.context.conftest import FakeHost


def test_names_change_when_their_file_changes(host: FakeHost) -> None:
    now = [0.0]
    users = Users(host.root, lambda: now[0])
    assert (users.user(33), users.group(33), users.user(34)) == (b"www", b"www", b"")
    host.write_names("passwd", "other:x:33:33::/:")
    assert users.user(33) == b"www"  # not looked again yet
    now[0] += CHECK_INTERVAL_S
    assert users.user(33) == b"other"
    (host.root / "etc/passwd").unlink()
    now[0] += CHECK_INTERVAL_S
    assert users.user(33) == b""


def test_invalid_lines_are_ignored() -> None:
    content = b"# comment\n\n+@nis\nbad:x:-1:\n:x:7:\na:x:5:5::/:/sh\nb:x:5:\n\xff:x:6:\n"
    assert parse_names(content) == {5: b"a", 6: b"\xff"}
