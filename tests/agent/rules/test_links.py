"""Rules that name a symbolic link: one line for each, with the path that events have."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.rules import links as module
from agent.rules.links import SILENT, Links, Warnings
from agent.rules.load import load, loads
from agent.rules.patterns import Matcher
from agent.rules.trust import MAX_LINKS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with a merged /usr."""
    for folder in ("usr/bin", "run/lock", "var", "etc/alternatives"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "usr/bin/dash").touch()
    (tmp_path / "usr/bin/ls").touch()
    (tmp_path / "usr/bin/sh").symlink_to("dash")
    (tmp_path / "usr/bin/nc").symlink_to("/etc/alternatives/nc")
    (tmp_path / "etc/alternatives/nc").symlink_to("../../bin/nc.openbsd")
    return tmp_path


def lines(root: Path, expression: str) -> tuple[str, ...]:
    ruleset = loads(f"rules:\n  - id: a\n    expression: '{expression}'\n", "r.yaml")
    return Warnings(ruleset, root).lines


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        (
            'exec.file.path == "/bin/sh"',
            "/bin/sh, which leads through the symbolic link /bin -> usr/bin: events have /usr/bin/dash",
        ),
        (
            'open.flags == 0 && !(process.file.path in ["/bin/ls"])',
            "/bin/ls, which leads through the symbolic link /bin -> usr/bin: events have /usr/bin/ls",
        ),
        (
            'open.file.path =~ "/var/run/**"',
            "/var/run/**, which leads through the symbolic link /var/run -> /run: events have /run/**",
        ),
        (
            'unlink.file.path == "/bin/sh"',
            "/bin/sh, which leads through the symbolic link /bin -> usr/bin: events have /usr/bin/sh",
        ),
        (
            'exec.file.name == "nc"',
            "nc, which is the symbolic link /usr/bin/nc: events have /usr/bin/nc.openbsd",
        ),
        (
            'open.flags == 0 && process.file.name in ["nc", "ls"]',
            "nc, which is the symbolic link /usr/bin/nc: events have /usr/bin/nc.openbsd",
        ),
    ],
)
def test_a_link_is_named_with_its_target(root: Path, expression: str, line: str) -> None:
    assert lines(root, expression) == (f"r.yaml:2: rule `a` names {line}",)


@pytest.mark.parametrize(
    "expression",
    [
        'exec.file.path == "/usr/bin/dash"',
        'exec.file.path in ["/bin/ls", "/usr/bin/ls"]',
        'open.file.path in [~"/var/run/**", ~"/run/**"]',
        'open.file.path =~ "/var/run/x" || open.file.path =~ ~"/run/*"',
        'exec.file.name in ["nc", "nc.openbsd"]',
        'exec.file.name in ["ls", "none"]',
        'open.file.name == "nc"',
        'unlink.file.path == "/bin"',
        'rename.file.destination.path == "/usr/bin/sh"',
        'exec.script.path == "/bin/sh"',
        'open.file.path =~ "**/bin/sh"',
    ],
)
def test_no_line_without_need(root: Path, expression: str) -> None:
    """If there is no link, if the rule names the other path too, or if events have the link itself."""
    assert lines(root, expression) == ()


def test_a_rule_on_writes_has_one_line(root: Path) -> None:
    """Not one for each of the event types of `fim.write`."""
    assert len(lines(root, 'fim.write.file.path =~ "/var/run/**"')) == 1


def test_loops_and_long_chains_end(root: Path) -> None:
    (root / "loop").symlink_to("/loop")
    assert Links(root).resolve(b"/loop/x").link == b""
    (root / "l0").symlink_to("run")
    for number in range(MAX_LINKS + 1):
        (root / f"l{number + 1}").symlink_to(f"l{number}")
    assert Links(root).resolve(b"/l3/x").path == b"/run/x"
    assert Links(root).resolve(f"/l{MAX_LINKS + 1}".encode()).link == b""
    (root / "up").symlink_to("../../../usr/./bin/")
    assert Links(root).resolve(b"/up/ls").path == b"/usr/bin/ls"


def test_a_link_cannot_control_a_terminal(root: Path) -> None:
    (root / "x").symlink_to("run/\x1b[2J\n")
    (line,) = lines(root, 'open.file.path == "/x"')
    assert line.isprintable()


def test_load_adds_the_lines(root: Path) -> None:
    rules = root / "r.yaml"
    rules.write_text(f'rules:\n  - {{id: a, expression: open.file.path == "{root}/var/run/x"}}\n')
    (note,) = load([rules]).notes
    assert f"{root}/var/run/x, which leads through the symbolic link {root}/var/run -> /run" in note


def test_the_work_does_not_grow_with_the_square_of_the_comparisons(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each path is compared once with all others of the rule, not with each of them."""
    compared: list[bytes] = []
    matches = Matcher.matches

    def counted(matcher: Matcher, value: bytes) -> bool:
        compared.append(value)
        return matches(matcher, value)

    monkeypatch.setattr(Matcher, "matches", counted)
    parts = [f'(open.file.path == "/bin/a{number}" && open.flags == {number})' for number in range(100)]
    assert len(lines(root, " || ".join(parts))) == 100
    assert len(compared) == 100


@pytest.mark.parametrize(
    ("other", "named"),
    [("/run/**", False), ("/run/lock/**", False), ("/r*", False), ("/running/**", False), ("/rum/**", True)],
)
def test_a_pattern_beside_that_reaches_the_same_directory(root: Path, other: str, named: bool) -> None:
    """By the beginning that all its matches have: then events are not missed, or not all of them."""
    found = lines(root, f'open.file.path =~ "/var/run/**" || open.file.path =~ "{other}"')
    assert bool(found) is named


def test_a_file_system_that_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up neither the load of the rules nor the event loop; its links are reported later."""
    answer = threading.Event()
    read = Links._read

    def hangs(self: Links, path: bytes) -> bytes:
        answer.wait()
        return read(self, path)

    monkeypatch.setattr(module, "RECHECK_S", 0.01)
    monkeypatch.setattr(Links, "_read", hangs)
    ruleset = loads("rules:\n  - {id: a, expression: 'exec.file.path == \"/bin/sh\"'}\n", "r.yaml")
    warnings = Warnings(ruleset, root, answer_s=0.01)
    assert warnings.lines == (SILENT,)
    looking = warnings._looking
    assert looking
    assert warnings.new() == ()
    assert warnings._looking is looking, "one thread waits"
    answer.set()
    looking.join()
    assert ["/bin -> usr/bin" in line for line in warnings.new()] == [True]
    assert warnings.new() == ()
