"""`harness kernels inspect` refuses what is no kernel in one line with a remedy, and exits 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cli
from tests.harness.kernels.trees import bzimage

ELF = b"\x7fELF\x02\x01" + bytes(200)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("absent", lambda _path: None, "absent: neither a file nor in the matrix"),
    ("text", lambda path: path.write_text("hello\n"), "text: not a kernel image"),
    ("empty", Path.touch, "empty: not a kernel image"),
    ("ls", lambda path: path.write_bytes(ELF), "ls: not a kernel image"),
    (
        "vmlinux",
        lambda path: path.write_bytes(ELF + b"Linux version 6.1 "),
        "vmlinux: the kernel image has no",
    ),
    ("cut", lambda path: path.write_bytes(bzimage()[:-20]), "the kernel image is damaged"),
    ("pipe", os.mkfifo, "pipe: cannot be read: not a regular file"),
    ("sparse", _sparse, "sparse: larger than 512 MiB"),
    ("a\x1b[31mb", Path.touch, r"a\x1b[31mb': the path has characters that are not supported"),
    ("folder", Path.mkdir, "folder: neither a kernel tree nor an installed kernel"),
]


@pytest.mark.parametrize(("name", "make", "words"), FILES)
def test_what_is_no_kernel(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    make: Callable[[Path], object],
    words: str,
) -> None:
    """Nothing is cached, and no byte of the file's name reaches the terminal as it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / name)
    assert cli.main(["kernels", "inspect", str(tmp_path / name)]) == 2
    *_, line, hint = capsys.readouterr().err.splitlines()
    assert words in line
    assert hint.startswith("hint: ")
    assert "\x1b" not in line
    assert not list((tmp_path / "cache").glob("fim-harness/kernels/*/content"))
