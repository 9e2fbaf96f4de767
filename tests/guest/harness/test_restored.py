"""Machines restored from a saved one: equal, except for what each must have for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.guest import ssh
from harness.guest.base import GuestLostError
from harness.host.cache import Cache
from harness.host.progress import Event
from harness.vm.connection import Connection
from harness.vm.machine import Machine
from harness.vm.snapshot import KIND, Snapshots
from harness.vm.warm import Starter
from tests.guest.harness.conftest import MakeSpec

pytestmark = pytest.mark.guest

BOOT_S = 240.0
CLOCK_S = 2.0  # that a guest's may differ by


class Saved:
    """One cold machine that was saved, in a cache of its own, and the machines restored from it."""

    def __init__(self, folder: Path, connection: Connection, make_spec: MakeSpec) -> None:
        self.events: list[Event] = []
        self.cache = Cache(folder / "cache", self.events.append)
        self._folder = folder
        self._connection = connection
        self._make_spec = make_spec
        self.machines: list[Machine] = []
        self.starts = [self.start(cold=False)]

    def start(self, *, cold: bool) -> str:
        """Start another machine; return "cold" or "warm"."""
        spec = self._make_spec(self._folder / f"machine {len(self.machines)}")
        snapshots = None if cold else Snapshots(self._connection.identity, self.cache)
        starter = Starter(lambda: Machine(spec, self._connection), snapshots, self.events.append)
        try:
            return starter.boot(BOOT_S)
        finally:
            self.machines.append(starter.machine)

    def ask(self, number: int, *words: str) -> str:
        """Return the output of a command in one of them."""
        guest = self.machines[number].guest
        assert guest
        return guest.run(words, 60).stdout.decode().strip()


@pytest.fixture(scope="module")
def saved(
    connection: Connection, make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Saved]:
    """A machine that was booted, and two that were restored from it."""
    made = Saved(tmp_path_factory.mktemp("saved"), connection, make_spec)
    made.starts += [made.start(cold=False), made.start(cold=False)]
    yield made
    for machine in made.machines:
        machine.destroy()


def test_the_first_is_cold_and_the_others_are_warm(saved: Saved) -> None:
    """No warning is printed."""
    assert saved.starts == ["cold", "warm", "warm"]
    assert saved.events == []


def test_each_has_keys_of_its_own(saved: Saved) -> None:
    """A restored server shows the new host key, accepts the new client key, and refuses the old one."""
    old, new = (saved.machines[number].endpoint for number in (0, 1))
    ssh.connect(new, BOOT_S).close()
    for stale in (replace(new.keys, host=old.keys.host), replace(new.keys, client=old.keys.client)):
        with pytest.raises(GuestLostError, match=r"host key|[Aa]uthentication"):
            ssh.connect(replace(new, keys=stale), BOOT_S)


def test_each_draws_numbers_of_its_own(saved: Saved) -> None:
    """Without a fresh seed, two machines restored from one memory would draw the same numbers."""
    drawn = [saved.ask(n, "od", "-An", "-N16", "-tx1", "/dev/urandom") for n in range(3)]
    assert len(set(drawn)) == 3
    assert len({saved.ask(n, "cat", "/proc/sys/kernel/random/uuid") for n in range(3)}) == 3


def test_each_knows_the_time(saved: Saved) -> None:
    """Also one whose memory was saved some time ago."""
    for number in range(3):
        before = time.time()
        clock = float(saved.ask(number, "date", "+%s.%N"))
        assert before - CLOCK_S <= clock <= time.time() + CLOCK_S


def test_cold_on_request(saved: Saved) -> None:
    """With `--cold` nothing is restored and nothing is saved."""
    entries = list((saved.cache.root / KIND).iterdir())
    assert saved.start(cold=True) == "cold"
    assert list((saved.cache.root / KIND).iterdir()) == entries


def test_a_damaged_one_is_dropped_and_reported(saved: Saved) -> None:
    """The machine boots and is saved again, and the next one is warm."""
    [memory] = (saved.cache.root / KIND).glob("*/content/memory.zst")
    data = bytearray(memory.read_bytes())
    data[len(data) // 2] ^= 0xFF
    memory.write_bytes(data)
    saved.cache = Cache(saved.cache.root, saved.events.append)  # as another process would
    assert saved.start(cold=False) == "cold"
    assert any("damaged" in str(line) for line in saved.events)
    assert saved.start(cold=False) == "warm"
