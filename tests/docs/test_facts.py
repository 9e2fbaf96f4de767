"""Tables, figures and examples of pages that repeat facts of the code."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import errors
from agent.cli import BROKEN_PIPE, INTERRUPTED
from agent.selftest import catalogue
from agent.sinks import dispatch, explain
from harness.kernels import configuration
from harness.plan import checked
from harness.plan.cells import fits
from harness.plan.matrix import Kernel
from harness.report.shared import evidence
from harness.results import folder
from harness.run import cell, slot
from harness.vm import restart
from tests import ROOT
from tests.docs import pages
from tests.docs.pages import PAGES

DOCS = ROOT / "docs"
# Options of a kernel that follow from others and from the architecture.
DERIVED = {"DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "HAVE_FTRACE_GRAPH_FUNC"}
SINKS = 4  # a file, OTLP, syslog and the journal


def section(page: str, head: str) -> str:
    """Return the text of a section of a page in docs/, up to the next heading of its level or above."""
    rest = (DOCS / page).read_text().partition(f"{head}\n")[2]
    return re.split(rf"^#{{1,{head.count('#')}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def globs_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the matrix and the glob of each `--test` of a command line of `harness`."""
    text = path.read_text()
    spans = map(shlex.split, re.findall(r"`(harness [^`\n]+)`", pages.prose(text)))
    for words in [*pages.lines(text), *spans]:
        if words[0].endswith("harness"):
            following = list(itertools.pairwise(words))
            matrix = next((word for option, word in following if option == "--matrix"), "matrix.yaml")
            yield from ((matrix, word) for option, word in following if option == "--test")


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_tests_that_a_command_names_are_in_its_matrix(path: Path) -> None:
    """A suite's command is a test only of the matrix that declares the suite."""
    for matrix, glob in set(globs_of(path)):
        suites = [suite.test for suite in checked.load(ROOT / matrix).suites]
        assert not catalogue.unknown([glob]) or any(fits(name, (glob,)) for name in suites) or glob.isupper()


@pytest.mark.parametrize("path", [ROOT / "README.md", DOCS / "extending.md"], ids=pages.name)
def test_the_kernel_to_add_can_be_added(path: Path) -> None:
    """Its name is not one of the matrix."""
    names = {kernel.name for kernel in checked.load(ROOT / "matrix.yaml").kernels}
    blocks = map(yaml.safe_load, pages.blocks(path.read_text(), "yaml"))
    (entries,) = (block["kernels"] for block in blocks)
    assert [Kernel.model_validate(entry).name for entry in entries if entry["name"] in names] == []


def test_the_options_for_a_kernel_of_ones_own_are_those_that_decide() -> None:
    """They are those of the promises, and each is set where the agent is known to work."""
    lines = pages.blocks((DOCS / "kernels.md").read_text(), "sh")
    named = set(re.findall(r" -e (\w+)", "".join(line for line in lines if "scripts/config" in line)))
    base = (ROOT / "images/configs/base.config").read_text()
    assert named - set(re.findall(r"^CONFIG_(\w+)=y", base, re.MULTILINE)) == set()
    decisive = {option.removeprefix("CONFIG_") for some in configuration.OPTIONS.values() for option in some}
    assert decisive - named == DERIVED


def test_the_results_page_has_the_files_of_a_run() -> None:
    """Those of a cell too, with the folders of machines that were replaced."""
    text = (DOCS / "results.md").read_text().partition("\n## ")[0]
    of_cell = {*evidence.FILES, slot.AGENT_LOG, slot.COMMAND_LOG, cell.ATTACH, f"{restart.FIRST}/"}
    names = {f"cells/<cell>/{name}" for name in of_cell} | {"plan.json", folder.TRACEBACK, *folder.REPORTS}
    assert {name for name in names if f"| `{name}` |" not in text} == set()


def test_the_tags_of_scenarios_are_described() -> None:
    text = section("selftest.md", "## Scenarios")
    tags = {tag for scenario in catalogue.CATALOGUE for tag in scenario.tags}
    assert set(re.findall(r"^- `(\w+)`: ", text, re.MULTILINE)) == tags


def test_exit_codes_of_the_agent_are_described() -> None:
    """The table has the code of each error, of success, and of the signals that end a command."""
    rows = dict(
        re.findall(r"^\| ([\d, ]+) \| (.+) \|$", section("operations.md", "### Exit codes"), re.MULTILINE)
    )
    raised = (errors.AgentError, errors.UsageError, errors.KernelError, errors.MinimumNotMetError)
    codes = {0, INTERRUPTED, BROKEN_PIPE, *(error.exit_code for error in raised)}
    assert {int(code) for words in rows for code in words.split(", ")} == codes


def test_the_ceiling_of_memory_is_the_sum_of_its_parts() -> None:
    """Of each part the most; the queue is counted for each sink."""
    text = section("operations.md", "## Memory")
    rows = re.findall(r"^\| (?!what|---)(.+?) \| (.+) \|$", text, re.MULTILINE)
    most = {name: max(map(int, re.findall(r"(\d+) MiB", words))) for name, words in rows}
    queue = most.pop("queues")
    assert queue << 20 == dispatch.QUEUE_BYTES + dispatch.OWN_BYTES
    assert explain.MAX_HELD_BYTES >> 20 in most.values()
    rest = sum(most.values())
    assert f"{rest} MiB and {queue} MiB for each sink, {rest + SINKS * queue} MiB with all four" in text


def loaded(path: str) -> dict[str, Any]:
    return dict(yaml.load((ROOT / ".github" / path).read_text(), yaml.BaseLoader))


def test_the_jobs_of_the_night_are_described() -> None:
    """Each with its limit in minutes."""
    text = section("ci.md", "## Every night in your own repository")
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (\d+) \|$", text, re.MULTILINE))
    assert rows == {
        name: job["timeout-minutes"] for name, job in loaded("workflows/nightly.yml")["jobs"].items()
    }


def test_the_action_is_described_and_used_as_it_is() -> None:
    """The example is a whole workflow, with the pinned checkout of this repository's own."""
    text = section("ci.md", "## Your own program")
    inputs = loaded("actions/harness/action.yml")["inputs"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", text, re.MULTILINE))
    assert rows == {name: f"`{one['default']}`" if one["default"] else "none" for name, one in inputs.items()}
    (workflow,) = (yaml.load(block, yaml.BaseLoader) for block in pages.blocks(text, "yaml"))
    (job,) = workflow["jobs"].values()
    assert (workflow["permissions"], job["runs-on"]) == ({}, "ubuntu-24.04")
    checkout, _build, action = job["steps"]
    assert checkout == loaded("workflows/ci.yml")["jobs"]["lint"]["steps"][0]
    assert set(action["with"]) <= set(inputs)
