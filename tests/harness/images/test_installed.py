"""The root of an installed Debian: what its key depends on, and what is in it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import get_args

import pytest

from harness.host import resources
from harness.host.cache import Cache
from harness.images import erofs, installed_root, rootfs
from harness.kernels import Repositories, catalogue
from harness.kernels.apt import Apt
from harness.kernels.mirrors import Mirrors
from harness.plan.matrix import Root

MIRRORS = Mirrors("http://main.example", "http://security.example", Path("/keyring.gpg"))
FILES = ("etc/apt/sources.list", "etc/apt/sources.list.d/x.list", "var/lib/dpkg/status", "usr/share/doc/x/y")


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The files of each root that a fake mmdebstrap made."""
    made: list[set[str]] = []

    def bootstrap(apt: Apt, options: list[str], archive: Path, scratch: Path) -> None:
        assert "--variant=minbase" in options
        with tarfile.open(archive, "w") as tar:
            for name in FILES:
                tar.addfile(tarfile.TarInfo(f"./{name}"))

    def make(image: Path, tree: Path, *_: object, times: bool, **__: object) -> None:
        assert times
        made.append({str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()})
        image.write_bytes(b"image")

    monkeypatch.setattr(Apt, "refresh", lambda self, progress: None)
    monkeypatch.setattr(Apt, "closure", lambda self, names: [f"systemd_1_{self.suites[0]}.deb 0"])
    monkeypatch.setattr(rootfs, "bootstrap", bootstrap)
    monkeypatch.setattr(erofs, "make", make)
    return made


def test_it_has_a_database_and_no_sources(trees: list[set[str]], tmp_path: Path) -> None:
    """The guest has no network; a suite brings its own repository."""
    root = installed_root("debian-12", Cache(tmp_path), repositories=Repositories(tmp_path / "apt", MIRRORS))
    assert root.packages == ("systemd_1_bookworm.deb 0",)
    (found,) = trees
    assert "var/lib/dpkg/status" in found
    assert not found & {"etc/apt/sources.list", "etc/apt/sources.list.d/x.list", "usr/share/doc/x/y"}
    assert "etc/systemd/system/fim-init.service" in found


def test_each_release_is_an_image_of_its_own(trees: list[set[str]], tmp_path: Path) -> None:
    """Each is made once."""
    repositories = Repositories(tmp_path / "apt", MIRRORS)
    names = [*catalogue.INSTALLED, *catalogue.INSTALLED]
    digests = [installed_root(name, Cache(tmp_path), repositories=repositories).digest for name in names]
    assert len(set(digests)) == len(trees) == len(catalogue.INSTALLED)


def test_the_matrix_knows_each_release() -> None:
    """The schema of the matrix has the names of the table."""
    assert {*get_args(Root)} == {"", *catalogue.INSTALLED}


def test_paths_kept_in_it_are_removed_from_other_roots() -> None:
    """A misspelt path would keep nothing."""
    kept = resources.words("debian-includes.txt")
    assert set(kept) <= set(resources.words("guest-excludes.txt"))


def test_a_masked_unit_is_an_empty_file() -> None:
    """Systemd masks a unit whose file is empty; what starts the harness's entry is not."""
    folder = resources.FOLDER / "debian-root/etc/systemd/system"
    empty = {path.name for path in folder.iterdir() if path.is_file() and not path.stat().st_size}
    assert "ssh.service" in empty
    assert "fim-init.service" not in empty
