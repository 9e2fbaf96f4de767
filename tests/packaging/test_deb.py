"""The Debian package: what lintian says of it, what is in it, and its life in a root of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import cli
from tests import ROOT

spec = importlib.util.spec_from_file_location("deb", ROOT / "packaging/deb.py")
assert spec is not None
assert spec.loader is not None
deb = importlib.util.module_from_spec(spec)
spec.loader.exec_module(deb)

MAINTAINER = {"DEBFULLNAME": "Builder", "DEBEMAIL": "builder@fim-harness.invalid"}
TOOLS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def run(*argv: str | Path) -> str:
    return subprocess.run(
        argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built once."""
    folder = tmp_path_factory.mktemp("deb")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**MAINTAINER, "PATH": TOOLS}.items():
            patch.setenv(name, value)
        built: Path = deb.build(folder)
        return built


@pytest.mark.skipif(shutil.which("lintian") is None, reason="no lintian on this host")
def test_lintian_finds_no_fault(package: Path) -> None:
    """Neither errors nor warnings."""
    done = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_same_sources_make_the_same_package(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**MAINTAINER, "PATH": TOOLS}.items():
        monkeypatch.setenv(name, value)
    assert deb.build(tmp_path).read_bytes() == package.read_bytes()


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


class Root:
    """A Debian root, in which packages are installed by chroot. It has no running systemd."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        packages = "--include=python3-yaml,libbpf1,init-system-helpers"
        run("mmdebstrap", "--variant=minbase", packages, suite, folder)

    def dpkg(self, *words: str) -> str:
        return run("chroot", self.folder, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words)

    def install(self, package: Path, *options: str) -> str:
        shutil.copy(package, self.folder / "root/new.deb")
        return self.dpkg("--install", *options, "/root/new.deb")

    def left(self) -> Sequence[Path]:
        """Return all files and folders that carry the package's name, apart from dpkg's own records."""
        found = (path for path in self.folder.rglob("*fim-agent*") if "proc" not in path.parts)
        return [path.relative_to(self.folder) for path in found if path.parts[-2:] != ("root", "new.deb")]


def changed(package: Path, folder: Path) -> Path:
    """Return a package of a later version with another default policy."""
    run("dpkg-deb", "-R", package, folder / "tree")
    control = folder / "tree/DEBIAN/control"
    control.write_text(control.read_text().replace("Version: ", "Version: 9"))
    with (folder / "tree/etc/fim-agent/default.policy").open("a") as policy:
        policy.write("# of the new version\n")
    run("dpkg-deb", "--root-owner-group", "-b", folder / "tree", folder / "later.deb")
    return folder / "later.deb"


@pytest.mark.guest
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_it_installs_upgrades_and_purges(package: Path, tmp_path: Path, suite: str) -> None:
    """A configuration file that the administrator changed stays; a purge leaves nothing."""
    root = Root(tmp_path / "root", suite)
    before = root.left()
    root.install(package)
    assert "agent 0." in run("chroot", root.folder, "fim-agent", "--version")
    assert (root.folder / "etc/systemd/system/multi-user.target.wants/fim-agent.service").is_symlink()
    assert "result: reported by" in run(
        "chroot",
        root.folder,
        "fim-agent",
        "explain",
        "/etc/fim-agent",
        "--event",
        "open:/etc/shadow:O_WRONLY",
    )
    policy = root.folder / "etc/fim-agent/default.policy"
    with policy.open("a") as file:
        file.write("# mine\n")
    for folder in ("var/log/fim-agent", "var/lib/fim-agent"):
        (root.folder / folder).mkdir()
        (root.folder / folder / "x").touch()
    root.install(changed(package, tmp_path), "--force-confold")
    assert policy.read_text().endswith("# mine\n")
    assert policy.with_suffix(".policy.dpkg-dist").read_text().endswith("# of the new version\n")
    root.dpkg("--remove", "fim-agent")
    assert policy.exists()
    assert not (root.folder / "usr/lib/fim-agent").exists()
    root.dpkg("--purge", "fim-agent")
    assert root.left() == before
