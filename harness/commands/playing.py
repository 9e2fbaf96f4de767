"""Runs a plan to its end, however it ends, and prints the results; shared by the ways to run one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.errors import HarnessError
from harness.report import github
from harness.report.lines import Lines
from harness.report.terminal import print_results, view_on
from harness.results.model import Results
from harness.run.cell import ATTACH
from harness.run.run import Run


def played(matrix_run: Run, console: Console, play: Callable[[Lines], bool]) -> int:
    """Call `play` with a view on `console`, print the results, and return the exit code.

    `play` returns whether tests were only listed.
    """

    def shown() -> bool:
        with view_on(console) as view:
            return play(view)

    with contextlib.closing(matrix_run.bench), matrix_run.ending():
        finished = _to_the_end(matrix_run, shown)
        if finished is None:
            return 0
        # The results are written already, so an interrupt ends only their printing.
        with contextlib.suppress(KeyboardInterrupt):
            _show(matrix_run, finished, console)
        return finished.run.exit_code


def quietly(matrix_run: Run, play: Callable[[], bool]) -> int:
    """Call `play`, and return the exit code; prints nothing."""
    with contextlib.closing(matrix_run.bench), matrix_run.ending():
        finished = _to_the_end(matrix_run, play)
        return finished.run.exit_code if finished else 0


def _to_the_end(matrix_run: Run, play: Callable[[], bool]) -> Results | None:
    """Return the results, which are written however `play` ends; None if it only listed tests."""
    listed = False
    try:
        listed = play()
    except KeyboardInterrupt:
        pass  # the handler of the signal has recorded the reason
    except (HarnessError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - a defect of the harness must not cost the results
        matrix_run.fail("the harness failed", error)
    return None if listed else matrix_run.finished or matrix_run.abandon()


def _show(matrix_run: Run, finished: Results, console: Console) -> None:
    print_results(console, finished, str(matrix_run.folder))
    _print_kept(matrix_run.folder, console)
    github.show(finished, console.file)


def _print_kept(folder: Path, console: Console) -> None:
    """Print how to enter the machines that this run kept."""
    for path in sorted(folder.glob(f"cells/*/{ATTACH}")):
        cell = path.parent.name
        console.print(f"kept: harness shell --attach {cell}, or:", highlight=False)
        console.print(
            f"  {path.read_text(encoding='utf-8').strip()}", highlight=False, soft_wrap=True, markup=False
        )
        console.print("  end it with `harness clean --machines`", highlight=False)
