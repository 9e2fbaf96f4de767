"""The Debian package: what lintian says of it, and what is in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli
from harness.host.manifest import file_digest
from harness.run import package as made_from
from tests import ROOT
from tests.packaging.built import build, deb, run


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


@pytest.mark.skipif(shutil.which("lintian") is None, reason="no lintian on this host")
def test_lintian_finds_no_fault(package: Path) -> None:
    """Neither errors nor warnings."""
    done = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_same_sources_make_the_same_package(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == package.read_bytes()


def test_what_it_was_made_from_is_recorded(package: Path) -> None:
    """`harness run` compares it with the tree."""
    record = package.with_name(f"{package.name}{made_from.RECORD}").read_text()
    assert record.split() == [file_digest(package), made_from.sources()]


def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    """The program runs from where it is installed; nothing of the harness is there."""
    run("dpkg-deb", "-x", package, tmp_path)
    assert (tmp_path / "etc/fim-agent/default.policy").read_text() == (
        ROOT / "agent/policies/default.yaml"
    ).read_text()
    for path in (
        "usr/bin/fim-agent",
        "usr/lib/systemd/system/fim-agent.service",
        "etc/logrotate.d/fim-agent",
    ):
        assert (tmp_path / path).is_file()
    assert not list(tmp_path.rglob("*harness*"))
    library = tmp_path / "usr/lib/fim-agent"
    code = f"import sys; sys.path.insert(0, {str(library)!r}); from agent.cli import main; sys.exit(main())"
    policy = tmp_path / "etc/fim-agent/default.policy"
    printed = run(sys.executable, "-c", code, "explain", policy, "--event", "open:/etc/shadow:O_WRONLY")
    assert "result: reported by" in printed


def test_the_manual_has_every_command_and_option(tmp_path: Path) -> None:
    """It is made from the program; a word of it cannot be a request of the formatter."""
    page = deb.manual()
    for command in cli.COMMANDS:
        assert f".SS fim\\-agent {command.name}\n" in page
    assert ".B \\-\\-hash\\-changed\n" in page
    assert ".B \\-\\-for TIME\n" in page
    file = tmp_path / "fim-agent.8"
    file.write_text(page)
    formatted = run("man", "--warnings", "--local-file", file)
    assert "warning" not in formatted
    assert deb._roff(".TH it's -x\n'y") == "\\&.TH it's \\-x\n\\&'y"
