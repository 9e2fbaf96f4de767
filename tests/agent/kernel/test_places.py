"""What an event is discarded by belongs to the path that it has: programs run in this host's kernel.

A user renames a file while another thread opens it, so that the file's directory is noted before the move and
its path is resolved after it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.events import decode
from agent.kernel import capabilities
from agent.kernel.libbpf import Object
from tests.agent.kernel.conftest import BUILT, load_programs, with_casts
from tests.agent.kernel.test_programs import CHECK

WORD = struct.Struct("=I")
EPOCHS = 65_536  # FIM_EPOCHS
PROGRAMS = ("check__identify", "check__resolve")
UNUSED = ("perf", "ring", "tails", "multi_tails", "syscalls", "calls", *capabilities.MAPS)


class Event:
    """An event of an open file, in the first slot."""

    def __init__(self, loaded: Object, path: Path) -> None:
        self._loaded = loaded
        self._file = os.open(path, os.O_RDONLY)
        self._run("check__identify")

    def resolve(self) -> None:
        """Resolve the path of the file, and close it."""
        self._run("check__resolve")
        os.close(self._file)

    def identities(self) -> tuple[int, ...]:
        """Return by what the file is discarded."""
        slot = self._loaded.maps["slots"].lookup(WORD.pack(0))
        assert slot
        return decode.FILE.unpack_from(slot, decode.HEAD.size)[1:5]

    def _run(self, program: str) -> None:
        self._loaded.programs[program].run(CHECK.pack(b"", self._file, 0, 0, 0, 0))


@pytest.fixture(scope="module", params=["helpers", "casts"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Object]:
    """The programs of both objects, loaded: they read the kernel's memory by helpers, or by casts."""
    by_cast = request.param == "casts"
    opened = Object(str(with_casts(tmp_path_factory.mktemp("casts")) if by_cast else BUILT))
    for name, program in opened.programs.items():
        program.choose(name in PROGRAMS)
    for name in UNUSED:
        opened.maps[name].skip()
    load_programs(opened)
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "one/file"
    file.touch()
    return file


def test_a_file_that_stays(loaded: Object, file: Path) -> None:
    """It is discarded by itself and by the directories above it."""
    event = Event(loaded, file)
    before = event.identities()
    assert all(before)
    event.resolve()
    assert event.identities() == before


def test_a_file_that_moves_before_its_path_is_resolved(loaded: Object, file: Path) -> None:
    """Its path proves nothing about the directory that it was in."""
    event = Event(loaded, file)
    file.rename(file.parent.parent / "two/file")
    event.resolve()
    assert event.identities() == (0, 0, 0, 0)


def test_a_file_that_moves_and_returns(loaded: Object, file: Path) -> None:
    """Its path may have been resolved in between. Hooks advance its epoch, and are not attached here."""
    event = Event(loaded, file)
    key = WORD.pack(event.identities()[0] & (EPOCHS - 1))
    loaded.maps["epochs"].update(key, WORD.pack(1))
    event.resolve()
    loaded.maps["epochs"].update(key, WORD.pack(0))
    assert event.identities() == (0, 0, 0, 0)


def test_a_file_that_gets_another_name_in_its_directory(loaded: Object, file: Path) -> None:
    """What its path proves of the directory holds still."""
    event = Event(loaded, file)
    before = event.identities()
    file.rename(file.parent / "other")
    event.resolve()
    assert event.identities() == before
