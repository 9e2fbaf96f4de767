"""The slot of `--watch`: its machine and server stay up while the agent in the machine is replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RefusedError
from harness.guest.selftest import Loaded, Ran
from harness.host.deadlines import Pace
from harness.plan.cells import Cell
from harness.run.machines import Machine, Selftest
from harness.run.slot import AGENT_LOG, COMMAND_LOG, Slot
from harness.watch import update
from harness.watch.update import Member, Update

Files = Callable[[], Mapping[str, Member]]
"""Returns the agent's files as they are built now, by name."""


class StandingSlot(Slot):
    """A slot whose self-test server outlives a cell, so that a load needs no start of Python.

    It keeps a machine whose agent refused to load, because the next save may fix that.
    """

    def __init__(self, make: Callable[[Cell], Machine], files: Files, pace: Pace) -> None:
        super().__init__(make, pace)
        self._files = files
        self._forget()

    def _forget(self) -> None:
        """Reset what belongs to the machine before."""
        self._sent: Mapping[str, Member] = {}
        self._server: StandingSelftest | None = None
        self._outdated: list[StandingSelftest] = []
        self._last_start: tuple[Path, float] | None = None  # log and deadline of the last server

    @property
    def serves(self) -> bool:
        """Whether a server runs with the code that was sent last."""
        return self._server is not None

    def enter(self, cell: Cell) -> None:
        """Boot the machine if it is not up; deploy the agent."""
        if self.machine is None:
            self._forget()
        super().enter(cell)

    def deploy(self, machine: Machine) -> None:
        """Deploy the whole agent, then the files under test, which may be newer than `make build`."""
        super().deploy(machine)
        self._sent = {}
        self.update(machine)

    def update(self, machine: Machine) -> Update:
        """Send the files that changed; a server with older code is ended by `rest`. Raises HarnessError."""
        files = self._files()
        found = update.between(self._sent, files)
        if found:
            update.send(machine.guest, found)
            self._sent = files
        if self._server and found.outdates(tested=self._server.tested):
            self._outdated.append(self._server)
            self._server = None
        return found

    def serve(self, cell: Cell, folder: Path, deadline_s: float) -> Selftest:
        """Return the running server, or start one; a suite gets its own."""
        if cell.suite:
            # The logs of all rounds would pile up for as long as the user edits.
            (folder / COMMAND_LOG).unlink(missing_ok=True)
            return super().serve(cell, folder, deadline_s)
        return self._server or self._start(folder / AGENT_LOG, deadline_s)

    def leftovers(self, deadline_s: float) -> list[str]:  # noqa: ARG002
        """Return nothing: everything stays for the next round."""
        return []

    def news(self, deadline_s: float = 0.0) -> list[bytes]:  # noqa: ARG002
        """Return the new lines without waiting for the last ones, which are news of the next round."""
        return super().news()

    def rest(self) -> list[HarnessError]:
        """Prepare for the next save: end all servers, start one that has all imports, and half of another.

        Detaching programs takes as long as loading them, and the imports half of that. Returns the errors of
        the servers that ended; raises HarnessError if no new one starts.
        """
        ended = [server.end() for server in (*self._outdated, self._server) if server]
        self._outdated, self._server = [], None
        if self.machine and self._last_start:  # else only suites ran
            self._start(*self._last_start)
            self.machine.stand_by()
        return [error for error in ended if error]

    def _start(self, log: Path, deadline_s: float) -> StandingSelftest:
        assert self.machine
        self._last_start = (log, deadline_s)
        self._server = StandingSelftest(self.machine.selftest(log, deadline_s))
        return self._server

    def discard(self) -> None:
        """Destroy the machine unless only its agent refused to load since the last call."""
        server = self._server
        if server and server.refused:
            server.refused = False
            return
        super().discard()

    def end(self) -> None:
        """Destroy the machine."""
        super().discard()


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
