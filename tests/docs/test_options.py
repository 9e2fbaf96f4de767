"""Every option that a page names belongs to the program that it describes, spelt in full."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli as agent_cli
from harness import cli as harness_cli
from harness.run.options import ALL
from tests import ROOT
from tests.docs import pages
from tests.docs.pages import PAGES

AGENT = {command.name for command in agent_cli.COMMANDS}
# Options of other programs, which pages use as examples, and one that pytest's help writes as --junit-xml.
OTHERS = {"--version", "--width", "--junitxml"}
_SPAN = re.compile(r"`([^`\n]*--[a-z][^`\n]*)`")
_OPTION = re.compile(r"--[a-z][a-z-]*")
# What a page writes where a reader puts a word of his own: `--deadline TIME`, `--shard I/N`.
_PLACEHOLDER = re.compile(r"\b[A-Z]{1,}(?:/[A-Z]+)?\b|\.\.\.")


def options_of(program: str, command: str) -> set[str]:
    """Return the long options of `harness COMMAND` or `agent COMMAND`, also those of its own sub-commands."""
    whole = agent_cli._parser([command]) if program == "agent" else harness_cli.parser([command])
    return set(_options(_sub(whole)[command]))


def _sub(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return {name: sub for action in actions for name, sub in action.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    own = [word for action in parser._actions for word in action.option_strings]
    return own + [word for sub in _sub(parser).values() for word in _options(sub)]


def of_campaign(name: str) -> set[str]:
    """Return the options of the program behind `make faults`, `make mutants` or `make law`."""
    text = "\n".join(path.read_text() for path in (ROOT / "tests/campaigns" / name).glob("*.py"))
    booted = options_of("harness", "exec") if "booted.configure(" in text else set()
    return booted | set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text))


@functools.cache
def of_pytest() -> set[str]:
    """Return the options of pytest with the plugin of this project."""
    argv = [sys.executable, "-m", "pytest", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(re.findall(r"--[a-z][a-z-]*[a-z]", done.stdout))


@functools.cache
def every_option() -> set[str]:
    """Return the options of all programs of this tree, and of pytest with its plugin."""
    ours = [("harness", name) for name in harness_cli.COMMANDS] + [("agent", name) for name in AGENT]
    return of_campaign("faults").union(
        of_campaign("mutants"), of_campaign("law"), of_pytest(), *(options_of(*one) for one in ours)
    )


def wrong(line: str, known: set[str]) -> list[str]:
    """Return the options of a command line, or of a part of one, that its program does not have."""
    words = line.partition(" -- ")[0].split()
    program = words[0].rpartition("/")[2] if words else ""
    named = [option for word in words for option in _OPTION.findall(word)]
    if program in ("harness", "agent") and len(words) > 1 and words[1] in {*harness_cli.COMMANDS, *AGENT}:
        known = options_of(program, words[1])
    if words[:2] in (["make", "faults"], ["make", "mutants"], ["make", "law"]):
        known = of_campaign(words[1])
    return [option for option in named if not _has(known | OTHERS, option)]


def _has(known: set[str], option: str) -> bool:
    """Return whether an option exists; `--matrix-NAME` stands for all with that beginning."""
    return any(one.startswith(option) for one in known) if option.endswith("-") else option in known


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_options_in_the_text_are_options(path: Path) -> None:
    """Spelt in full, because an abbreviation becomes ambiguous with the next option."""
    known = every_option()
    spans = _SPAN.findall(pages.prose(path.read_text()))
    assert {span: found for span in spans if (found := wrong(span, known))} == {}


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_options_in_lines_to_paste_are_spelt_in_full(path: Path) -> None:
    """The parser itself would accept abbreviations."""
    known = every_option()
    lines = [shlex.join(words) for words in pages.lines(path.read_text())]
    ours = [line for line in lines if re.match(r"\S*(?:harness|agent) ", line)]
    assert {line: found for line in ours if (found := wrong(line, known))} == {}


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_commands_in_the_text_parse(path: Path) -> None:
    """Commands of the harness without a placeholder parse; `agent run` is named without its rules."""
    refused = []
    for span in re.findall(r"`(harness [^`\n]+)`", pages.prose(path.read_text())):
        words = shlex.split(span.partition(" > ")[0])
        if words[1] in harness_cli.COMMANDS and not _PLACEHOLDER.search(span) and _OPTION.search(span):
            try:
                harness_cli.parser([words[1]]).parse_args(words[1:])
            except SystemExit:
                refused.append(span)
    assert refused == []


def test_options_without_a_name_in_pytest_are_listed() -> None:
    """The README says which options of `harness run` no option `--matrix-NAME` stands for."""
    elsewhere = {"--help", "--matrix", "--part", "--workers"}  # of pytest, its argument, hidden, -n
    own = options_of("harness", "run") - {option.flag for option in ALL} - elsewhere - {"-h", "-n"}
    text = (ROOT / "README.md").read_text().partition("as pytest items")[2].partition("```")[0]
    assert {option for option in _SPAN.findall(text) if not option.endswith("-NAME")} == own


def test_a_wrong_option_is_found() -> None:
    """An abbreviation, one of another command, and one that no longer exists."""
    known = every_option()
    assert wrong("agent run --hash --rules FILE", known) == ["--hash"]
    assert wrong("harness plan --watch", known) == ["--watch"]
    assert wrong("--gone", known) == ["--gone"]
    assert wrong("harness run --deadline TIME -- --gone", known) == []
