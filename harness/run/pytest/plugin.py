"""`pytest matrix.yaml`: a planned test is a pytest item, so that -k, -x, --lf, -n and JUnit work as ever.

Nothing here acts unless a matrix is among pytest's arguments or `harness run` started pytest; until then
nothing heavy is imported either. Without xdist one process is controller and worker at once. With it the
controller plans, fetches and reports (`pytest_controller`), a worker owns a machine (`pytest_worker`), and
results travel home as JSON in the reports' user properties.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.host.acceleration import CHOICES

if TYPE_CHECKING:
    from harness.run.machines import Bench
    from harness.run.pytest.controller import Controller

SELECTORS = ("kernel", "hookset", "test", "arch", "tag")
CONTROLLER = "harness-controller"
WORKER = "harness-worker"


class Hooks:
    """What this plugin asks of others."""

    @pytest.hookspec(firstresult=True)
    def pytest_harness_bench(self, config: pytest.Config) -> Bench | None:
        """Where machines come from; the default is libvirt on this host."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hook above."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The selectors of `harness run`, under names that no other plugin has."""
    group = parser.getgroup("harness", "kernel matrix")
    for name in SELECTORS:
        group.addoption(f"--matrix-{name}", action="append", default=[], metavar="GLOB")
    group.addoption("--matrix-output", default="out", metavar="DIR")
    group.addoption("--matrix-connect", default="", metavar="URI")
    group.addoption("--matrix-cold", action="store_true")
    group.addoption("--accelerator", choices=CHOICES, default="auto", help="how machines run (default: auto)")


@pytest.hookimpl(trylast=True)
def pytest_harness_bench(config: pytest.Config) -> Bench:
    """Machines from libvirt."""
    from harness.lab.lab import VmBench

    path = matrix_path(config)
    lock = path.with_name("matrix.lock") if path else None
    return VmBench(
        config.getoption("--matrix-connect"),
        lock,
        cold=config.getoption("--matrix-cold"),
        accelerator=config.getoption("--accelerator"),
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: as many machines as cores and memory bear. xdist asks before pytest is configured."""
    controller = _controller(config)
    return controller.workers() if controller else None


def pytest_configure(config: pytest.Config) -> None:
    """Join in where a matrix is asked for; a bad one ends pytest with 2."""
    if not hasattr(config, "workerinput"):
        _controller(config)
    elif job := config.workerinput.get("harness_job"):
        from harness.run.pytest.worker import PROGRESS_CHANNEL, Worker, interrupt_when_orphaned, to_controller
        from harness.run.run import Job

        interrupt_when_orphaned()
        bench = config.hook.pytest_harness_bench(config=config)
        progress = to_controller(config.workerinput[PROGRESS_CHANNEL])
        config.pluginmanager.register(Worker(Job.model_validate_json(job), bench, progress), WORKER)


def _controller(config: pytest.Config) -> Controller | None:
    """The run that this pytest is, or None where no matrix is asked for."""
    controller: Controller | None = config.pluginmanager.get_plugin(CONTROLLER)
    path = matrix_path(config)
    if controller is None and path:
        from harness.run.pytest.controller import for_pytest

        controller = for_pytest(config, path)
        config.pluginmanager.register(controller, CONTROLLER)
    return controller


def matrix_path(config: pytest.Config) -> Path | None:
    """The YAML file among pytest's arguments, or None."""
    base = config.invocation_params.dir
    paths = {base / str(argument).partition("::")[0] for argument in config.args}
    found = sorted(path for path in paths if path.suffix in (".yaml", ".yml"))
    if len(found) > 1:
        raise pytest.UsageError("one matrix at a time: " + ", ".join(path.name for path in found))
    return found[0] if found else None
