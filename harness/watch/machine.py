"""A machine that stays up while what runs in it is replaced: what `--watch` makes of a bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.errors import HarnessError, RefusedError
from harness.plan.cells import Cell
from harness.run.machines import Bench, Machine, Selftest, Supplies
from harness.run.slot import Keeper

if TYPE_CHECKING:
    from agent.selftest.protocol import Loaded, Ran
    from harness.watch.update import Member, Update

Files = Callable[[], Mapping[str, "Member"]]
"""The agent's files as they are built now, by name."""


class StandingBy(Machine, Protocol):
    """A machine that can start a self-test server ahead of time."""

    def stand_by(self) -> None:
        """Start as much of the next server as is not the agent's own. Raises HarnessError."""


class StandingMachine:
    """Another machine, whose self-test server outlives a cell: to load again costs no start of Python."""

    def __init__(self, machine: StandingBy, files: Files) -> None:
        self._machine = machine
        self._files = files
        self._deployed: Mapping[str, Member] = {}
        self._server: StandingSelftest | None = None
        self._outdated: list[StandingSelftest] = []
        self._how: tuple[Path, float] | None = None  # what the last server was asked for with

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    @property
    def refused(self) -> bool:
        """Whether the agent answered, since the last look, that it cannot load: then the machine is well."""
        server, refused = self._server, bool(self._server and self._server.refused)
        if server:
            server.refused = False
        return refused

    @property
    def serves(self) -> bool:
        """Whether a server runs that has the code that was sent last."""
        return self._server is not None

    def deploy(self) -> None:
        """All of the agent; and again what is under test, for `make build` may be behind it."""
        self._machine.deploy()
        self._deployed = {}
        self.update()

    def update(self) -> Update:
        """Send what changed of the agent since; a server of older code is left to `rest`."""
        from harness.watch import update

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
        """The server that runs, or a new one."""
        if self._server is None:
            self._start(log, deadline_s)
        assert self._server
        return self._server

    def rest(self) -> list[HarnessError]:
        """Make ready for the next save: nothing loaded, a server that has imported all, half of another.

        To detach programs takes as long as to load them, and the imports half of that. Returns what was wrong
        with servers that ended; raises HarnessError where there is no other.
        """
        ended = [server.end() for server in (*self._outdated, self._server) if server]
        self._outdated, self._server = [], None
        if self._how:  # else only programs of others were run
            self._start(*self._how)
            self._machine.stand_by()
        return [error for error in ended if error]

    def _start(self, log: Path, deadline_s: float) -> None:
        self._how = (log, deadline_s)
        self._server = StandingSelftest(self._machine.selftest(log, deadline_s))

    def leftovers(self, _deadline_s: float) -> list[str]:
        """Nothing is left behind while all of it stays."""
        return []


class StandingSelftest:
    """A server that goes on when a cell is closed."""

    def __init__(self, server: Selftest) -> None:
        self._server = server
        self.hooks: tuple[Any, ...] = ()  # it does not end with a cell
        self.refused = False
        self.tested = False

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        """Load in place of what is loaded."""
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
        """It stays."""

    def end(self) -> HarnessError | None:
        """End it, as `Selftest.close` does."""
        return self._server.close()


class StandingBench:
    """Another bench, whose machines stand."""

    def __init__(self, bench: Bench, files: Files) -> None:
        self._bench = bench
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench, name)

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        """A machine that stands."""
        made = cast("StandingBy", self._bench.machine(cell, supplies, workdir))
        return cast("Machine", StandingMachine(made, self._files))


class StandingKeeper(Keeper):
    """Keeps a machine whose agent could not load: the next save may mend it."""

    def discard(self) -> None:
        """Destroy the machine unless only its agent is at fault."""
        if isinstance(self.machine, StandingMachine) and self.machine.refused:
            return
        super().discard()

    def end(self) -> None:
        """Destroy the machine."""
        super().discard()
