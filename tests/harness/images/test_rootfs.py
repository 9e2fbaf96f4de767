"""The root image: what its key depends on, and how Python is compiled in it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from harness.host import resources
from harness.host.cache import Cache
from harness.host.progress import Event
from harness.images import erofs, root_image, rootfs
from harness.kernels import Repositories
from harness.kernels.apt import Apt
from harness.kernels.mirrors import Mirrors

MIRRORS = Mirrors("http://main.example", "http://security.example", Path("/keyring.gpg"))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The architectures that a fake mmdebstrap built; apt resolves to one package."""
    built: list[str] = []

    def unpack(apt: Apt, names: tuple[str, ...], kept: tuple[str, ...], scratch: Path) -> Path:
        built.append(apt.arch)
        assert "python3" in names
        assert ("python3-bpfcc" in names or "bpftrace" in names) == bool(kept)
        return scratch

    monkeypatch.setattr(Apt, "refresh", lambda self, progress: None)
    monkeypatch.setattr(Apt, "closure", lambda self, names: [f"python3_{len(built)}.deb 0"])
    monkeypatch.setattr(rootfs, "_unpack", unpack)
    monkeypatch.setattr(erofs, "make", lambda image, *_, **__: image.write_bytes(b"image"))
    return built


def test_a_root_is_made_again_only_when_a_package_changes(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repositories = Repositories(tmp_path / "apt", MIRRORS)
    first = root_image("amd64", Cache(tmp_path), repositories=repositories)
    assert first.packages == ("python3_0.deb 0",)
    monkeypatch.setattr(Apt, "closure", lambda self, names: ["python3_0.deb 0"])
    assert root_image("amd64", Cache(tmp_path), repositories=repositories) == first
    monkeypatch.setattr(Apt, "closure", lambda self, names: ["python3_9.deb 0"])
    assert root_image("amd64", Cache(tmp_path), repositories=repositories).digest != first.digest
    assert builds == ["amd64", "amd64"]


def test_a_root_with_more_packages_is_another_image(builds: list[str], tmp_path: Path) -> None:
    """Ordinary machines boot without these packages, also if apt resolves to the same ones."""
    repositories = Repositories(tmp_path / "apt", MIRRORS)
    images = [
        root_image("amd64", Cache(tmp_path), repositories=repositories, extra=extra)
        for extra in ("", "compiler", "bench")
    ]
    assert len({image.digest for image in images}) == len(images)


@pytest.mark.parametrize("extra", [rootfs.COMPILER, rootfs.MONITORS])
def test_files_kept_in_a_larger_root_are_removed_from_other_roots(extra: str) -> None:
    """Each path that is kept for the compiler or the monitors is one that other roots remove."""
    assert set(resources.words(f"{extra}-includes.txt")) <= set(resources.words("guest-excludes.txt"))


def test_bytecode_in_the_image_does_not_depend_on_file_times(tmp_path: Path) -> None:
    library = tmp_path / f"usr/lib/python3.{sys.version_info.minor}"
    library.mkdir(parents=True)
    (tmp_path / "usr/lib/python3").mkdir()
    (library / "thing.py").write_text("x = 1\n")
    rootfs.compile_python(tmp_path)
    compiled = Path(importlib.util.cache_from_source(str(library / "thing.py"))).read_bytes()
    unchecked_hash = 0b01
    assert int.from_bytes(compiled[4:8], "little") == unchecked_hash


def test_a_guest_python_other_than_the_hosts_is_reported(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/python3.99").mkdir(parents=True)
    lines: list[Event] = []
    rootfs.compile_python(tmp_path, lines.append)
    assert lines == ["no python3.99 on this host: each guest compiles its Python modules, which is slow"]


def test_lists_have_comments_and_no_duplicates() -> None:
    for name in ("guest-packages.txt", "compiler-packages.txt", "bench-packages.txt", "boot-modules.txt"):
        words = resources.words(name)
        assert words
        assert len(set(words)) == len(words)
        assert not any(" " in word or "#" in word for word in words)


def test_modes_in_a_guest_do_not_depend_on_the_checkout(tmp_path: Path) -> None:
    """A checkout and a build under umask 077 give the same modes."""
    source, tree = tmp_path / "source", tmp_path / "tree"
    (source / "etc/ssh").mkdir(parents=True, mode=0o700)
    (source / "etc").chmod(0o700)
    for name, mode in (("etc/ssh/config", 0o600), ("init", 0o700)):
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (tree / "etc").mkdir(parents=True)
    before = os.umask(0o077)
    try:
        rootfs.add_files(source, tree)
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tree)): path.stat().st_mode & 0o777 for path in tree.rglob("*")}
    assert modes == {"etc": 0o755, "etc/ssh": 0o755, "etc/ssh/config": 0o644, "init": 0o755}
