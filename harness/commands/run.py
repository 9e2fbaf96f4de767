"""Run the matrix: boot each kernel, test the agent there, write the reports."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands import options
from harness.commands.options import add_bench, add_gdb, add_matrix, add_output, selectors
from harness.errors import ConfigError, HarnessError
from harness.plan import checked as config
from harness.plan import plan, quantities
from harness.plan.cells import fits
from harness.plan.plan import Selectors
from harness.report import github
from harness.report.lines import Lines
from harness.report.terminal import print_results, view_on
from harness.results.model import Results
from harness.run.cell import ATTACH
from harness.run.machines import Bench
from harness.run.pytest.controller import Controller
from harness.run.pytest.plugin import CONTROLLER
from harness.run.run import Options, Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_matrix(parser)
    add_bench(parser)
    add_gdb(parser)
    parser.add_argument(
        "-n", "--workers", type=_workers, default="auto", metavar="auto|N", help="machines at once"
    )
    add_output(parser)
    parser.add_argument(
        "--deadline",
        type=options.typed(quantities.seconds),
        default=0.0,
        metavar="TIME",
        help="of the whole run: 90, 15m or 2h",
    )
    parser.add_argument(
        "--shard", default="", metavar="I/N", help="only that part; `harness merge` joins them"
    )
    parser.add_argument(
        "--newest",
        action="store_true",
        help="only kernels that moved since matrix.lock, in their newest release",
    )
    parser.add_argument(
        "--keep-on-fail",
        action="store_true",
        help="leave the machine of a failed cell, and say how to get in",
    )
    parser.add_argument(
        "--watch", action="store_true", help="build and run again on each save, on one machine that stays up"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run; returns the exit code of the contract."""
    asked = selectors(arguments)
    if arguments.newest:
        arguments.unlocked = True
        asked = newest(arguments, asked)
        if not asked.kernel:
            sys.stdout.write("nothing to run: no kernel is newer than in matrix.lock\n")
            return 0
    wanted = Options(
        matrix=arguments.matrix.absolute(),
        selectors=asked,
        folder=arguments.output,
        cold=arguments.cold,
        connect=arguments.connect,
        accelerator=arguments.accelerator,
        shard=arguments.shard,
        keep_on_fail=arguments.keep_on_fail,
        deadline_s=arguments.deadline,
        argv=arguments.argv,
    )
    if arguments.gdb:
        arguments.workers = "0"
    if arguments.watch:
        return watch(wanted, options.bench(arguments), Console())
    return run(wanted, options.bench(arguments), Console(), arguments.workers)


def newest(arguments: argparse.Namespace, asked: Selectors) -> Selectors:
    """The selectors with only those kernels that moved since matrix.lock was written; perhaps none."""
    from harness.kernels import freshness, lock

    found = lock.load(options.lock_path(arguments))
    if found is None:
        raise ConfigError("--newest: there is no matrix.lock", hint="write one with `harness kernels lock`")
    matrix = config.load(arguments.matrix)
    plan.make(matrix, asked)  # a name that the matrix does not have is an error, not a night with nothing new
    names = freshness.moved(matrix, found)
    kept = tuple(name for name in names if fits(name, asked.kernel or ("*",)))
    return asked.model_copy(update={"kernel": kept})


def run(wanted: Options, bench: Bench, console: Console, workers: str) -> int:
    """Run on `bench` and show it on `console`; returns the exit code.

    However the run ends, there are results, unless nothing could be prepared: then HarnessError or OSError is
    raised.
    """
    matrix_run = Run(wanted, bench)
    with contextlib.closing(bench), matrix_run.ending():
        try:
            with view_on(console) as view:
                _run(matrix_run, view, workers)
        except KeyboardInterrupt:
            pass  # the signal's handler has recorded why
        except (HarnessError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - a defect of the harness costs no results
            matrix_run.fail("the harness failed", error)
        finished = matrix_run.finished or matrix_run.abandon()
        # The results are written: only the printing of them is cut short.
        with contextlib.suppress(KeyboardInterrupt):
            _show(matrix_run, finished, console)
        return finished.run.exit_code


def _show(matrix_run: Run, finished: Results, console: Console) -> None:
    print_results(console, finished, str(matrix_run.folder))
    _tell_kept(matrix_run.folder, console)
    github.show(finished, console.file)


def _tell_kept(folder: Path, console: Console) -> None:
    """How to get into the machines that this run left."""
    for path in sorted(folder.glob(f"cells/*/{ATTACH}")):
        cell = path.parent.name
        console.print(f"kept: harness shell --attach {cell}, or:", highlight=False)
        console.print(
            f"  {path.read_text(encoding='utf-8').strip()}", highlight=False, soft_wrap=True, markup=False
        )
        console.print("  end it with `harness clean --machines`", highlight=False)


def _run(matrix_run: Run, view: Lines, workers: str) -> None:
    for line in matrix_run.reap():
        view(line)
    matrix_run.prepare(view)
    controller = Controller(matrix_run, view)
    number = controller.workers() if workers == "auto" else int(workers)
    status = _pytest(controller, view, number)
    if matrix_run.finished is None and not matrix_run.failed:
        raise ConfigError(f"pytest ended with {status} before anything ran")


def watch(wanted: Options, bench: Bench, console: Console) -> int:
    """Run again on each save, on one machine that stays up, until Ctrl-C."""
    from harness.watch.watch import Watch, look, project_of

    # In a folder of its own: a run that never ends has no place in `latest`.
    wanted = wanted.model_copy(update={"folder": wanted.folder or wanted.output / "watch"})
    matrix_run = Run(wanted, bench)
    seen = look(matrix_run)
    project = project_of(matrix_run)
    if problem := project.build_rest():
        raise ConfigError(problem)
    with contextlib.closing(bench), matrix_run.ending():
        bench.reap()
        with Lines(console) as progress:
            matrix_run.prepare(progress)
        return Watch(matrix_run, progress, project).forever(seen)


def _pytest(controller: Controller, view: Lines, workers: int) -> int:
    asked = controller.run.options
    matrix = asked.matrix
    view(f"{workers or 1} machines at once" if workers > 1 else "one machine at a time")
    words = [str(matrix), "-c", os.devnull, "--rootdir", str(matrix.parent), "--noconftest"]
    words += ["--capture=no", "-p", "no:terminal", "-p", "no:cacheprovider"]
    words += ["-p", "harness.run.pytest.plugin", "-p", "xdist"]
    words += ["-n", str(workers), "--accelerator", asked.accelerator]
    words += ["--matrix-connect", asked.connect] if asked.connect else []
    words += ["--matrix-cold"] if asked.cold else []
    # Neither the user's plugins nor his pytest settings have a say in this run.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    return int(pytest.main(words, plugins=[_Starter(controller)]))


class _Starter:
    """Gives the plugin the controller that is there already."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Before the plugin would make one of its own."""
        config.pluginmanager.register(self.controller, CONTROLLER)


def _workers(word: str) -> str:
    if word != "auto" and not (word.isdigit() and len(word) < 4):
        raise argparse.ArgumentTypeError(f"{word!r} is neither `auto` nor a number")
    return word
