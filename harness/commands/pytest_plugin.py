"""The plugin that pytest loads: gives `harness.run.pytest` its machines, its view and its reports.

The run itself knows neither libvirt nor a report format. It asks for them by the hooks of
`harness.run.pytest.plugin`, and this module answers; a test answers with machines that are played.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.results.model import Results
    from harness.run.machines import Bench
    from harness.run.view import View

pytest_plugins = ("harness.run.pytest.plugin",)


@pytest.hookimpl(trylast=True)
def pytest_harness_bench(config: pytest.Config) -> Bench:
    """Machines from libvirt."""
    from harness.kernels import repositories
    from harness.lab.lab import VmBench
    from harness.run.pytest.plugin import matrix_path, values  # pytest imports it itself, to rewrite asserts

    asked = values(config)
    if asked["mirror"]:
        repositories.prefer(asked["mirror"].rstrip("/"))
    path = matrix_path(config)
    lock = path.with_name("matrix.lock") if path and not asked["unlocked"] else None
    return VmBench(asked["connect"], lock, cold=asked["cold"], accelerator=asked["accelerator"])


@pytest.hookimpl(trylast=True)
def pytest_harness_view() -> AbstractContextManager[View]:
    """Plain lines on stdout."""
    from rich.console import Console

    from harness.report.lines import Lines

    return Lines(Console())


def pytest_harness_write(results: Results, folder: Path) -> None:
    """Write every report format."""
    from harness import report

    report.write_all(results, folder)


def pytest_harness_show(results: Results, folder: Path) -> None:
    """Print the table of cells and what it means."""
    from rich.console import Console

    from harness.report.terminal import print_results

    print_results(Console(), results, str(folder))
