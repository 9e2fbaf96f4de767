"""What the README says can be done: commands parse, links lead somewhere, its table is the contract."""

from __future__ import annotations

import re
import shlex

import pytest

from harness import cli, errors
from tests import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
HARNESS = [shlex.split(line)[1:] for line in LINES if line.startswith(".venv/bin/harness")]


@pytest.mark.parametrize("words", HARNESS, ids=" ".join)
def test_harness_commands_parse(words: list[str]) -> None:
    """Every command line of the README is one."""
    arguments = cli.parser().parse_args(words)
    assert arguments.command == words[0]


def test_make_targets_exist() -> None:
    """`make X` is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", "\n".join(LINES), flags=re.MULTILINE))
    assert {"matrix", "test"} <= named <= targets


def test_links_lead_somewhere() -> None:
    """No link to a page that is not there."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_exit_codes_are_the_contract() -> None:
    """The table of exit codes agrees with the errors that carry them."""
    table = dict(re.findall(r"^\| (\d) \| (.+?) \|$", README, flags=re.MULTILINE))
    assert set(table) == {"0", "1", "2", "3", "4"}
    raised = (errors.ProductError, errors.ConfigError, errors.InfrastructureError, errors.IncompleteError)
    words = ("product failed", "command line", "infrastructure failed", "incomplete")
    for error, word in zip(raised, words, strict=True):
        assert word in table[str(error.exit_code)]
