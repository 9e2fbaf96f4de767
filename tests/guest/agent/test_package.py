"""The Debian package in a root of its own: installed, upgraded, removed and purged by dpkg."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.packaging.built import build, run

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


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
