"""What a run needs of the world: kernels and images in the controller, machines in the workers.

The life of a cell is written against these protocols. `harness.lab.lab` is the real world; tests bring their
own through the hook `pytest_harness_bench`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from agent.selftest.protocol import Loaded, Ran
from harness.errors import HarnessError
from harness.host.progress import Progress
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import Agent, KernelFacts
from harness.vm.life import Death


class Selftest(Protocol):
    """The agent's self-test server in a guest.

    Methods raise RefusedError, HungError, or InfrastructureError when the server is lost. `hooks` are the
    rows of results.json as they were when it ended, with all that was counted; empty where it did not say.
    """

    hooks: tuple[Any, ...]

    def load(self, cell: Cell, deadline_s: float) -> Loaded:
        """Load and attach the cell's variant."""

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run one scenario."""

    def close(self) -> HarnessError | None:
        """End the server; never raises, but returns what was wrong where it did not end well."""


class Machine(Protocol):
    """A guest; methods raise HarnessError. `uname` is the release that its kernel reports, "" until asked."""

    start: Literal["cold", "warm"]
    uname: str
    notes: tuple[str, ...]  # lines for the user about its boot

    @property
    def accelerator(self) -> str:
        """What it runs on, "kvm" or "tcg"."""

    def boot(self, deadline_s: float) -> None:
        """Return when a command has run in the guest."""

    def slowness(self) -> float:
        """How many times slower than an ordinary machine the guest is now, its host's load included.

        Sets `uname`. Raises MissingError if the guest runs another kernel than the one that was resolved.
        """

    def deploy(self) -> None:
        """Put the agent into the guest."""

    def selftest(self, log: Path, deadline_s: float) -> Selftest:
        """Start the self-test server; what it says besides its protocol goes to the file `log`."""

    def answers(self, deadline_s: float) -> bool:
        """Whether a command still runs in the guest; never raises."""

    def console(self) -> bytes:
        """All that the guest's kernel has said until now."""

    def leftovers(self, deadline_s: float) -> list[str]:
        """What is in the guest that was not there after its boot: processes, programs, pins, mounts."""

    def command(self, cell: Cell, log: Path) -> Selftest:
        """A cell's own suite in place of the agent's server; what it prints goes to the file `log`."""

    def death(self) -> Death | None:
        """How the guest ended, or None while it lives."""

    def collect(self, folder: Path) -> None:
        """Write what is known about the guest into `folder`; never raises HarnessError."""

    def keep(self, cell: str) -> str:
        """Leave it running for a person, because `cell` failed on it; returns the line that gets in."""

    def destroy(self) -> None:
        """End the guest and leave nothing; may be called twice."""


class Supplies(BaseModel):
    """What was fetched for a run, as plain data, by machine.

    `files` names what a machine boots from; `missing` says for a machine that cannot be built why not.
    `agent` is what every machine gets deployed, None where no planned test needs it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    accelerator: str  # of all machines, such as "kvm, tcg"
    accelerators: dict[str, str] = {}  # by architecture, as the run began
    kernels: dict[str, KernelFacts] = {}
    files: dict[str, dict[str, str]] = {}
    agent: Agent | None = None
    base: str = "."  # the folder that the files of suites are named from
    missing: dict[str, str] = {}
    fetch_s: dict[str, float] = {}
    image_s: dict[str, float] = {}


class Bench(Protocol):
    """Where machines come from; one instance in the controller, one in each worker.

    Remarks about machines go to `progress`.
    """

    progress: Progress

    def accelerator(self, arch: str) -> tuple[str, str]:
        """Return "kvm" or "tcg" for guests of `arch`, and a line that says why. Raises HarnessError."""

    def releases(self, plan: Plan) -> dict[str, str]:
        """The release that each kernel of `plan` resolves to, by kernel name. Raises HarnessError."""

    def prepare(self, plan: Plan, accelerator: str, progress: Progress) -> Supplies:
        """Fetch and build what the machines of `plan` boot from; raises HarnessError if none can be had.

        `accelerator` is said in the results, of a plan with two architectures such as "kvm, tcg".
        """

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        """A machine for `cell`, not booted yet, that keeps its files in `workdir`. Raises HarnessError."""

    def reap(self) -> list[str]:
        """End machines that outlived their process, of this run or an earlier one; a line for each."""

    def close(self) -> None:
        """Give back what making machines needed; may be called again."""
