"""Runs a plan on a cluster, or the rest of one, with the results of a local run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.cluster import child, connect, kit
from harness.cluster.dispatch import Dispatch
from harness.cluster.kit import Blobs, Kit
from harness.cluster.part import Settings
from harness.cluster.received import Received
from harness.errors import HarnessError
from harness.host.cache import Cache
from harness.lab import provenance
from harness.plan.cost import longest_first
from harness.results import results_file, shard_folders, tested
from harness.results.model import Agent
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from harness.run.times import Estimate, read_times
from harness.run.view import View
from harness.text import counted

Make = Callable[[Run, View], Kit]


def new(cluster: str, keys: Path | None, settings: Settings) -> Make:
    """Return the function that makes the kit of a new run."""

    def make(run: Run, view: View) -> Kit:
        pins = run.bench.pin(run.plan, view)
        return kit.make(run, pins, settings, cluster, keys, lambda: _bundle(pins.agent))

    return make


def known(kit: Kit) -> Make:
    """Return the function that returns the kit of an earlier run.

    It raises ConfigError if that was a run of another harness, or judged by other files.
    """

    def make(run: Run, _view: View) -> Kit:
        tested.check_harness(kit.harness, run.harness_digest)
        tested.check_inputs(kit.inputs, run.inputs)
        return kit

    return make


def options_of_rest(folder: Path, argv: Sequence[str], deadline_s: float) -> tuple[Options, Kit]:
    """Return the options and the kit of the rest of an earlier run; a deadline of 0 is that of this run.

    Raises ConfigError.
    """
    stored = kit.load(folder)
    plan = shard_folders.read_plan(folder / "plan.json")
    known = folder / results_file.FILE
    options = Options(
        matrix=stored.matrix,
        plan=plan,
        base=stored.matrix.parent,
        folder=folder,
        deadline_s=deadline_s or stored.settings.limit_s,
        resume=True,
        failures=results_file.load(known).lasting_failures() if known.exists() else (),
        argv=tuple(argv),
    )
    return options, stored


def play(run: Run, view: View, make: Make, cluster: str, keys: Path | None) -> None:
    """Run what has no result yet, and write the results. Raises HarnessError or OSError."""
    spec = connect.parse(cluster, keys)
    run.check()
    view(f"connecting to {spec.address}" if spec.address else f"starting {counted(spec.slots, 'worker')}")
    with connect.connected(spec, child.MODULE) as client:
        made = make(run, view)
        blobs = Blobs(made, run.plan, run.base, lambda: _bundle(made.pins.agent))
        run.begin(Supplies(accelerator="none", agent=made.pins.agent))
        kit.store(made, run.folder)
        received = Received(run)
        done = received.known()
        if run.options.resume:
            run.store()  # the archive of a machine that runs again is replaced
        last = read_times(run.times_path)
        order = [name for name in longest_first(run.plan, last) if name not in done]
        slots = spec.slots or max(1, connect.workers(client))
        view(f"{counted(slots, 'machine')} at once")
        view.plan(run.plan, Estimate(run.plan, last, slots))
        dispatch = Dispatch(client, run, made, blobs, received, view)
        try:
            dispatch.play(order)
        except HarnessError as error:
            run.why_not = error.message
            run.fail("the run ended early", error)
            view(error.hint)
        finally:
            dispatch.close()
    run.finish()
    received.remove()


def _bundle(agent: Agent | None) -> bytes:
    return provenance.kept(agent, Cache()) if agent else b""
