"""`pytest matrix.yaml`: a planned test is a pytest item, so that -k, -x, --lf, -n and JUnit files work.

The plugin does nothing, and imports nothing slow, unless a matrix is among pytest's arguments or `harness
run` started pytest. Without xdist one process is controller and worker. With xdist the controller plans,
fetches and reports (`controller.py`), each worker has a machine (`worker.py`), and workers send results as
JSON in the user properties of their reports.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.run.options import ALL
from harness.run.pytest.config import CONTROLLER, WORKER, matrix_path

if TYPE_CHECKING:
    from harness.results.model import Results
    from harness.run.machines import Bench
    from harness.run.pytest.controller import Controller
    from harness.run.view import View


class Hooks:
    """Hooks by which other plugins provide machines, a view and reports."""

    @pytest.hookspec(firstresult=True)
    def pytest_harness_bench(self, config: pytest.Config) -> Bench | None:
        """Return the bench that provides machines."""

    @pytest.hookspec(firstresult=True)
    def pytest_harness_view(self) -> AbstractContextManager[View] | None:
        """Return the view of the preparation; pytest's own reporter shows the tests."""

    def pytest_harness_write(self, results: Results, folder: Path) -> None:
        """Write reports beside results.json."""

    def pytest_harness_show(self, results: Results, folder: Path) -> None:
        """Show how a run ended."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks above."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `harness run`, under names that no other plugin has."""
    group = parser.getgroup("harness", "kernel matrix")
    for option in ALL:
        names = [option.pytest_flag] + (["--accelerator"] if option.name == "accelerator" else [])
        group.addoption(*names, dest=f"matrix_{option.attribute}", help=option.help, **option.settings)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return the workers of `-n auto`, by cores and memory. xdist calls it before pytest is configured."""
    controller = _controller(config)
    return controller.workers() if controller else None


def pytest_configure(config: pytest.Config) -> None:
    """Register the controller or the worker if pytest runs a matrix; an invalid matrix ends pytest with 2."""
    if not hasattr(config, "workerinput"):
        _controller(config)
    elif job := config.workerinput.get("harness_job"):
        # Slow to import: only a pytest that runs a matrix needs them.
        from harness.run.job import Job
        from harness.run.pytest import worker

        worker.interrupt_when_orphaned()
        bench = config.hook.pytest_harness_bench(config=config)
        channel = config.workerinput[worker.CHANNEL]
        made = worker.Worker(
            Job.model_validate_json(job),
            bench,
            worker.to_controller(channel),
            supplies_of=worker.supplies_from_controller(channel),
            failed=worker.failures_to_controller(channel),
        )
        config.pluginmanager.register(made, WORKER)


def _controller(config: pytest.Config) -> Controller | None:
    """Return the controller of this pytest, or None if its arguments have no matrix."""
    controller: Controller | None = config.pluginmanager.get_plugin(CONTROLLER)
    path = matrix_path(config)
    if controller is None and path:
        from harness.run.pytest.controller import for_pytest  # slow to import, as above

        controller = for_pytest(config, path)
        config.pluginmanager.register(controller, CONTROLLER)
    return controller
