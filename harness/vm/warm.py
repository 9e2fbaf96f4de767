"""A machine that is ready: restored where such a machine was saved before, else booted, and then saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from harness.errors import InfrastructureError
from harness.host.progress import Progress, silent
from harness.vm.hypervisor import PortTakenError, StartError
from harness.vm.life import MachineDiedError
from harness.vm.machine import Machine
from harness.vm.snapshot import Snapshot, Snapshots

Start = Literal["cold", "warm"]

# Of the time that a boot may take. A restored machine answers in a tenth of it, or there is something wrong.
_SHARE = 0.25


class Starter:
    """Starts machines that `make` makes, not started yet; without `snapshots` every one is booted.

    `machine` is the last one made, ready or dead.
    """

    def __init__(
        self, make: Callable[[], Machine], snapshots: Snapshots | None, say: Progress = silent
    ) -> None:
        self.machine = make()
        self._make = make
        self._snapshots = snapshots
        self._say = say

    def boot(self, deadline_s: float, silent_s: float = math.inf) -> Start:
        """Returns once a command has run in the guest, and how it came there. Raises InfrastructureError.

        A kernel that is booted must print something within `silent_s` seconds.
        """
        if self._restored(deadline_s * _SHARE):
            return "warm"
        self.machine.start()
        self.machine.wait_ready(deadline_s, silent_s)
        self._keep()
        return "cold"

    def _restored(self, deadline_s: float) -> bool:
        if not (snapshot := self._find()):
            return False
        try:
            self.machine.start(snapshot)
            self.machine.wait_ready(deadline_s)
        except PortTakenError:
            raise
        except (StartError, MachineDiedError) as error:
            self._replace(error)
            return False
        return True

    def _find(self) -> Snapshot | None:
        try:
            return self._snapshots.find(self.machine.spec) if self._snapshots else None
        except InfrastructureError as error:
            self._say(f"no saved machine can be used: {error.message}")
            return None

    def _replace(self, error: InfrastructureError) -> None:
        """Gives up a machine that was not restored, and its snapshot; the next one boots."""
        assert self._snapshots
        why = error.message.partition("\n")[0]
        self._say(f"a saved machine was not restored and is dropped, booting: {why}")
        self.machine.destroy()
        self._snapshots.drop(self.machine.spec)
        self.machine = self._make()

    def _keep(self) -> None:
        if not self._snapshots:
            return
        try:
            self._snapshots.keep(self.machine.spec, self.machine.save)
        except InfrastructureError as error:
            # The next start is as cold as this one was; if it was the machine that ended, that will be seen.
            self._say(f"the machine was not saved: {error.message}")
