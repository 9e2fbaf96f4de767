"""`agent explain --event`: which rules match, and at which stage an event is dropped."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from agent.cli import main
from agent.commands.described import describe, parse
from agent.errors import UsageError
from agent.filters.trace import trace
from agent.rules.engine import Ruleset
from agent.rules.load import load, loads
from tests import ROOT

RULES = """rules:
  - {id: passwd, expression: 'open.file.path == "/etc/passwd" && open.flags & (O_WRONLY|O_RDWR) > 0'}
  - {id: shell, expression: 'open.file.path =~ "/etc/**" && process.file.name == "sh" && open.retval >= 0'}
  - {id: root, expression: 'open.file.name == "x" && process.uid == 0'}
  - {id: moved, expression: 'rename.file.destination.path == "/etc/app.conf"'}
  - {id: owner, expression: 'chmod.retval >= 0 && process.uid == 0'}
  - {id: every, expression: 'unlink.retval == 0'}
  - {id: shown, expression: 'mkdir.file.path == "${seen}" && mkdir.file.name == "x"'}
  - {id: seen, expression: 'exec.file.path == "/a/b"', actions: [set: {name: seen, field: exec.file.path}]}
"""


def lines(text: str) -> list[str]:
    return list(describe(loads(RULES), text, 200))


@pytest.mark.parametrize(
    ("event", "approvers", "result"),
    [
        ("open:/etc/passwd:O_WRONLY|O_CREAT", "passes, because of passwd, shell", "reported by passwd"),
        (
            "open:/etc/passwd",
            "passes, because of shell",
            "reported by shell if the rest of the condition holds",
        ),
        ("open:/srv/y:O_RDWR", "DROPPED: no rule wants this", "dropped in the kernel, by the approvers"),
        ("rename:/tmp/new:/etc/app.conf", "passes, because of moved", "reported by moved"),
        (
            "rename:/etc/app.conf:/tmp/old",
            "passes, because of moved",
            "reported by moved if the rest of the condition holds",
        ),
        (
            "chmod:/etc/passwd",
            "passes only for the users, logins or upper layer of owner",
            "reported by owner if",
        ),
        ("unlink:/a", "passes: the kernel forwards every unlink", "reported by every"),
        ("mkdir:/a/x", "passes, because of shown", "reported by shown if the rest of the condition holds"),
        (
            "exec:/usr/bin/ls",
            "passes: the kernel forwards all exec",
            "dropped by the evaluator: no rule matches",
        ),
        ("symlink:/a", "DROPPED: no rule is on symlink", "dropped in the kernel, by the approvers"),
    ],
)
def test_stages(event: str, approvers: str, result: str) -> None:
    found = lines(event)
    assert found[0] == event
    assert found[1].startswith(f"  approvers: {approvers}")
    assert found[-1].startswith(f"result: {result}")


def test_why_a_rule_is_undecided() -> None:
    """Only fields that the description lacks are named."""
    assert "  evaluator: shell depends on process.file.name" in lines("open:/etc/passwd")
    assert "  evaluator: 2 of 3 rules on open cannot match" in lines("open:/etc/passwd")
    assert "  evaluator: shown depends on variables" in lines("mkdir:/a/x")
    exchange = next(line for line in lines("rename:/etc/app.conf:/tmp/old") if "moved depends" in line)
    assert "rename.flags" in exchange  # an exchange puts the second file at the first name


def test_a_discarder_is_named() -> None:
    """It is the directory in which no rule can match; if a rule can match, there is none."""
    rules = loads("rules:\n  - {id: a, expression: 'open.file.path =~ \"/srv/**\" || open.retval < 0'}\n")
    assert not trace(rules, parse("open:/srv/a/x")).discards
    text = 'rules:\n  - {id: a, expression: \'open.file.name == "y" && open.file.path !~ "/home/**"\'}\n'
    (line,) = (line for line in describe(loads(text), "open:/home/a/b/c/y", 200) if "discarders" in line)
    assert line.endswith("the kernel drops any at or below /home/a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opn:/etc", "no event of type 'opn'"),
        ("fork:/etc", "no event of type 'fork'"),
        ("open", "'' is not an absolute"),
        ("open:etc/passwd", "'etc/passwd' is not an absolute, normalized path"),
        ("open:/etc/../x", "normalized path"),
        ("open:/etc/passwd:O_WRITE", "no open flag 'O_WRITE'"),
        ("rename:/etc/passwd", "'' is not"),
        ("open:/a\x1b[2J:O_\x1b", r"no open flag 'O_\?'"),
    ],
)
def test_invalid_events(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert caught.value.message.isprintable()


def test_paths_with_colons() -> None:
    assert parse("open:/a:b/c").file.path == b"/a:b/c"
    assert parse("unlink:/a:b").file.path == b"/a:b"
    assert parse("open:/a:b:O_RDWR").flags == os.O_RDWR


def of_default_policy() -> Ruleset:
    return load([ROOT / "agent/policies/default.yaml"])


def test_a_match_is_never_dropped_before() -> None:
    """If a rule matches or can match, the filters pass the event: for each path of the default policy."""
    rules = of_default_policy()
    paths = (
        "/etc/passwd",
        "/etc/cron.d/x",
        "/usr/bin/ls",
        "/root/.ssh/authorized_keys",
        "/srv/y",
        "/etc/hosts",
    )
    kinds = ("open", "unlink", "chmod")
    events = [f"{kind}:{path}" for kind, path in itertools.product(kinds, paths)]
    events += [f"open:{path}:O_WRONLY" for path in paths] + [f"rename:/tmp/x:{path}" for path in paths]
    traces = [trace(rules, parse(text)) for text in events]
    assert any(found.matches for found in traces)
    for found in traces:
        assert found.approved or not found.matches
        assert found.approved or found.perhaps_by or not found.depends


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RULES)
    assert main(["explain", str(path), "--event", "open:/etc/passwd:O_WRONLY", "--event", "unlink:/a"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("open:/etc/passwd:O_WRONLY\n  approvers: passes, because of passwd, shell\n")
    assert text.endswith("result: reported by every\n")
    assert main(["explain", str(path), "--event", "opn:/a"]) == 2
    assert "hint: did you mean open?" in capsys.readouterr().err
