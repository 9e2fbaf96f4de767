"""Run the matrix: boot each kernel, test the agent there, write the reports."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from harness import report
from harness.commands import clustered, options, playing, resumed
from harness.commands.options import add_gdb
from harness.errors import ConfigError
from harness.report.lines import Lines
from harness.results.folder import CLUSTER
from harness.run.machines import Bench
from harness.run.options import ALL, add_to, given_path
from harness.run.pytest.config import CONTROLLER
from harness.run.pytest.controller import Controller, names_tests
from harness.run.run import Options, Run, options_of
from harness.run.view import View

# Options of pytest that run no test. They print by pytest's own reporter, which the view replaces.
_SHOWING = {
    "help": "--help",
    "markers": "--markers",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "cacheshow": "--cache-show",
    "setupplan": "--setup-plan",  # it sets the two below as well
    "setuponly": "--setup-only",
    "setupshow": "--setup-show",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    add_to(parser, *ALL)
    add_gdb(parser)
    parser.add_argument(
        "-n", "--workers", type=_workers, default="auto", metavar="auto|N", help="machines at once"
    )
    clustered.add_to(parser)
    parser.add_argument(
        "--watch", action="store_true", help="on each save build, and test again on one machine that stays up"
    )
    parser.add_argument(
        "words", nargs="*", metavar="-- PYTEST OPTIONS", help="such as -x, --lf, -k NAME, or ids of tests"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run; return the exit code of the run."""
    if arguments.part:
        return clustered.part(arguments, _alone)
    if arguments.resume:
        clustered.check_resumed(arguments)
    if arguments.resume and not arguments.cluster and not (arguments.resume / CLUSTER).exists():
        bench = options.bench(arguments)
        return resumed.run(
            arguments, lambda rest: run(rest, bench, Console(), arguments.workers, arguments.words)
        )
    if arguments.cluster or arguments.resume:
        return clustered.run(arguments)
    wanted = options_of(vars(arguments), arguments.matrix, arguments.argv)
    if arguments.gdb:
        arguments.workers = "0"
    if arguments.watch:
        return watch(wanted, options.bench(arguments), Console())
    return run(wanted, options.bench(arguments), Console(), arguments.workers, arguments.words)


def run(wanted: Options, bench: Bench, console: Console, workers: str, words: Sequence[str] = ()) -> int:
    """Run on `bench` with output on `console`; return the exit code. `words` are passed to pytest.

    The results are written however the run ends, except if the preparation fails: then it raises HarnessError
    or OSError. If `words` ask pytest only to list tests, nothing runs.
    """
    matrix_run = Run(wanted, bench, report.write_all)
    return playing.played(matrix_run, console, lambda view: _run(matrix_run, view, workers, words))


def _alone(matrix_run: Run, view: View) -> bool:
    return _run(matrix_run, view, "0", ())


def _run(matrix_run: Run, view: View, workers: str, words: Sequence[str]) -> bool:
    """Run to the end; return whether tests were only listed. Raises HarnessError or OSError."""
    for line in matrix_run.reap():
        view(line)
    controller = Controller(matrix_run, view)
    number = controller.workers() if workers == "auto" else int(workers)
    status = _pytest(controller, number, words)
    if controller.error:
        matrix_run.withdraw()
        raise controller.error
    known = matrix_run.finished or matrix_run.failed or status == pytest.ExitCode.INTERRUPTED
    if not (known or controller.listed):
        raise ConfigError(f"pytest refused its options: {shlex.join(words)}")
    return controller.listed


def watch(wanted: Options, bench: Bench, console: Console) -> int:
    """Run again on each save, on one machine that stays up, until Ctrl-C."""
    from harness.watch.watch import Watch, look, project_of

    # In its own folder, because `latest` is for complete runs.
    wanted = wanted.model_copy(update={"folder": wanted.folder or wanted.output / "watch"})
    matrix_run = Run(wanted, bench, report.write_all)
    seen = look(matrix_run)
    project = project_of(matrix_run)
    if problem := project.build_rest():
        raise ConfigError(problem)
    with contextlib.closing(bench), matrix_run.ending():
        bench.reap()
        with Lines(console) as progress:
            matrix_run.prepare(progress)
        return Watch(matrix_run, progress, project).forever(seen)


def _pytest(controller: Controller, workers: int, more: Sequence[str]) -> int | pytest.ExitCode:
    wanted, matrix = controller.run.options, controller.run.options.matrix
    words = [] if names_tests(matrix, more) else [str(matrix)]
    words += ["-c", os.devnull, "--rootdir", str(matrix.parent), "--noconftest", "--capture=no"]
    words += ["--confcutdir", str(matrix.parent)]  # else pytest lists each folder from / to the matrix
    # The view replaces pytest's reporter.
    words += ["-p", "no:terminalreporter", "-p", "harness.commands.pytest_plugin"]
    words += ["-o", f"cache_dir={controller.run.times_path.with_name('.pytest_cache')}"]
    words += [] if "no:xdist" in more else ["-p", "xdist", "-n", str(workers)]
    words += ["--accelerator", wanted.accelerator] + (["--matrix-cold"] if wanted.cold else [])
    words += ["--matrix-connect", wanted.connect] if wanted.connect else []
    with _own_environment():
        return pytest.main([*words, *more], plugins=[_Starter(controller)])


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """The user's plugins and pytest settings do not apply to this run; whatever runs next has them again."""
    before = {name: os.environ.get(name) for name in ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_ADDOPTS")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Starter:
    """Registers the controller before the plugin would create another."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the controller."""
        config.pluginmanager.register(self.controller, CONTROLLER)
        for attribute, option in _SHOWING.items():
            if getattr(config.option, attribute, None):
                raise pytest.UsageError(
                    f"{option}: `harness run` shows nothing of pytest's; type `pytest {option}`"
                )


def _workers(word: str) -> str:
    if word != "auto" and not (word.isdigit() and len(word) < 4):
        raise argparse.ArgumentTypeError(f"invalid number of workers {word!r} (use auto, or 0 to 999)")
    return word
