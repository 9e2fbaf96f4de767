"""The protocols of a run's environment: a bench in the controller and in each worker, and its machines.

A cell is run against these protocols. `harness.lab.lab` implements them with real machines and
`harness.run.fake` without any; a test passes its own bench through the hook `pytest_harness_bench`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from harness.errors import HarnessError
from harness.guest.base import Guest
from harness.guest.selftest import Loaded, Ran
from harness.host.progress import Progress
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import Agent
from harness.run.supplies import Deliveries, Supplies
from harness.vm.life import Death


class Selftest(Protocol):
    """The agent's self-test server in a guest.

    Methods raise RefusedError, HungError, or InfrastructureError if the connection to the server is lost.
    `hooks` are the rows of results.json with the final counts; empty until the server has ended, and if it
    reported none.
    """

    hooks: tuple[Any, ...]

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        """Load and attach the cell's variant."""

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run one scenario."""

    def close(self) -> HarnessError | None:
        """End the server; never raises, but returns the error if it did not end normally."""


class Machine(Protocol):
    """A guest; methods raise HarnessError. `uname` is its kernel's own release, "" before `slowness`."""

    start: Literal["cold", "warm"]
    uname: str
    notes: tuple[str, ...]  # remarks for the user about its boot

    @property
    def accelerator(self) -> str:
        """The accelerator of the machine: "kvm" or "tcg"."""

    @property
    def guest(self) -> Guest:
        """The files and commands of the guest, once it has booted."""

    def boot(self, deadline_s: float) -> None:
        """Boot the guest; return when a command has run in it."""

    def slowness(self) -> float:
        """Measure how many times slower than an ordinary machine the guest is now, under the host's load.

        Sets `uname`. Raises MissingError if the guest runs another kernel than the resolved one.
        """

    def deploy(self) -> None:
        """Copy the agent into the guest."""

    def selftest(self, log: Path, deadline_s: float) -> Selftest:
        """Start the self-test server; its standard error goes to the file `log`."""

    def stand_by(self) -> None:
        """Start the part of the next self-test server that is independent of the agent's code."""

    def answers(self, deadline_s: float) -> bool:
        """Return whether the guest still runs a command; never raises."""

    def console(self, deadline_s: float = 0.0) -> bytes:
        """Return the output of the console until now.

        With a deadline the kernel writes a mark, and all that it printed before is in the output.
        """

    def leftovers(self, deadline_s: float) -> list[str]:
        """List what the guest has now and had not after its boot: processes, programs, pins, mounts."""

    def command(self, cell: Cell, log: Path) -> Selftest:
        """Start a cell's own suite instead of the agent's server; its output goes to the file `log`."""

    def death(self) -> Death | None:
        """Return how the guest ended, or None while it runs."""

    def collect(self, folder: Path) -> None:
        """Write the evidence about the guest into `folder`; never raises HarnessError."""

    def keep(self, cell: str) -> str:
        """Leave the guest running for the user, because `cell` failed; return the command that enters it."""

    def destroy(self) -> None:
        """End the guest and remove its files; may be called twice."""


class Pins(BaseModel):
    """What every host of a cluster must use, so that all test the same.

    `lock` is the text of a lock file with the kernels of the plan, and `kernels` has the cache key of the
    kernel of each machine; machines whose kernel was not resolved are in neither. `own` has the plain data
    of each kernel that the user gave as files, which are in the cache, by machine. `agent` is as in
    `Supplies`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    lock: str = ""
    kernels: dict[str, str] = {}
    own: dict[str, dict[str, Any]] = {}
    agent: Agent | None = None


class Bench(Protocol):
    """Provides machines; the controller has one bench, and each worker has one.

    Remarks about machines go to `progress`. With `agent` the bench deploys this agent, which is in the
    cache of this host, instead of the one that is built here now.
    """

    progress: Progress
    agent: Agent | None

    def accelerator(self, arch: str) -> tuple[str, str]:
        """Return "kvm" or "tcg" for guests of `arch`, and a line with the reason. Raises HarnessError."""

    def releases(self, plan: Plan) -> dict[str, str]:
        """Return the releases that can be known without a build, by kernel name. Raises HarnessError."""

    def pin(self, plan: Plan, progress: Progress) -> Pins:
        """Resolve the kernels and keep the agent; fetch and build nothing. Raises HarnessError."""

    def prepare(self, plan: Plan, accelerator: str, progress: Progress) -> Supplies:
        """Fetch and build the files of the machines of `plan`; raises HarnessError if no machine can boot.

        `accelerator` is for the results; a plan with two architectures may have "kvm, tcg".
        """

    def deliver(
        self, plan: Plan, accelerator: str, progress: Progress, order: Sequence[str] = ()
    ) -> Deliveries:
        """Do the same in threads, and return as soon as one machine can boot, or none is left.

        `order` names the machines that are wanted first. Raises HarnessError.
        """

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        """Return a machine for `cell`, not yet booted, with its files in `workdir`. Raises HarnessError."""

    def reap(self) -> list[str]:
        """End machines whose process died, in this run or an earlier one; return a line for each."""

    def close(self) -> None:
        """Release the bench's own resources; may be called twice."""
