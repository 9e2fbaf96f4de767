"""The archive can be unpacked by a kernel: the tests read it as the format is specified."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.images import cpio
from harness.images.cpio import Entry


def unpack(data: bytes) -> list[Entry]:
    """Read as the kernel's init/initramfs.c does: headers of 110 bytes, everything at a multiple of 4."""
    found: list[Entry] = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name[-1:] == b"\0"
        start = at + (110 + name_size + 3) // 4 * 4
        at = start + (size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(data)
            return found
        found.append(Entry(name[:-1].decode(), mode, data[start : start + size]))


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=9
).filter(lambda name: name not in (".", "..", "TRAILER!!!"))
FILES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=6)


@given(FILES)
def test_the_archive_has_the_files_that_were_added(files: dict[str, bytes]) -> None:
    entries = [cpio.file(name, data) for name, data in files.items()]
    assert unpack(cpio.archive(entries)) == entries


def test_the_same_entries_make_the_same_bytes() -> None:
    entries = [cpio.file("init", b"x", 0o755), cpio.directory("dev")]
    assert cpio.archive(entries) == cpio.archive(list(entries))


def test_a_folder_occurs_once_and_before_its_files() -> None:
    data = cpio.archive([cpio.file("a/b/c", b"1"), cpio.file("a/b/d", b"2"), cpio.file("a/e", b"3")])
    found = unpack(data)
    assert [entry.name for entry in found] == ["a", "a/b", "a/b/c", "a/b/d", "a/e"]
    assert [stat.S_ISDIR(entry.mode) for entry in found] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a//b", "a/../b", "a/", ".", "x\0y", "TRAILER!!!"]
)
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid name"):
        cpio.archive([cpio.file(name, b"")])


def test_a_duplicate_name_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.file("a", b""), cpio.file("a", b"")])
