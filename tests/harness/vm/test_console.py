"""Recorded consoles: each folder of tests/consoles has a console and what must be found in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console.signatures import recognise
from harness.vm import console
from harness.vm.console import ConsoleFile, ConsoleLog, Stage, read_all
from harness.vm.hypervisor import LifeEvent
from harness.vm.life import judge
from tests import ROOT

CASES = sorted(path.parent for path in (ROOT / "tests/consoles").glob("*/expected.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded(case: Path) -> None:
    """The sightings, the progress of the boot, and the cause of death."""
    expected = json.loads((case / "expected.json").read_text())
    log = read_all([(case / "console.log").read_bytes()])
    event = LifeEvent[expected["event"]] if expected["event"] else None
    death = judge(event, log, settled=True)
    assert log.stage.name == expected["stage"]
    assert sorted({sighting.trouble.name for sighting in log.sightings}) == sorted(expected["troubles"])
    assert (death.cause.name if death else None) == expected["death"]
    assert (death.trouble.name if death and death.trouble else None) == expected["trouble"]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_the_split_of_the_data_does_not_matter(chunks: list[bytes]) -> None:
    """The lines are the same wherever the bytes are split, and any bytes are accepted."""
    whole, parts = read_all([b"".join(chunks)]), read_all(chunks)
    assert parts.tail() == whole.tail()
    assert parts.stage == whole.stage


def test_memory_is_bounded() -> None:
    """A guest that prints without end, with or without newlines, does not fill the memory."""
    log = ConsoleLog()
    for _ in range(300):
        log.feed(b"x" * 65536)
        log.feed(b"[    1.000000] WARNING: again\n" * 100)
    assert len(log.tail(10**6)) <= 5000
    assert all(len(line) <= 4096 for line in log.tail(10**6))
    assert len(log.sightings) <= 100


def test_panic_after_many_warnings_is_seen() -> None:
    """The limit on stored sightings does not lose the one that counts."""
    log = read_all(
        [b"[    1.000000] WARNING: again\n" * 500, b"[    2.000000] Kernel panic - not syncing: x\n"]
    )
    assert log.fatal


def test_programs_cannot_forge_a_panic() -> None:
    """Only lines with printk's time stamp are the kernel's."""
    assert recognise(b"Kernel panic - not syncing: no") is None
    assert recognise(b"[   12.345678] Kernel panic - not syncing: yes")
    assert recognise(b"[   12.345678][   T12] Kernel panic - not syncing: yes")


def test_file_is_read_as_it_grows(tmp_path: Path) -> None:
    """A missing file counts as empty; no byte is read twice."""
    path = tmp_path / "console.log"
    file, log = ConsoleFile(path), ConsoleLog()
    assert list(file.new_chunks()) == []
    with path.open("ab") as console:
        for text in (b"fim-init: st", b"arted\nfim-init: ready\n"):
            console.write(text)
            console.flush()
            for chunk in file.new_chunks():
                log.feed(chunk)
    assert log.stage is Stage.READY
    assert log.tail() == (b"fim-init: started", b"fim-init: ready")


def test_of_a_console_without_end_only_the_first_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it grows faster than it is read."""
    monkeypatch.setattr(console, "MAX_BYTES", 1000)
    path = tmp_path / "console.log"
    path.write_bytes(b"y\n" * 400)
    file, size = ConsoleFile(path), 0
    for chunk in file.new_chunks():
        size += len(chunk)
        with path.open("ab") as guest:
            guest.write(b"y\n" * 400)
    assert (size, file.full) == (1000, True)
    assert list(file.new_chunks()) == []
