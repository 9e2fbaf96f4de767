"""What loading leaves out: other files of a directory, and on request entries with errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import RuleErrors
from agent.rules.files import MAX_NOTES
from agent.rules.load import link_good, load
from tests.agent.rules.test_load import GOOD


def test_hidden_files_and_directories_are_no_rule_files(tmp_path: Path) -> None:
    """Each other file that is not read is one line; names that begin with a dot are ignored silently."""
    (tmp_path / "old.policy").mkdir()
    (tmp_path / "b.yaml.bak\n").write_bytes(b"")
    (tmp_path / ".#default.yaml").symlink_to("anna@host.1234")
    (tmp_path / "._default.yaml").write_bytes(b"\0\5\26\7")
    (tmp_path / "a.yaml").write_text("rules:\n  - {id: a, expression: open.flags == 1}\n")
    found = load([tmp_path])
    assert list(found.rules) == ["a"]
    assert found.notes == (
        f"{tmp_path}/b.yaml.bak? is not read: rule files end in .yaml, .yml, .policy",
        f"{tmp_path}/old.policy is not read: it is a directory; name it with --rules to load its files",
    )


def test_the_number_of_lines_about_other_files_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    for number in range(MAX_NOTES + 7):
        (tmp_path / f"{number}.txt").touch()
    notes = load([tmp_path]).notes
    assert len(notes) == MAX_NOTES + 1
    assert notes[-1] == f"7 more in {tmp_path} are not read"


class TestLeaveOut:
    """With `leave_out` the good rules load, and the others are listed with their errors."""

    def left_out(self, *texts: str) -> tuple[list[str], list[str]]:
        """Return the rules that loaded, and the summaries of the errors."""
        found = link_good([(str(at), text.encode()) for at, text in enumerate(texts)])
        return list(found.rules), [problem.summary for problem in found.left_out]

    def test_one_bad_rule_of_many(self) -> None:
        bad = "rules:\n  - {id: b, expression: opn.flags == 1}\n  - {id: c, expression: open.flags == 2}\n"
        assert self.left_out(GOOD, bad) == (["a", "c"], ["1:2:25: unknown field `opn.flags`"])

    @pytest.mark.parametrize(
        "entry",
        [
            "{id: b}",
            "{id: b, expression: open.flags == 1, tag: x}",
            "{id: b, expression: open.flags == 1, every: soon}",
            "{id: b, expression: open.flags == 1, actions: [kill: {}]}",
            "{id: b, expression: open.flags == 1, actions: [set: {name: x, field: no.field}]}",
            "{id: a, expression: open.flags == 1}",
            "{id: a, combine: override, every: soon}",
            "{id: a, disabled: yes}",
            "5",
        ],
    )
    def test_an_entry_is_left_out_as_a_whole(self, entry: str) -> None:
        """Whatever its error; an earlier rule with its id stays unchanged."""
        rules, errors = self.left_out(GOOD, f"rules:\n  - {entry}\n")
        assert rules == ["a"]
        assert {tuple(error.split(":")[:2]) for error in errors} == {("1", "2")}

    def test_entries_that_need_a_bad_one_are_left_out(self) -> None:
        macro = "macros:\n  - {id: M, expression: 'open.flags =='}\nrules:\n  - {id: b, expression: M}\n"
        rules, errors = self.left_out(GOOD, macro)
        assert rules == ["a"]
        assert [error.split(":")[1] for error in errors] == ["2", "4"]
        sets = (
            "rules:\n  - {id: b, expression: no.flags == 1, actions: [set: {name: x, value: 1}]}\n"
            '  - {id: c, expression: "open.flags == ${x}"}\n'
        )
        rules, errors = self.left_out(GOOD, sets)
        assert rules == ["a"]
        assert [error.split(":")[1] for error in errors] == ["2", "3"]

    def test_a_file_that_cannot_be_read_costs_only_its_rules(self) -> None:
        rules, errors = self.left_out(GOOD, "rules: [\n", "rulez: []\n")
        assert rules == ["a"]
        assert [error.split(":")[0] for error in errors] == ["1", "2"]

    def test_files_without_a_good_rule_are_refused(self) -> None:
        with pytest.raises(RuleErrors, match="1 error in rule files"):
            link_good([("0", b"rules:\n  - {id: b}\n")])
        assert link_good([("0", b"rules: []\n")]).rules == {}

    def test_an_error_that_no_entry_causes_is_refused(self) -> None:
        """An alias of `b` has its error in `a`, which is already left out."""
        aliased = GOOD + "  - {id: c, expression: &x opn.flags == 1}\n  - {id: b, expression: *x}\n"
        with pytest.raises(RuleErrors):
            link_good([("0", aliased.encode())])
