"""Headers of exactly the resolved kernel, and of them only the files that a compiler reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.host.cache import Cache
from harness.kernels import Package, ResolvedKernel, fetch_headers, fetcher
from harness.kernels.apt import Apt
from harness.kernels.headers import take
from tests.harness.kernels.conftest import FakeApt

RELEASE = "6.1.0-1-cloud-amd64"
OWN, COMMON = f"linux-headers-{RELEASE}", "linux-headers-6.1.0-1-common"
KERNEL = ResolvedKernel(
    "k", "6.1", RELEASE, "amd64", "bookworm", (Package("linux-image", "6.1.5-1", "0", 1, "x"),)
)


def stanza(name: str, version: str, depends: str = "") -> dict[str, str]:
    """The entry of a package in an index."""
    return {
        "package": name,
        "version": version,
        "sha256": f"{name} {version}",
        "size": "1",
        "filename": f"{name}.deb",
        "depends": depends,
    }


def unpacked(tree: Path) -> Path:
    """Make two packages with their layout, and with files that no header includes."""
    for name in (OWN, COMMON):
        for part in ("include/linux", "arch/x86/include/asm", "arch/arm64/include", "scripts"):
            (tree / "usr/src" / name / part).mkdir(parents=True)
        (tree / "usr/src" / name / "include/linux/fs.h").write_text(name)
    return tree


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The content of the fake archive, which a test may change."""
    listed = [
        stanza(OWN, "6.1.5-1", f"{COMMON} (= 6.1.5-1), linux-kbuild-6.1"),
        stanza(OWN, "6.1.6-1", f"{COMMON} (= 6.1.6-1)"),
        stanza(COMMON, "6.1.6-1"),
        stanza(COMMON, "6.1.5-1"),
    ]
    monkeypatch.setattr(Apt, "refresh", lambda *_: None)
    monkeypatch.setattr(Apt, "show", lambda _, names: [one for one in listed if one["package"] in names])
    monkeypatch.setattr(fetcher, "unpacked", lambda _kernel, _repositories, scratch, _: unpacked(scratch))
    return listed


def test_headers_are_of_exactly_the_kernel(
    index: list[dict[str, str]], fake_apt: FakeApt, tmp_path: Path
) -> None:
    """Both packages have the kernel's own version and not the newest; no other file is kept."""
    found = fetch_headers(KERNEL, Cache(tmp_path), repositories=fake_apt.repositories())
    assert [(one.name, one.version) for one in found.packages] == [(OWN, "6.1.5-1"), (COMMON, "6.1.5-1")]
    assert (found.folder / "build/include/linux/fs.h").read_text() == OWN
    assert (found.folder / "source/include/linux/fs.h").read_text() == COMMON
    assert sorted(path.name for path in (found.folder / "source").iterdir()) == ["arch", "include"]
    assert [path.name for path in (found.folder / "source/arch").iterdir()] == ["x86"]


@pytest.mark.parametrize("gone", [0, 3])
def test_headers_that_are_gone_are_an_error(
    index: list[dict[str, str]], fake_apt: FakeApt, tmp_path: Path, gone: int
) -> None:
    """No other version of a package is a replacement."""
    del index[gone]
    with pytest.raises(InfrastructureError, match=f"bookworm has no {OWN} 6.1.5-1"):
        fetch_headers(KERNEL, Cache(tmp_path), repositories=fake_apt.repositories())


def test_an_unknown_layout_of_a_package_is_an_error(tmp_path: Path) -> None:
    """The error names the package and the missing path."""
    packages = tuple(Package(name, "1", "0", 1, "x") for name in (OWN, COMMON))
    with pytest.raises(InfrastructureError, match=f"{OWN} has no folder include"):
        take(tmp_path / "usr/src", packages, "x86", tmp_path)
