"""Machines of `--watch`: they stay up while the agent in them is replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from harness.errors import HarnessError, RefusedError
from harness.guest.selftest import Loaded, Ran
from harness.plan.cells import Cell
from harness.run.machines import Bench, Machine, Selftest, Supplies
from harness.run.slot import Slot
from harness.watch import update
from harness.watch.update import Member, Update

Files = Callable[[], Mapping[str, Member]]
"""Returns the agent's files as they are built now, by name."""


class StandingBy(Machine, Protocol):
    """A machine that can start a self-test server ahead of time."""

    def stand_by(self) -> None:
        """Start the part of the next server that is independent of the agent's code. Raises HarnessError."""


class StandingMachine:
    """Wraps a machine; its self-test server outlives a cell, so that a load needs no start of Python."""

    def __init__(self, machine: StandingBy, files: Files) -> None:
        self._machine = machine
        self._files = files
        self._deployed: Mapping[str, Member] = {}
        self._server: StandingSelftest | None = None
        self._outdated: list[StandingSelftest] = []
        self._last_start: tuple[Path, float] | None = None  # log and deadline of the last server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    @property
    def refused(self) -> bool:
        """Whether the agent refused to load since the last read; then the machine itself is fine."""
        server, refused = self._server, bool(self._server and self._server.refused)
        if server:
            server.refused = False
        return refused

    @property
    def serves(self) -> bool:
        """Whether a server runs with the code that was sent last."""
        return self._server is not None

    def deploy(self) -> None:
        """Deploy the whole agent, then the files under test, which may be newer than `make build`."""
        self._machine.deploy()
        self._deployed = {}
        self.update()

    def update(self) -> Update:
        """Send the files that changed; a server with older code is ended by `rest`."""
        files = self._files()
        found = update.between(self._deployed, files)
        if found:
            update.send(self.guest, found)
            self._deployed = files
        if self._server and found.outdates(tested=self._server.tested):
            self._outdated.append(self._server)
            self._server = None
        return found

    def selftest(self, log: Path, deadline_s: float) -> Selftest:
        """Return the running server, or start one."""
        if self._server is None:
            self._start(log, deadline_s)
        assert self._server
        return self._server

    def rest(self) -> list[HarnessError]:
        """Prepare for the next save: end all servers, start one that has all imports, and half of another.

        Detaching programs takes as long as loading them, and the imports half of that. Returns the errors of
        the servers that ended; raises HarnessError if no new one starts.
        """
        ended = [server.end() for server in (*self._outdated, self._server) if server]
        self._outdated, self._server = [], None
        if self._last_start:  # else only suites ran
            self._start(*self._last_start)
            self._machine.stand_by()
        return [error for error in ended if error]

    def _start(self, log: Path, deadline_s: float) -> None:
        self._last_start = (log, deadline_s)
        self._server = StandingSelftest(self._machine.selftest(log, deadline_s))

    def leftovers(self, _deadline_s: float) -> list[str]:
        """Return nothing: everything stays for the next round."""
        return []


class StandingSelftest:
    """Wraps a server; it keeps running when a cell is closed."""

    def __init__(self, server: Selftest) -> None:
        self._server = server
        self.hooks: tuple[Any, ...] = ()  # it does not end with a cell
        self.refused = False
        self.tested = False

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        """Load in place of the loaded variant."""
        try:
            return self._server.load(cell, deadline_s)
        except RefusedError:
            self.refused = True
            raise

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run one scenario."""
        self.tested = True
        return self._server.test(name, deadline_s)

    def close(self) -> None:
        """Do nothing: the server stays."""

    def end(self) -> HarnessError | None:
        """End the server, as `Selftest.close` does."""
        return self._server.close()


class StandingBench:
    """Wraps a bench; its machines are `StandingMachine`s."""

    def __init__(self, bench: Bench, files: Files) -> None:
        self._bench = bench
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench, name)

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        """Return a machine that stays up."""
        machine = cast("StandingBy", self._bench.machine(cell, supplies, workdir))
        return cast("Machine", StandingMachine(machine, self._files))


class StandingSlot(Slot):
    """A slot that keeps a machine whose agent refused to load: the next save may fix it."""

    def discard(self) -> None:
        """Destroy the machine unless only its agent refused."""
        if isinstance(self.machine, StandingMachine) and self.machine.refused:
            return
        super().discard()

    def end(self) -> None:
        """Destroy the machine."""
        super().discard()
