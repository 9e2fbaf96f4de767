"""What machines boot from: as plain data, and as parts that arrive while other machines already boot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait

from pydantic import BaseModel, ConfigDict

from harness.host.background import EndedError, Work
from harness.plan.plan import Plan
from harness.results.model import Agent, CellReport, KernelFacts
from harness.text import one_line

_BY_MACHINE = ("kernels", "files", "missing", "unproven", "fetch_s", "image_s")  # fields of `Supplies`


class Supplies(BaseModel):
    """The kernels and images of a run as plain data, by machine.

    `files` names the files that a machine boots from; `missing` has the reason for each machine that cannot
    be built. `unproven` has the digest of each kernel that counts only after some boots. `agent` is deployed
    to every machine; it is None if no planned test needs it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    accelerator: str  # of all machines, such as "kvm, tcg"
    accelerators: dict[str, str] = {}  # by architecture, as the run began
    kernels: dict[str, KernelFacts] = {}
    files: dict[str, dict[str, str]] = {}
    agent: Agent | None = None
    base: str = "."  # the folder that the files of suites are named from
    missing: dict[str, str] = {}
    unproven: dict[str, str] = {}
    fetch_s: dict[str, float] = {}
    image_s: dict[str, float] = {}

    def joined(self, *others: Supplies) -> Supplies:
        """Return these supplies with the machines of others."""
        return self.model_copy(
            update={
                name: {
                    machine: value for one in (self, *others) for machine, value in getattr(one, name).items()
                }
                for name in _BY_MACHINE
            }
        )

    def timed(self, plan: Plan, reports: Mapping[str, CellReport]) -> dict[str, CellReport]:
        """Return the report of the first cell of each machine, with the times of fetching and building."""
        found = {}
        for machine, (first, *_) in plan.machines().items():
            if report := reports.get(first.id):
                supplied = {
                    "fetch_s": self.fetch_s.get(machine, 0.0),
                    "image_s": self.image_s.get(machine, 0.0),
                }
                phases = report.phases.model_copy(update=supplied)
                found[first.id] = report.model_copy(update={"phases": phases})
        return found


class Deliveries:
    """The supplies of the machines of a run: `common` from the start, `parts` as `work` makes them."""

    def __init__(
        self, common: Supplies, parts: Mapping[str, Future[Supplies]], work: Work | None = None
    ) -> None:
        self.common = common
        self._parts = parts
        self._work = work

    def first(self) -> None:
        """Wait until a machine can boot, or none is left that might."""
        waiting = {*self._parts.values()}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            outcomes = [_outcome(part) for part in done]
            if any(isinstance(one, Supplies) and not one.missing for one in outcomes):
                return

    def ready(self, machine: str) -> bool:
        """Return whether a machine need not be waited for."""
        return machine not in self._parts or self._parts[machine].done()

    def of(self, machine: str) -> Supplies:
        """Wait for the supplies of a machine, and return them with what is common to all."""
        found = _outcome(self._parts[machine]) if machine in self._parts else None
        if isinstance(found, EndedError):
            return self._without(machine, "the run ended before it")
        if isinstance(found, BaseException):
            return self._without(machine, f"the harness failed: {one_line(str(found))}")
        return self.common.joined(found) if found else self.common

    def whenever(self, machine: str, receive: Callable[[Supplies], object]) -> None:
        """Call `receive` with the supplies of a machine as soon as they have arrived, in any thread."""
        if machine in self._parts:
            self._parts[machine].add_done_callback(lambda _part: receive(self.of(machine)))
        else:
            receive(self.common)

    def arrived(self) -> Supplies:
        """Return what has arrived until now."""
        return self.common.joined(*(one for one in self._outcomes().values() if isinstance(one, Supplies)))

    def whole(self) -> Supplies:
        """Wait for all and return them. Raises the first unexpected error."""
        try:
            wait(self._parts.values())
        finally:
            self.end()
        for error in self.defects().values():
            raise error
        return self.arrived()

    def defects(self) -> dict[str, Exception]:
        """Return the unexpected errors until now, by machine."""
        return {name: one for name, one in self._outcomes().items() if isinstance(one, Exception)}

    def end(self) -> None:
        """End what is still being made, and wait until it has stopped. May be called again."""
        if self._work:
            self._work.end()

    def _outcomes(self) -> dict[str, Supplies | BaseException]:
        return {name: _outcome(part) for name, part in self._parts.items() if part.done()}

    def _without(self, machine: str, why: str) -> Supplies:
        return self.common.model_copy(update={"missing": {**self.common.missing, machine: why}})


def _outcome(part: Future[Supplies]) -> Supplies | BaseException:
    """Wait for a part, and return it or the error that prevented it."""
    wait([part])
    return EndedError() if part.cancelled() else part.exception() or part.result()
