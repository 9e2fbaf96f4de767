"""Policy files: which load, and the text and the place of every error."""

from __future__ import annotations

import gc
import os
import textwrap
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import RuleErrors, UsageError
from agent.events.model import Event, EventType, File
from agent.rules import source as yaml_source
from agent.rules.load import link, load, loads
from agent.rules.problems import Problem
from agent.rules.source import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Mapping, Scalar
from tests import ROOT
from tests.agent.rules.samples import CONTEXT, opened

DEFAULT = ROOT / "agent/policies/default.yaml"
GOOD = 'rules:\n  - id: a\n    expression: open.file.path == "/etc/passwd"\n'


def problems(*texts: str | bytes) -> list[Problem]:
    """Return the problems of files, which are called 0, 1 and so on."""
    files = [(str(at), text.encode() if isinstance(text, str) else text) for at, text in enumerate(texts)]
    with pytest.raises(RuleErrors) as caught:
        link(files)
    found = caught.value.problems
    assert all(isinstance(problem, Problem) for problem in found)
    return [problem for problem in found if isinstance(problem, Problem)]


def rule(expression: str, *more: str) -> str:
    return "\n".join(
        ["rules:", "  - id: a", f"    expression: '{expression}'", *(f"    {line}" for line in more)]
    )


def test_a_policy_of_datadogs_agent_loads_as_it_is() -> None:
    """With everything that this agent supports: macros, filters, tags, versions, actions."""
    text = """
    # remarks may stand anywhere
    version: 1.46.0
    macros:
      - id: CHMOD_EXEC_FLAGS
        expression: S_IXUSR|S_IXGRP|S_IXOTH
        filters: [os == "linux"]
      - id: SHELLS
        description: shells
        expression: |-
          [ "/bin/sh",
            "/usr/bin/dash" ]
      - id: TOOLS
        values: [/usr/bin/ls, '~"/usr/sbin/*"']
    rules:
      - id: exec_bit
        description: a file became a program
        expression: >-
          (chmod.file.path in [ ~"/var/spool/cron/**", "/etc/crontab" ]
          && process.file.path not in SHELLS)
          && chmod.file.destination.mode != chmod.file.mode
          && chmod.file.destination.mode & (CHMOD_EXEC_FLAGS) > 0
        tags: {technique: T1053}
        product_tags: [tactic:TA0002-execution]
        agent_version: ">= 7.50"
        filters:
          - os == "windows"
          - os == "linux"
      - id: windows_only
        expression: write.file.device_path in [~"x"]
        filters: [os == "windows"]
      - id: ls_ran
        expression: >-
          open.file.path != "" && process.file.path in TOOLS && process.ancestors.file.path in SHELLS
        actions:
          - hash: {}
        every: 10s
        tags: [a:b, c]
    """
    rules = loads(textwrap.dedent(text))
    assert list(rules.rules) == ["exec_bit", "ls_ran"]
    assert (rules.rules["ls_ran"].tags, rules.rules["ls_ran"].every_ns, rules.rules["ls_ran"].hash) == (
        {"a": "b", "c": ""},
        10**10,
        True,
    )
    assert (rules.rules["exec_bit"].line, rules.rules["exec_bit"].tags) == (16, {"technique": "T1053"})
    assert rules.evaluate(opened(), CONTEXT) == ["ls_ran"]
    changed = Event(EventType.CHMOD, mode=0o755, file=File(b"/etc/crontab", mode=0o644))
    assert rules.evaluate(changed) == ["exec_bit"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (rule("open.file.pth == \"/\""), "unknown field `open.file.pth`", "did you mean open.file.path?"),
        (rule("opn.file.path == \"/\""), "unknown field `opn.file.path`", "did you mean open?"),
        (rule("open.flags & O_CRAET > 0"), "unknown name `O_CRAET`", "did you mean O_CREAT?"),
        (rule("open.file.path == 5"), "`open.file.path` (a string) cannot be compared with a number", ""),
        (rule("open.flags == \"a\""), "`open.flags` (a number) cannot be compared with a string", ""),
        (rule("open.file.path > \"/a\""), "cannot be compared", "strings have no order"),
        (rule("open.flags =~ \"a\""), "cannot match a pattern", ""),
        (rule("open.file.path in 5"), "`in` takes a list, not a number", ""),
        (rule("open.file.path == [\"/a\"]"), "compared with a list", "use `in`"),
        (rule("open.file.path in [\"/a\", 1]"), "cannot be in a list with a number", ""),
        (rule("open.flags in [1, \"a\"]"), "cannot be in a list with a string", ""),
        (rule("open.flags"), "is not a condition", "compare it"),
        (rule("open.file.path & 1 > 0"), "cannot be used in arithmetic", ""),
        (rule("open.file.path == \"etc\""), "a path begins with /", "/etc/passwd"),
        (rule("open.file.path == \"/etc//x\""), "no empty component", ""),
        (rule("open.file.path =~ \"/etc/../*\""), "no empty component, no `.`", ""),
        (rule("open.file.name =~ r\"a(b\""), "unmatched (", ""),
        (rule("open.file.name =~ r\"(?=x)\""), "only (?:...)", ""),
        (rule("process.uid == 0"), "names no event type", "open.file.path"),
        (rule("open.flags == 0 && unlink.retval == 0"), "a rule has one event type", "fim.write"),
        (rule("bind.addr.port == 1"), "events of type `bind` are not supported", "types: chattr, chmod"),
        (rule("exec.envs == \"a\""), "field `exec.envs` of Datadog", ""),
        (rule("process.ancestors[A].pid == 1 && open.flags == 1"), "registers are not supported", ""),
        (rule("open.file.path == \"/a${nope}\""), "unknown variable `${nope}`", "`set`"),
        (rule("open.file.path =~ ~\"/proc/${process.pid}/*\""), "part of a pattern", "without wild"),
        (rule("open.file.path =~ \"/proc/${process.pid}/*\""), "=~ takes a pattern, not a string", ""),
        (rule("open.file.path =~ r\"/proc/${process.pid}\""), "part of a pattern", "without wild"),
        (rule("process.ancestors.pid == process.ancestors.ppid && open.flags == 1"),
         "two fields with", ""),
        (rule("open.flags == 1", "actions: [{kill: {}}]"), "action `kill` is not supported", "set, hash"),
        (rule("open.flags == 1", "actions: [{set: {name: a, value: 1, ttl: 5s}}]"), "`ttl` of Datadog", ""),
        (rule("open.flags == 1", "actions: [{set: {name: a, field: b.c}}]"), "`b.c` is not a single", ""),
        (rule("open.flags == 1", "actions: [{set: {name: a}}]"), "needs a name and either", ""),
        (rule("open.flags == 1", "limiter_token: x"), "`limiter_token` of Datadog", ""),
        (rule("open.flags == 1", "tag: x"), "unknown key `tag`", "did you mean tags?"),
        (rule("open.flags == 1", "disabled: yes"), "`disabled` must be true or false", ""),
        (rule("open.flags == 1", "every: soon"), "invalid duration `soon`", "10s"),
        (rule("open.flags == 1", "filters: [os.id == 5]"), "a filter cannot use `os.id`", "os, hostname"),
        (rule("open.flags == 1", "combine: merge"), "`combine: merge` is not supported", "override"),
        ("rules:\n  - expression: open.flags == 1\n", "has no `id`", ""),
        ("rules:\n  - id: a b\n    expression: open.flags == 1\n", "`a b` is not a valid id", ""),
        ("rules:\n  - id: a\n", "has no expression", ""),
        ("rules: 5\n", "`rules` must be a list", ""),
        ("rules: [5]\n", "must begin with `- id:`", ""),
        ("5\n", "has no `rules`", "version"),
        ("", "has no `rules`", "version"),
        ("rulez: []\n", "unknown key `rulez`", "did you mean rules?"),
        ("macros:\n  - id: A\n", "needs either `expression` or `values`", ""),
        ("macros:\n  - {id: A, values: [a]}\n  - {id: A, values: [b]}\n", "`A` is already defined", "merge"),
        ("macros:\n  - {id: O_CREAT, expression: '1'}\n", "`O_CREAT` is the name of a constant", ""),
        ("rules: [\n", "not YAML", ""),
        ("rules: !!python/object:os.system []\n", "tags such as", ""),
        ("---\nrules: []\n---\nrules: []\n", "second document", ""),
        ("rules: []\nrules: []\n", "duplicate key `rules`", ""),
        ("? [a]\n: b\n", "a key must be a text", ""),
        ("rules: &a [*a]\n", "no anchor of the alias", ""),
        ("a: \x00\n", "not YAML", ""),
    ],
)  # fmt: skip
def test_errors(text: str, message: str, hint: str) -> None:
    found = problems(text)
    assert any(message in problem.message and hint in problem.hint for problem in found), found


STYLES = {
    "plain": "    expression: open.file.path != \"\" && open.file.pth == 1",
    "single": "    expression: 'open.file.path == \"/it''s\" && open.file.pth == 1'",
    "double": '    expression: "open.file.path == \\"\\x2f\\u00e9\\" && open.file.pth == 1"',
    "literal": "    expression: |\n      open.file.path != \"\"\n        && open.file.pth == 1",
    "folded": "    expression: >-\n      open.file.path\n      != \"\"\n\n      && open.file.pth == 1",
    "plain on two lines": "    expression: open.file.path != \"\"\n      && open.file.pth == 1",
    "double on two lines": '    expression: "open.file.path != \\"\\" \\\n      && open.file.pth == 1"',
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_errors_point_into_the_file(style: str) -> None:
    """Line and column are those of the file, however YAML wraps the expression."""
    text = f"version: é\nrules:\n  - id: a\n{STYLES[style]}\n"
    found = next(problem for problem in problems(text) if "open.file.pth" in problem.message)
    line = text.splitlines()[found.line - 1]
    assert line[found.column - 1 :].startswith("open.file.pth"), (found, line)
    assert str(found).splitlines()[2].index("^") == 4 + found.column - 1


def test_every_error_of_every_file_is_reported() -> None:
    first = rule('open.file.pth == 1 && open.flags == "x" && open.nope', "tag: 1")
    second = "rules:\n  - id: b\n    expression: close.file.path = 1\n  - id: c\n    expression: a.b == 1\n"
    found = problems(first, second, b"\xff")
    assert [(problem.file, problem.line) for problem in found] == [
        ("0", 3), ("0", 3), ("0", 3), ("0", 4), ("1", 3), ("1", 5), ("2", 1),
    ]  # fmt: skip


def test_errors_cannot_control_a_terminal() -> None:
    found = problems(rule("open.file.path == 1 \u009b[2J || open.fole == 2"))
    assert found
    assert all(char.isprintable() or char == "\n" for problem in found for char in str(problem))


def test_macro_errors_point_at_the_use() -> None:
    text = (
        "macros:\n  - {id: A, expression: open.file.path == 1}\n  - {id: B, expression: B == 1}\n"
        "rules:\n  - {id: a, expression: open.flags == 1 && A}\n"
        "  - {id: b, expression: B || open.flags == 1}\n"
    )
    found = problems(text)
    lines = text.splitlines()
    assert [lines[problem.line - 1][problem.column - 1 :][:2] for problem in found] == ["A}", "B "]
    assert "in macro A" in found[0].message
    assert "uses itself" in found[1].message


def test_one_id_in_two_files() -> None:
    assert "already defined" in problems(GOOD, GOOD)[0].message
    other = GOOD.replace("/etc/passwd", "/x") + "    combine: override\n"
    assert link([("0", GOOD.encode()), ("1", other.encode())]).evaluate(opened(b"/x")) == ["a"]
    assert "no rule `a` to override" in problems("rules:\n  - {id: a, combine: override}\n")[0].message
    off = "rules:\n  - id: a\n    disabled: true\n"
    assert link([("0", GOOD.encode()), ("1", off.encode())]).rules == {}


def test_an_override_keeps_the_keys_that_it_lacks() -> None:
    entry = "{id: a, expression: open.flags == 0, description: d, tags: {x: y}, actions: [hash: {}]}"
    first = f"rules:\n  - {entry}\n"
    later = "rules:\n  - {id: a, combine: override, tags: {severity: low}}\n"
    rules = link([("0", first.encode()), ("1", later.encode())])
    found = rules.rules["a"]
    assert (found.description, found.tags, found.hash) == ("d", {"severity": "low"}, True)
    assert (found.file, found.line) == ("0", 2)
    assert rules.evaluate(opened()) == ["a"]


def test_a_fault_of_an_override_is_shown_in_its_own_file() -> None:
    first = "rules:\n  - {id: a, expression: open.flags == 0}\n"
    later = "rules:\n\n  - {id: a, combine: override, actions: [set: {name: x, field: no.such.field}]}\n"
    (found,) = problems(first, later)
    assert (found.file, found.line) == ("1", 3)


def test_default_policy_is_loaded_first(tmp_path: Path) -> None:
    """Any other file can override its rules, whatever its name."""
    (tmp_path / "default.policy").write_text("rules:\n  - {id: t, expression: open.flags == 1}\n")
    other = "rules:\n  - {id: t, expression: open.flags == 2, combine: override}\n"
    (tmp_path / "custom.policy").write_text(other)
    assert load([tmp_path]).rules["t"].expression == "open.flags == 2"


def test_macros_merge_and_override() -> None:
    macros = "macros:\n  - {id: A, values: [/x], combine: %s}\n"
    base = (
        "macros:\n  - {id: A, values: [/etc/passwd]}\nrules:\n  - {id: a, expression: open.file.path in A}\n"
    )
    merged = link([("0", base.encode()), ("1", (macros % "merge").encode())])
    taken = link([("0", base.encode()), ("1", (macros % "override").encode())])
    assert [bool(rules.evaluate(opened())) for rules in (merged, taken)] == [True, False]
    assert [bool(rules.evaluate(opened(b"/x"))) for rules in (merged, taken)] == [True, True]


def test_values_stay_texts() -> None:
    """YAML's conversions of no, 6.10 and 1e3 do not change a rule."""
    entry = "{id: 6.10, description: no, tags: {a: 1e3, b: null}, expression: open.flags == 1}"
    found = loads(f"rules:\n  - {entry}\n").rules["6.10"]
    assert (found.description, found.tags) == ("no", {"a": "1e3", "b": "null"})


def test_variables() -> None:
    """One rule sets a variable and another one reads it; a reload clears it."""
    text = """
    rules:
      - id: remember
        expression: open.file.path == "/a"
        silent: true
        actions:
          - set: {name: seen, value: true}
          - set: {name: count, value: 7}
          - set: {name: writer, field: process.comm}
          - set: {name: paths, field: open.file.path, append: true}
          - set: {name: users, field: process.uid, append: true}
      - id: flag
        expression: open.file.path == "/b" && ${seen}
      - id: number
        expression: open.file.path == "/b" && ${count} + 1 == 8
      - id: text
        expression: unlink.file.name == "x-${writer}"
      - id: listed
        expression: unlink.file.path in ${paths}
      - id: user
        expression: unlink.file.path != "/b" && process.uid not in ${users}
    """
    rules = loads(textwrap.dedent(text))
    gone = [Event(EventType.UNLINK, uid=1000, file=File(path)) for path in (b"/a", b"/x-ls")]
    assert [rules.evaluate(event) for event in gone] == [["user"], ["user"]]
    assert rules.evaluate(opened(b"/b")) == []
    assert rules.evaluate(opened(b"/a")) == []  # silent
    assert rules.evaluate(opened(b"/b")) == ["flag", "number"]
    assert [rules.evaluate(event) for event in gone] == [["listed"], ["text"]]


def test_variables_are_typed() -> None:
    text = "rules:\n" + "".join(
        f"  - {{id: {name}, expression: open.flags == 1, actions: [{{set: {{name: v, value: {value}}}}}]}}\n"
        for name, value in (("a", "1"), ("b", "'1'"))
    )
    assert "another type" in problems(text)[0].message
    used = rule("open.file.path == ${v}", "actions: [{set: {name: v, value: 1}}]")
    assert "compared" in problems(used)[0].message


def test_collected_values_are_bounded() -> None:
    rules = loads(
        rule(
            'open.file.path =~ "/**" && open.file.path not in ${p}',
            "actions: [{set: {name: p, field: open.file.path, append: true}}]",
        )
    )
    for number in range(2_500):
        rules.evaluate(opened(b"/%d" % number))
    assert rules.evaluate(opened(b"/2499")) == []
    assert rules.evaluate(opened(b"/1")) == ["a"]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 12)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB.encode(), f"more than {MAX_VALUES} values"),
        (b"[" * 50_000, f"more than {MAX_DEPTH} levels"),
        (b"a: " * 20 + b"\n", "not YAML"),
        (b"- " * 5_000, f"more than {MAX_DEPTH} levels"),
        (b"#" * (MAX_BYTES + 1), "too large: the limit is"),
        (b"rules:\n  - id: a\n    expression: \xff\n", "not UTF-8"),
        (b"rules: [" + b"x," * (MAX_VALUES + 1) + b"]", f"more than {MAX_VALUES} values"),
        (b"rules: [" + b"{id: a}," * 5_000 + b"]", "entries, the limit is"),
        ("rules: []\n\ufffe".encode("utf-16"), "not UTF-8"),
    ],
    ids=["alias bomb", "flow depth", "mappings", "block depth", "size", "bytes", "values", "rules", "utf-16"],
)
def test_hostile_files_are_refused(data: bytes, message: str) -> None:
    assert any(message in problem.message for problem in problems(data))


def test_macro_bombs_are_refused() -> None:
    macros = "macros:\n  - {id: M0, expression: '[1, 2, 3, 4, 5, 6, 7, 8]'}\n" + "".join(
        f"  - {{id: M{at}, expression: '[{', '.join([f'M{at - 1}'] * 8)}]'}}\n" for at in range(1, 15)
    )
    found = problems(macros + "rules:\n  - {id: a, expression: open.flags in M14}\n")
    assert "macros expanded" in found[0].message


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text("rules: -id[]{}&*a'\"\n|>%!#expression.open", max_size=200).map(str.encode)
)
def test_any_file_loads_or_is_refused(data: bytes) -> None:
    try:
        link([("x", data)])
    except RuleErrors as error:
        assert error.problems  # noqa: PT017 - either outcome is right


@given(st.text(max_size=20).filter(str.isprintable))
def test_offsets_of_quoted_scalars(text: str) -> None:
    """The place of each character of a value in the file is found."""
    escaped = "".join(f"\\U{ord(char):08x}" if char in '"\\' else char for char in text)
    source = yaml_source.decode("x", f'k: "{escaped}END"\n'.encode())
    root = yaml_source.read(source)
    assert isinstance(root, Mapping)
    scalar = root.get("k")
    assert isinstance(scalar, Scalar)
    assert source.text[yaml_source.offset(source, scalar, len(text)) :].startswith("END")


def test_default_policy_loads() -> None:
    DEFAULT.chmod(0o644)
    assert len(load([DEFAULT]).rules) >= 25


def test_directories_and_missing_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.policy", "notes.txt"):
        (tmp_path / name).write_text(GOOD.replace("id: a", f"id: {name[0]}"))
        (tmp_path / name).chmod(0o600)
    assert list(load([tmp_path]).rules) == ["a", "b"]
    with pytest.raises(UsageError, match="cannot read"):
        load([tmp_path / "none.yaml"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no rule files"):
        load([tmp_path / "empty"])


def test_files_that_others_can_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(UsageError, match="other users can write it"):
            load([path])
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="other users can write to"):
        load([path])
    tmp_path.chmod(0o700)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        load([tmp_path / "fifo"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to uid 12345"):
        load([path])


@pytest.mark.parametrize(
    "text",
    [
        rule(f"open.retval == {'1' * 5_000}"),
        rule(f"open.retval == 0x{'f' * 15_000}"),
        rule(f"open.retval == {'1' * 5_000}s"),
        rule("open.retval == 18446744073709551616"),
        rule("open.retval == 1", f"every: {'1' * 5_000}s"),
        rule("open.retval == 1", f"actions: [{{set: {{name: x, value: {'1' * 5_000}}}}}]"),
    ],
)
def test_numbers_are_bounded(text: str) -> None:
    """Python refuses to convert thousands of digits; the agent refuses more than 64 bits, with the place."""
    (problem,) = problems(text)
    assert "64 bits" in problem.message
    assert problem.line > 1


def test_depth_is_bounded_with_macros_expanded() -> None:
    """Nested macros cannot exhaust the stack of the checker or of the compiler."""
    chain = [f"  - {{id: m{at}, expression: '{'[' * 40}m{at + 1}{']' * 40}'}}" for at in range(14)]
    macros = "\n".join(["macros:", *chain, "  - {id: m14, expression: '1'}", ""])
    (problem,) = problems(macros + rule("open.retval in m0"))
    assert "nested more than" in problem.message


def test_merging_a_macro_often_does_not_nest_it() -> None:
    entries = [f"  - {{id: m, combine: merge, values: [a{at}]}}" for at in range(3_000)]
    assert loads("\n".join(["macros:", *entries, rule("open.file.name in m")])).rules


def test_comparisons_of_conditions_are_bounded() -> None:
    """Each comparison of two conditions has both of them twice in its code."""
    text = "open.file.in_upper_layer"
    for _ in range(30):
        text = f"(open.file.in_lower_layer == {text})"
    assert "parts" in problems(rule(text))[0].message


def test_a_file_cannot_use_a_large_macro_in_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of all rules together is bounded, not only that of each rule."""
    monkeypatch.setattr("agent.rules.load.MAX_TOTAL_WORK", 50_000)
    macros = f"macros:\n  - {{id: m, values: [{', '.join(f'a{at}' for at in range(30_000))}]}}\nrules:\n"
    rules = "".join(f"  - {{id: r{at}, expression: open.file.name in m}}\n" for at in range(60))
    assert "50000 parts" in problems(macros + rules)[0].message


def test_errors_are_bounded() -> None:
    """The errors of one expression, and those of all files."""
    unknown = " || ".join(f"open.file.x{at} == 1" for at in range(30))
    assert len(problems(rule(unknown))) == 20
    rules = "".join(f"  - {{id: r{at}, expression: open.nope == 1}}\n" for at in range(600))
    assert len(problems(f"rules:\n{rules}")) == 500


def test_the_text_of_a_file_is_not_kept() -> None:
    """A generated file may be large, and each reload brings another one."""
    text = "rules:\n  - {id: a, expression: open.retval == 0}\n"
    loads(text)
    gc.collect()
    tracemalloc.start()
    try:
        rules = loads(text + "# a long comment\n" * 60_000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(rules.rules) == ["a"]
    assert kept < 100_000
