"""What rpm's database says of a file: against one that rpm itself wrote, and against damaged ones."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from agent.context import rpm
from agent.context.packages import Owned
from agent.context.rpm import Rpm

SPEC = """
Name: fimtool
Version: 1.0~rc1
Release: 2
Summary: x
License: none
BuildArch: noarch
%description
x
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc
echo tool >%{buildroot}/usr/bin/fimtool
echo a >"%{buildroot}/etc/a b"
ln -s fimtool %{buildroot}/usr/bin/link
%files
/usr/bin/*
"/etc/a b"
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one package, by rpm itself."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("no rpmbuild on this host")
    folder = tmp_path_factory.mktemp("rpm")
    (folder / "x.spec").write_text(SPEC)
    macros = [
        f"--define=_topdir {folder}/top",
        f"--define=_rpmdir {folder}",
        f"--define=_dbpath {folder}/none",
    ]
    subprocess.run(
        ["rpmbuild", "-bb", "--quiet", *macros, folder / "x.spec"], check=True, capture_output=True
    )
    (package,) = folder.glob("noarch/*.rpm")
    database = ("rpm", "--dbpath", str(folder / "db"))
    subprocess.run([*database, "--initdb"], check=True, capture_output=True)
    install = ("--install", "--justdb", "--nodeps", "--noscripts")
    subprocess.run([*database, *install, package], check=True, capture_output=True)
    return folder / "db"


def test_files_of_a_package(written: Path) -> None:
    """Name, version and release, and the digest of its content; a link and a directory have none."""
    paths = [b"/usr/bin/fimtool", b"/etc/a b", b"/usr/bin/link", b"/bin/fimtool", b"/usr/bin"]
    assert Rpm((written,)).owned(paths, 0) == {
        b"/usr/bin/fimtool": Owned("fimtool 1.0~rc1-2", "sha256", hashlib.sha256(b"tool\n").hexdigest()),
        b"/etc/a b": Owned("fimtool 1.0~rc1-2", "sha256", hashlib.sha256(b"a\n").hexdigest()),
    }


def test_a_database_that_has_not_changed_since_explains_nothing(written: Path) -> None:
    assert Rpm((written,)).owned([b"/usr/bin/fimtool"], 1 << 62) == {}


def test_a_database_that_others_can_write_is_not_read(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "rpmdb.sqlite"
    shutil.copy(written / "rpmdb.sqlite", copy)
    assert Rpm((tmp_path,)).owned([b"/usr/bin/fimtool"], 0)
    copy.chmod(0o666)
    assert Rpm((tmp_path,)).owned([b"/usr/bin/fimtool"], 0) == {}


def test_no_database(tmp_path: Path) -> None:
    assert Rpm((tmp_path,)).owned([b"/x"], 0) == {}
    (tmp_path / "rpmdb.sqlite").write_bytes(b"SQLite format 3\0" + bytes(100))
    assert Rpm((tmp_path,)).owned([b"/x"], 0) == {}


def test_damaged_headers_explain_nothing_wrong(written: Path) -> None:
    """Whatever bytes are changed or missing: no error, and no answer about another path or a hostile name."""
    with sqlite3.connect(f"file:{written}/rpmdb.sqlite?mode=ro", uri=True) as database:
        (blob,) = database.execute("SELECT blob FROM Packages").fetchone()
    database.close()
    draw = random.Random(1)
    assert rpm._owned(blob, b"/usr/bin/fimtool")
    for _ in range(3_000):
        damaged = bytearray(blob[: draw.choice((len(blob), draw.randrange(len(blob))))])
        for _ in range(draw.randint(1, 8)):
            if damaged:
                damaged[draw.randrange(len(damaged))] = draw.choice((0, 0xFF, draw.randrange(256)))
        found = rpm._owned(bytes(damaged), b"/usr/bin/fimtool")
        assert found is None or (found.package.isprintable() and '"' not in found.package)


def test_names_while_rpm_unpacks() -> None:
    names = (b"/etc/x;5f3a2b1c", b"/etc/x", b"/etc/x;y")
    assert [Rpm.final_name(name) for name in names] == [b"/etc/x", b"/etc/x", b"/etc/x;y"]
