"""`harness bench` refuses what it cannot measure before it prepares anything, and prints earlier figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli
from harness.bench import page
from harness.commands.bench import repeatable
from tests.harness.bench.made import bench, measured, trial


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--monitor", "agnet"], "--monitor agnet: no such name (did you mean 'agent'?)"),
        (["--workload", "nosuch"], "--workload nosuch: no such name"),
        (["--clock", "instructions", "--accelerator", "kvm"], "KVM has no clock that counts instructions"),
        (["--page", "x.md"], "--page needs --from"),
        (["--from", "nosuch"], "nosuch: No such file or directory"),
    ],
)
def test_a_wrong_option_is_one_line(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit code 2."""
    assert cli.main(["bench", "--kernel", "6.1", *words]) == 2
    assert error in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("option", ["--output", "--from", "--page"])
def test_an_empty_path_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the current folder."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "--kernel", "6.1", option, ""])
    assert ended.value.code == 2
    assert f"argument {option}: its value is empty" in capsys.readouterr().err


def test_a_command_line_names_no_folder_of_this_host() -> None:
    words = ["harness", "--debug", "bench", "--output", "/home/x", "--kernel", "6.1", "--output=/y"]
    assert repeatable(words) == ["harness", "bench", "--kernel", "6.1"]


def test_earlier_benches_are_printed_and_made_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bench(trial(1, "none", open=measured(1000)), trial(1, "agent", open=measured(3000)))
    page.save(found, page.folder(tmp_path / "one"))
    words = ["bench", "--from", str(tmp_path / "one"), "--page", str(tmp_path / "cost.md")]
    assert cli.main(words) == 0
    assert "open: open and close\n" in capsys.readouterr().out
    assert (tmp_path / "cost.md").read_text().count("| agent |") == 2
