"""The pytest plugin of the package: provides real machines, a view and the reports to `harness.run.pytest`.

`harness.run` imports neither libvirt nor a report format; it calls the hooks of `harness.run.pytest.plugin`,
which this module implements. A test may implement `pytest_harness_bench` with fake machines.
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
    """Return the bench with libvirt machines."""
    from harness.kernels import repositories
    from harness.lab.lab import VmBench
    from harness.run.pytest.config import matrix_path, values

    given = values(config)
    if given["mirror"]:
        repositories.prefer(given["mirror"].rstrip("/"))
    path = matrix_path(config)
    lock = path.with_name("matrix.lock") if path and not given["unlocked"] else None
    return VmBench(given["connect"], lock, cold=given["cold"], accelerator=given["accelerator"])


@pytest.hookimpl(trylast=True)
def pytest_harness_view() -> AbstractContextManager[View]:
    """Return plain lines on stdout."""
    from rich.console import Console

    from harness.report.lines import Lines

    return Lines(Console())


def pytest_harness_write(results: Results, folder: Path) -> None:
    """Write every report format."""
    from harness import report

    report.write_all(results, folder)


def pytest_harness_show(results: Results, folder: Path) -> None:
    """Print the table of cells and the result."""
    from rich.console import Console

    from harness.report.terminal import print_results

    print_results(Console(), results, str(folder))
