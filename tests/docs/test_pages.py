"""Every page: its links have targets, its lines can be pasted, and the files that it names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from agent import cli as agent_cli
from agent.selftest.catalogue import by_name
from harness import cli as harness_cli
from harness import errors
from tests import ROOT
from tests.docs import pages
from tests.docs.pages import PAGES
from tests.test_architecture import LAYERS

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
TARGETS |= {f"build-{arch}" for arch in ("amd64", "arm64")}  # made by a template of the Makefile
OF_KERNELS = {"kvm_guest.config", "olddefconfig", "tar-pkg"}  # targets of a kernel's own Makefile
# Examples of what one would call a thing that is not there.
PROGRAMS = ("harness ", "agent ", "make ")
EXAMPLES = re.compile(r"[A-Z]{3,}")


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_links_lead_somewhere(path: Path) -> None:
    """The files exist, and so do the headings that links name."""
    for link in pages.links(path.read_text()):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in pages.anchors(target.read_text()), link


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_lines_can_be_typed(path: Path) -> None:
    """Each call of a program parses, and each make target exists."""
    for words in pages.lines(path.read_text()):
        program = words[0].rpartition("/")[2]
        if program == "harness":
            harness_cli.parser().parse_args(words[1:])
        elif program == "agent":
            agent_cli._parser(words[1:]).parse_args(words[1:])
        elif program == "make" and words[1:2] != ["-C"]:
            assert set(words[1:2]) <= TARGETS | OF_KERNELS, words
        elif program == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if "/" in word or word.endswith(".yaml"))


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_targets_in_the_text_exist(path: Path) -> None:
    """`make bench` in a sentence is a rule of the Makefile, or one of the kernel's."""
    named = set(re.findall(r"`make ([a-z][a-z0-9_.-]*)", pages.prose(path.read_text())))
    assert named - TARGETS - OF_KERNELS == set()


def test_each_target_has_a_rule() -> None:
    """A name in .PHONY without a rule is "nothing to be done", with exit code 0."""
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)[0]
    assert set(phony.split()) - set(re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE)) == set()


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_files_that_are_named_exist(path: Path) -> None:
    """Code that looks like a file of the tree is one."""
    named = re.findall(
        r"`((?:agent|bpf|docs|examples|harness|images|packaging|scripts|tests)/[^`\s*]*)`", path.read_text()
    )
    absent = [
        word for word in named if not EXAMPLES.search(word) and not (ROOT / word.partition("::")[0]).exists()
    ]
    assert absent == []


@pytest.mark.parametrize("path", PAGES, ids=pages.name)
def test_tests_that_are_cited_exist(path: Path) -> None:
    """`FILE::TEST` is a test of that file; a name after `scenario` is in the catalogue."""
    text = path.read_text()
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert re.search(rf"^ *def {test}\(", (ROOT / file).read_text(), flags=re.MULTILINE), test
    for scenario in re.findall(r"scenario `([\w.]+)`", text):
        assert by_name(scenario), scenario


SECTIONS = re.split(r"^## ", pages.prose((ROOT / "docs/extending.md").read_text()), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_extending_leads_to_the_right_files(section: str) -> None:
    """Each name that is to be changed is in a file of its section; NAME and FAMILY are placeholders."""
    spans = re.findall(r"`([^`]+)`", section)
    files = [ROOT / span for span in spans if "/" in span and not re.search("NAME|FAMILY| ", span)]
    text = "".join(file.read_text() for file in files if file.is_file())
    names = {span.partition("(")[0] for span in spans if re.fullmatch(r"(?!NAME)[A-Za-z_ ]+(\(.*)?", span)}
    assert files
    assert {name for name in names if not name.startswith(PROGRAMS) and name not in text} == set()


def test_security_names_a_test_for_each_defence() -> None:
    """Each row has a test or a scenario."""
    rows = re.findall(r"^\| (?!attack|-)(.+) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    rows = [row for row in rows if not set(row) <= set("-| ")]
    assert len(rows) >= 30
    assert [row for row in rows if "::" not in row.rpartition(" | ")[2] and "scenario" not in row] == []


def test_pages_are_found_from_the_readme() -> None:
    """Each page is linked from the README, or from a page that it links to."""
    linked = _linked(ROOT / "README.md")
    linked |= {page for one in linked if one.suffix == ".md" for page in _linked(one)}
    assert [pages.name(path) for path in PAGES if path not in linked and path.name != "README.md"] == []


def _linked(path: Path) -> set[Path]:
    found = (link.partition("#")[0] for link in pages.links(path.read_text()) if "://" not in link)
    return {(path.parent / file).resolve() for file in found if file}


def test_the_programs_in_the_kernel_have_both_licences() -> None:
    """The first line of each file of bpf/ has them, as in the kernel's own files; the object declares one."""
    files = subprocess.run(["git", "ls-files", "bpf"], cwd=ROOT, capture_output=True, text=True, check=True)
    first = {name: (ROOT / name).read_text().partition("\n")[0] for name in files.stdout.split()}
    wanted = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
    assert len(first) > 20
    assert [name for name, line in first.items() if wanted not in line] == []
    assert 'SEC("license") = "Dual BSD/GPL"' in (ROOT / "bpf/fim.bpf.c").read_text()


def test_exit_codes_are_the_contract() -> None:
    """The table of the README has the exit code of each error of the harness with its meaning."""
    table = dict(re.findall(r"^\| (\d) \| (.+?) \|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    raised = (errors.ProductError, errors.ConfigError, errors.InfrastructureError, errors.IncompleteError)
    words = ("product failed", "command line", "infrastructure failed", "incomplete")
    assert set(table) == {"0", *(str(error.exit_code) for error in raised)}
    for error, word in zip(raised, words, strict=True):
        assert word in table[str(error.exit_code)]


def test_the_architecture_page_has_every_layer_and_package() -> None:
    """The page lists the layers that the tree is held to, and has a row for each package."""
    text = (ROOT / "docs/architecture.md").read_text()
    for program, layers in LAYERS.items():
        words = " < ".join(layer for layer in layers if layer != "__main__")
        assert re.search(rf"^{program}: +{re.escape(words)}$", text, flags=re.MULTILINE), words
        packages = {path.parent.name for path in (ROOT / program).glob("*/__init__.py")}
        assert set(re.findall(rf"^\| `{program}/(\w+)` \|", text, flags=re.MULTILINE)) == packages


def test_pictures_are_small_and_have_a_description() -> None:
    """A page loads quickly, and its text describes the picture."""
    for path in PAGES:
        for words, file in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text()):
            assert len(words) > 20, file
            assert (path.parent / file).stat().st_size < 200 << 10, file


def test_the_drawing_is_for_light_and_dark() -> None:
    """It is valid, has a description, and has colours for both."""
    text = (ROOT / "docs/architecture.svg").read_text()
    root = ET.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}desc") is not None
    assert "prefers-color-scheme: dark" in text
