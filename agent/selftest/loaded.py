"""The real agent under test: the parts of `agent run`, restricted to the generator's events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
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
from agent.kernel.libbpf import RunCounting
from agent.ledger import misses
from agent.pipeline import Pipeline
from agent.rules.load import loads
from agent.selftest import worlds
from agent.selftest.accounts import Accounts
from agent.selftest.bench import opens_a_second
from agent.selftest.protocol import Load
from agent.selftest.resident import Resident
from agent.selftest.runner import Stage, measure_slowness
from agent.selftest.subject import NO_PROCESS, Actor, Judged
from agent.selftest.workload import Workload
from agent.selftest.worlds import World

_PACKAGE = Path(__file__).resolve().parents[1]
_START_S = 60.0  # in which a generator starts and makes a few opens, also on a starved CPU
_GENERATORS = (_PACKAGE / "bin" / "fim-gen", _PACKAGE.parent / "build" / "fim-gen")


def load(request: Load) -> Stage:
    """Load the requested variant. Raises UsageError and KernelError."""
    generator = generator_path()
    if request.btf == "none":
        backend.object_path()  # compile while the kernel's BTF is still visible, for a better error
    if request.btf != "kernel":
        hide(types.KERNEL)  # the test must use the BTF source under test, not the kernel's BTF

    with ExitStack() as stack:
        world = stack.enter_context(worlds.entered(request.world, Path("/tmp")))  # noqa: S108 - as Stage.where
        stage = _stage(request, generator, world)
        return stage._replace(leave=stack.pop_all().close)


def _stage(request: Load, generator: Path, world: World) -> Stage:
    def open_agent(
        ring_bytes: int = 0, discarders: int = 0, events: Sequence[EventType] = tuple(needs.EVENTS)
    ) -> LoadedAgent:
        wanted = dict.fromkeys((*needs.MINIMUM, *events))
        variant = (request.hookset, request.btf, request.transport)
        return LoadedAgent(loader.load(*variant, ring_bytes=ring_bytes, discarders=discarders, events=wanted))

    def start(patience_s: float) -> Workload:
        return Workload(generator, patience_s, world.prefix)

    def install(
        folder: Path, rules: Mapping[str, str], patience_s: float, under: Sequence[str] = ()
    ) -> Resident:
        options = ("--hookset", request.hookset, "--btf", request.btf, "--transport", request.transport)
        return Resident(folder, rules, options, patience_s, under)

    before = measure_slowness()
    with closing(start(_START_S)) as workload:
        opens = opens_a_second(workload.run, str(generator))
    slowness = min(before, measure_slowness())  # what slows one measurement need not slow another
    known = EventType.__members__
    wanted = [known[label] for label in map(str.upper, request.events) if label in known]
    subject = open_agent(events=wanted) if wanted else open_agent()
    stage = Stage(subject, start, open_agent, slowness, world.where, install, opens=opens)
    return stage._replace(ended=world.ended)


def generator_path() -> Path:
    """Return the path of the generator: in the bundle, or in the folder of `make build`."""
    for path in _GENERATORS:
        if path.is_file():
            return path
    raise UsageError(
        f"{_GENERATORS[0]} does not exist", hint="run `make build`, or deploy the bundle with its generator"
    )


class LoadedAgent:
    """A subject made of attached programs and the agent's pipeline."""

    lacks: Mapping[str, str] = {}

    def __init__(self, loaded: loader.Loaded) -> None:
        self._loaded = loaded
        # Takes CAP_SYS_ADMIN and costs every program of the host a little: `agent run` does without.
        self._counting = RunCounting()
        self._pipeline = Pipeline(loaded, self._take)
        self._taken: list[Judged] = []
        self._known = self.facts()
        self.watch(NO_PROCESS)

    def facts(self) -> dict[str, Any]:
        """See `Subject.facts`."""
        return {
            "capabilities": self._loaded.capabilities,
            "hooks": tuple(hook._asdict() for hook in self._loaded.hooks),
            "coverage": self._loaded.coverage,
            "limits": self._loaded.limits,
        }

    def known(self) -> Mapping[str, Any]:
        """See `Subject.known`."""
        return self._known

    def enforce(self, rules: Mapping[str, str]) -> None:
        """See `Subject.enforce`."""
        entries = [{"id": name, "expression": expression} for name, expression in rules.items()]
        self._pipeline.enforce(loads(json.dumps({"rules": entries}), "the scenario's rules"))

    def watch(self, tgid: int) -> None:
        """See `Subject.watch`."""
        self._loaded.set_scope(tgid)

    @contextmanager
    def enriched(self) -> Iterator[None]:
        """See `Subject.enriched`."""
        from agent.context.enrich import Enricher  # lazy: few scenarios need it

        enricher, plain = Enricher(), self._pipeline
        self._pipeline = Pipeline(self._loaded, self._take, enricher.context, plain.ledger)
        enricher.start()
        try:
            yield
        finally:
            self._pipeline = plain

    def fileno(self) -> int:
        """See `Subject.fileno`."""
        return self._loaded.fileno()

    def drain(self) -> list[Judged]:
        """See `Subject.drain`."""
        while self._pipeline.pump(0):
            pass
        taken, self._taken = self._taken, []
        return taken

    def accounts(self) -> Accounts:
        """See `Subject.accounts`."""
        return self._pipeline.accounts()

    def skipped(self) -> Mapping[EventType, int]:
        """See `Subject.skipped`."""
        return misses(self._loaded.skipped())

    def close(self) -> None:
        """See `Subject.close`."""
        self._counting.close()
        self._pipeline.close()

    def _take(self, event: Event, context: Context, rules: Sequence[str]) -> None:
        actor = None if context is NOTHING else Actor(context.process, context.container)
        self._taken.append(Judged(event, tuple(rules), actor))
