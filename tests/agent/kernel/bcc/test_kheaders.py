"""Headers that the kernel itself holds, which bcc uses if none are installed."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.kernel.bcc import backend, kheaders
from agent.kernel.bcc.compile import main

PRINTING = """\
import os
import pathlib


class BPF:
    def __init__(self, text, cflags):
        folder = pathlib.Path(os.environ.get("BCC_KERNEL_SOURCE", "/nowhere"))
        raise Exception("header: " + (folder / "include/linux/kconfig.h").read_text())
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake bcc that prints a header, no installed headers, and the path of the kernel's archive."""
    monkeypatch.setattr(kheaders, "MODULES", tmp_path / "lib")
    monkeypatch.setattr(kheaders, "ARCHIVE", tmp_path / "kheaders.tar.xz")
    monkeypatch.delenv(kheaders.VARIABLE, raising=False)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "bcc.py").write_text(PRINTING)
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    return tmp_path / "kheaders.tar.xz"


def _write(path: Path, content: bytes) -> None:
    with tarfile.open(path, "w:xz") as made:
        member = tarfile.TarInfo("./include/linux/kconfig.h")
        member.size, member.uid = len(content), 4711
        made.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("./include/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        made.addfile(link)


def test_bcc_compiles_with_the_headers_that_the_kernel_holds(
    archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are unpacked below the folder of the object, and bcc finds them through its variable."""
    _write(archive, b"of this kernel")
    assert not backend.lacking()
    sources = Path(backend.__file__).resolve().parents[3] / "bpf"
    assert main(sources, tmp_path / "object") == 1
    assert "header: of this kernel" in capfd.readouterr().err
    assert not list(tmp_path.glob("*/headers"))


def test_installed_headers_come_first(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then bcc finds them by itself, and nothing is unpacked."""
    _write(archive, b"of this kernel")
    (tmp_path / "lib" / os.uname().release / "build").mkdir(parents=True)
    monkeypatch.setattr(kheaders, "unpack", lambda _folder: pytest.fail("unpacked"))
    sources = Path(backend.__file__).resolve().parents[3] / "bpf"
    assert main(sources, tmp_path / "object") == 1


def test_a_module_may_hold_them(archive: Path, tmp_path: Path) -> None:
    """It is loaded before they are unpacked; if it cannot be, the archive is what is missing."""
    assert backend.lacking()
    place = tmp_path / "lib" / os.uname().release / "kernel/kernel/kheaders.ko"
    place.parent.mkdir(parents=True)
    place.touch()
    assert not backend.lacking()
    with pytest.raises(KernelError, match=r"cannot unpack .*kheaders\.tar\.xz: .*No such file"):
        kheaders.unpack(tmp_path / "headers")


def test_links_and_owners_of_the_archive_are_left_out(archive: Path, tmp_path: Path) -> None:
    """The compiler needs neither."""
    _write(archive, b"")
    kheaders.unpack(tmp_path / "headers")
    assert (tmp_path / "headers/include/linux/kconfig.h").stat().st_uid == os.getuid()
    assert not (tmp_path / "headers/include/link").is_symlink()


def test_a_damaged_archive_is_named(archive: Path, tmp_path: Path) -> None:
    """The error is the agent's, not one of the library that unpacks."""
    archive.write_bytes(b"no archive")
    with pytest.raises(KernelError, match="cannot unpack"):
        kheaders.unpack(tmp_path / "headers")
