"""The real agent under test: what `agent run` is made of, told to watch the generator alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from agent.events.actors import NOTHING, Context
from agent.events.model import Event, EventType
from agent.hooks import needs
from agent.kernel import btf as types
from agent.kernel import loader
from agent.kernel.bcc import backend
from agent.kernel.hiding import hide
from agent.pipeline import Pipeline
from agent.rules.load import loads
from agent.selftest.accounts import Accounts
from agent.selftest.protocol import Load
from agent.selftest.resident import Resident
from agent.selftest.runner import Stage, measure_slowness
from agent.selftest.subject import NO_PROCESS, Judged, Who
from agent.selftest.workload import Workload

_PACKAGE = Path(__file__).resolve().parents[1]
_GENERATORS = (_PACKAGE / "bin" / "fim-gen", _PACKAGE.parent / "build" / "fim-gen")


def load(request: Load) -> Stage:
    """Load the variant that was asked for. Raises UsageError and KernelError."""
    generator = generator_path()
    if request.btf == "none":
        backend.object_path()  # a refusal is told while what else there is can still be looked at
    if request.btf != "kernel":
        hide(types.KERNEL)  # what comes with the agent is to be proved, not what is here anyway

    def open_agent(
        ring_bytes: int = 0, discarders: int = 0, events: Sequence[EventType] = tuple(needs.EVENTS)
    ) -> LoadedAgent:
        wanted = dict.fromkeys((*needs.MINIMUM, *events))
        variant = (request.hookset, request.btf, request.transport)
        return LoadedAgent(loader.load(*variant, ring_bytes=ring_bytes, discarders=discarders, events=wanted))

    def start(patience_s: float) -> Workload:
        return Workload(generator, patience_s)

    def install(folder: Path, rules: Mapping[str, str], patience_s: float) -> Resident:
        options = ("--hookset", request.hookset, "--btf", request.btf, "--transport", request.transport)
        return Resident(folder, rules, options, patience_s)

    known = EventType.__members__
    wanted = [known[label] for label in map(str.upper, request.events) if label in known]
    subject = open_agent(events=wanted) if wanted else open_agent()
    return Stage(subject, start, open_agent, measure_slowness(), installer=install)


def generator_path() -> Path:
    """Where the generator is: in the bundle, or as `make build` left it."""
    for place in _GENERATORS:
        if place.is_file():
            return place
    raise UsageError(f"no {_GENERATORS[0]}", hint="run `make build`, or deploy the bundle with its generator")


class LoadedAgent:
    """A subject of programs that are attached and of the pipeline behind them."""

    lacks: Mapping[str, str] = {}

    def __init__(self, loaded: loader.Loaded) -> None:
        self._loaded = loaded
        self._pipeline = Pipeline(loaded, self._take)
        self._taken: list[Judged] = []
        self._known = self.facts()
        self.watch(NO_PROCESS)

    def facts(self) -> dict[str, Any]:
        """As `Subject.facts`."""
        return {
            "capabilities": self._loaded.capabilities,
            "hooks": tuple(hook._asdict() for hook in self._loaded.hooks),
            "coverage": self._loaded.coverage,
            "limits": self._loaded.limits,
        }

    def known(self) -> Mapping[str, Any]:
        """As `Subject.known`."""
        return self._known

    def enforce(self, rules: Mapping[str, str]) -> None:
        """As `Subject.enforce`."""
        entries = [{"id": name, "expression": expression} for name, expression in rules.items()]
        self._pipeline.enforce(loads(json.dumps({"rules": entries}), "the scenario's rules"))

    def watch(self, tgid: int) -> None:
        """As `Subject.watch`."""
        self._loaded.set_scope(tgid)

    @contextmanager
    def enriched(self) -> Iterator[None]:
        """As `Subject.enriched`."""
        from agent.context.enrich import Enricher  # needed by few scenarios

        enricher, plain = Enricher(), self._pipeline
        self._pipeline = Pipeline(self._loaded, self._take, enricher.context, plain.ledger)
        enricher.start()
        try:
            yield
        finally:
            self._pipeline = plain

    def fileno(self) -> int:
        """As `Subject.fileno`."""
        return self._loaded.fileno()

    def drain(self) -> list[Judged]:
        """As `Subject.drain`."""
        while self._pipeline.pump(0):
            pass
        taken, self._taken = self._taken, []
        return taken

    def accounts(self) -> Accounts:
        """As `Subject.accounts`."""
        return self._pipeline.accounts()

    def close(self) -> None:
        """As `Subject.close`."""
        self._pipeline.close()

    def _take(self, event: Event, context: Context, rules: Sequence[str]) -> None:
        who = None if context is NOTHING else Who(context.process, context.container)
        self._taken.append(Judged(event, tuple(rules), who))
