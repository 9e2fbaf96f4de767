"""The files of packages in dpkg's database, also if it is damaged or hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.context.dpkg import Dpkg
from agent.context.packages import Owned

SUM, OTHER = "0123456789abcdef" * 2, "f" * 32


class Folder:
    """A database to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for folder in ("info", "updates"):
            (path / folder).mkdir(parents=True)
        self.dpkg = Dpkg(path)
        self.package("openssl", "3.0.17-1~deb12u2", f"{SUM}  usr/bin/openssl\n")

    def package(
        self, name: str, version: str, sums: str, state: str = "installed", file: str = "", more: str = ""
    ) -> None:
        (self.path / "info" / f"{name}.md5sums").write_text(sums)
        plain, _, architecture = name.partition(":")
        with (self.path / (file or "status")).open("a") as status:
            status.write(
                f"Package: {plain}\nStatus: install ok {state}\nArchitecture: {architecture or 'amd64'}\n"
                f"Version: {version}\n{more}Description: x\n Package: evil\n\n"
            )

    def owned(self, *paths: bytes, since_ns: int = 0) -> dict[bytes, Owned]:
        return self.dpkg.owned(paths, since_ns)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "dpkg")


def test_a_file_of_a_package(folder: Folder) -> None:
    owned = {b"/usr/bin/openssl": Owned("openssl 3.0.17-1~deb12u2", "md5", SUM)}
    assert folder.owned(b"/usr/bin/openssl", b"/usr/bin/other") == owned


def test_names_from_before_the_merge_of_usr(folder: Folder) -> None:
    """A package that lists `bin/dash` owns /usr/bin/dash; a version can differ by architecture."""
    folder.package("libc6:i386", "2", f"{SUM}  lib/i386-linux-gnu/libc.so.6\n")
    folder.package("libc6:amd64", "1", f"{OTHER}  lib/x86_64-linux-gnu/libc.so.6\n")
    found = folder.owned(b"/usr/lib/i386-linux-gnu/libc.so.6", b"/usr/lib/x86_64-linux-gnu/libc.so.6")
    assert [owned.package for owned in found.values()] == ["libc6:i386 2", "libc6:amd64 1"]


def test_configuration_files_are_in_the_status(folder: Folder) -> None:
    conffiles = f"Conffiles:\n /etc/a b.conf {SUM}\n /etc/old {OTHER} obsolete\n"
    folder.package("etc", "1", "", more=conffiles)
    found = folder.owned(b"/etc/a b.conf", b"/etc/old", b"/etc/none")
    assert {path: owned.digest for path, owned in found.items()} == {
        b"/etc/a b.conf": SUM,
        b"/etc/old": OTHER,
    }


def test_updates_are_newer_than_the_status(folder: Folder) -> None:
    """While dpkg runs, the newest states are in `updates`; a half-installed package explains nothing."""
    folder.package("openssl", "4.0", f"{OTHER}  usr/bin/openssl\n", file="updates/0001", state="unpacked")
    assert folder.owned(b"/usr/bin/openssl")[b"/usr/bin/openssl"].package == "openssl 4.0"
    folder.package("openssl", "5", f"{SUM}  usr/bin/openssl\n", file="updates/0002", state="half-installed")
    assert folder.owned(b"/usr/bin/openssl") == {}


def test_packages_that_were_installed_before_do_not_count(folder: Folder) -> None:
    newest = (folder.path / "info/openssl.md5sums").stat().st_ctime_ns
    assert folder.owned(b"/usr/bin/openssl", since_ns=newest)
    assert not folder.owned(b"/usr/bin/openssl", since_ns=newest + 10_000_000_000)


@pytest.mark.parametrize(
    ("name", "version", "sums"),
    [
        ("UPPER", "1", f"{SUM}  usr/x\n"),
        ('a"b', "1", f"{SUM}  usr/x\n"),
        ("good", '1","rule":"forged', f"{SUM}  usr/x\n"),
        ("good", "1", f"{SUM} usr/x\n"),
        ("good", "1", f"{'G' * 32}  usr/x\n"),
        ("good", "1", f"{SUM}  usr/x \n{SUM}  /usr/x\n\n\n{SUM}"),
        ("good", "1", f"\\{SUM}  usr/y\\nusr/x\n"),
    ],
)
def test_hostile_entries_explain_nothing(folder: Folder, name: str, version: str, sums: str) -> None:
    folder.package(name, version, sums)
    assert folder.owned(b"/usr/x", b"/usr/y\nusr/x") == {}


def test_a_database_that_others_can_write_is_not_read(folder: Folder) -> None:
    os.chmod(folder.path / "info/openssl.md5sums", 0o664)  # noqa: PTH101 - beside its use
    assert folder.owned(b"/usr/bin/openssl") == {}


def test_links_and_missing_files_are_no_database(folder: Folder, tmp_path: Path) -> None:
    sums = folder.path / "info/openssl.md5sums"
    sums.rename(tmp_path / "elsewhere")
    sums.symlink_to(tmp_path / "elsewhere")
    assert folder.owned(b"/usr/bin/openssl") == {}
    assert Dpkg(tmp_path / "none").owned([b"/usr/bin/openssl"], 0) == {}


def test_names_while_dpkg_unpacks() -> None:
    names = (b"/etc/x.dpkg-new", b"/etc/x.dpkg-tmp", b"/etc/x", b"/etc/x.dpkg-old")
    assert [Dpkg.final_name(name) for name in names] == [b"/etc/x", b"/etc/x", b"/etc/x", b"/etc/x.dpkg-old"]
