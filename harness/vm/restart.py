"""Starts a machine a second time if the accelerator may have caused the failure of its first start.

Under KVM, a machine that stays silent or does not start is started once under TCG. If it boots there, KVM is
rejected for this host, so that no kernel is blamed for it. If KVM has booted other kernels, a kernel that
panics under it is at fault itself.

Under TCG, a kernel that dies before its init is started once more: on a busy host the emulator's timers may
be too late for early boot code. A kernel that dies twice is at fault.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable

from harness.errors import InfrastructureError
from harness.host import acceleration, deadlines
from harness.vm.console import Stage
from harness.vm.hypervisor import PortTakenError, StartError
from harness.vm.life import DeathCause, MachineDiedError
from harness.vm.machine import Machine
from harness.vm.warm import Start, Starter

FIRST = "first-start"  # the folder with the evidence of a start that was repeated

_SILENT = (DeathCause.BOOT_TIMEOUT, DeathCause.QEMU)


class NoKvmError(InfrastructureError):
    """The user required KVM, and it boots no guest on this host."""


class Restarter:
    """Starts machines; `make` returns the starter for "kvm" or "tcg", `kind` is that of the newest machine.

    `wanted` is one of `acceleration.CHOICES`, `name` the machine's name for messages. `notes` are lines for
    the user about starts that were repeated.
    """

    def __init__(
        self, make: Callable[[str], Starter], kind: str, *, name: str = "", arch: str, wanted: str = "auto"
    ) -> None:
        self.kind = kind
        self.notes: tuple[str, ...] = ()
        self._make = make
        self._name = name
        self._arch = arch
        self._wanted = wanted
        self._starter = make(kind)

    @property
    def machine(self) -> Machine:
        """The newest machine, ready or dead."""
        return self._starter.machine

    def boot(self, deadline_s: float) -> Start:
        """Return once a command has run in the guest. Raises InfrastructureError."""
        silent_s = math.inf
        if self.kind == "kvm":
            silent_s = min(deadline_s * deadlines.SILENT_SHARE, deadlines.SILENT_MOST_S)
        try:
            start = self._starter.boot(deadline_s, silent_s)
        except (StartError, MachineDiedError) as error:
            if not self._repeats(error):
                raise
            return self._again(error, deadline_s)
        if self.kind == "kvm":
            acceleration.accept(self._arch, asked=self._wanted == "kvm")
        return start

    def _repeats(self, error: StartError | MachineDiedError) -> bool:
        """Whether a second start under TCG can show that the accelerator is at fault and not the kernel."""
        if isinstance(error, PortTakenError):
            return False
        if isinstance(error, StartError):
            return self.kind == "kvm"
        stage, cause = self.machine.console.stage, error.death.cause
        if self.kind == "tcg":
            return cause is DeathCause.PANIC and Stage.FIRMWARE < stage < Stage.INIT
        if acceleration.proven(self._arch):
            return cause in _SILENT and stage < Stage.KERNEL
        return cause is not DeathCause.DESTROYED

    def _again(self, error: InfrastructureError, deadline_s: float) -> Start:
        first, why = self.kind, error.message.partition("\n")[0]
        self._keep_evidence()
        self.machine.destroy()
        self.kind = "tcg"
        self._starter = self._make(self.kind)
        if first == "tcg":
            self.notes += (f"{self._name}: died before its init under TCG, started once more ({why})",)
            return self._starter.boot(deadline_s)
        start = self._starter.boot(deadline_s)
        self._give_up_kvm(why)
        return start

    def _give_up_kvm(self, why: str) -> None:
        """Reject KVM, because the same machine booted under TCG; another worker may have done so already."""
        why = f"{self._name} did not boot under KVM and did under TCG ({why})"
        found = acceleration.find(self._arch, "auto")
        if self._wanted == "kvm":
            hint = f"{acceleration.FIX}; found by measurement: {found}"
            raise NoKvmError(f"KVM boots nothing on this host: {why}", hint=hint)
        if found.kind == "kvm":
            found = acceleration.reject(self._arch, why)
        self.notes += (acceleration.given_up(found),)

    def _keep_evidence(self) -> None:
        workdir = self.machine.spec.workdir
        with contextlib.suppress(OSError):
            (workdir / FIRST).mkdir(exist_ok=True)
            for name in ("console.log", "domain.xml"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(workdir / name, workdir / FIRST / name)
            self.machine.spec.console.unlink(missing_ok=True)
