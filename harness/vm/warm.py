"""Starts a machine: restores a saved machine if the cache has one, else boots, and then saves it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from harness.errors import InfrastructureError
from harness.host import deadlines
from harness.host.progress import Progress, silent
from harness.vm.hypervisor import PortTakenError, StartError
from harness.vm.life import MachineDiedError
from harness.vm.machine import Machine
from harness.vm.snapshot import Snapshot, Snapshots

Start = Literal["cold", "warm"]


class Starter:
    """Starts the machines that `make` returns; boots every one if `snapshots` is None.

    `machine` is the newest one, ready or dead.
    """

    def __init__(
        self, make: Callable[[], Machine], snapshots: Snapshots | None, say: Progress = silent
    ) -> None:
        self.machine = make()
        self._make = make
        self._snapshots = snapshots
        self._say = say

    def boot(self, deadline_s: float, silent_s: float = math.inf) -> Start:
        """Wait until a command has run in the guest; return how it was started. Raises InfrastructureError.

        A kernel that boots must print something within `silent_s` seconds.
        """
        if self._restored(deadline_s * deadlines.WARM_SHARE):
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
        """Destroy a machine that was not restored, and its snapshot; the next machine boots."""
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
            # The next start will boot too. If the machine has ended, the caller will notice.
            self._say(f"the machine was not saved: {error.message}")
