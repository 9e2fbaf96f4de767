"""List available kernels, lock, fetch or adopt those of the matrix, or predict their hooks."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from harness.commands import options
from harness.commands.booted import on_stderr, print_stderr
from harness.commands.options import add_bench, add_matrix, add_mirror, lock_path, selectors, use_mirror
from harness.errors import ConfigError, InfrastructureError
from harness.plan import checked as config
from harness.plan.matrix import nearest
from harness.report.terminal import print_table
from harness.run.options import given_path, given_text
from harness.run.run import Options, Run
from harness.text import counted

if TYPE_CHECKING:
    from harness.kernels import Lock, ResolvedKernel
    from harness.kernels.inspect import Prediction
    from harness.plan.matrix import Kernel, Matrix


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the newest kernel of each series in the repositories")
    listing.add_argument("--flavour", type=given_text, default="cloud")
    listing.add_argument("--arch", type=given_text, default="amd64")
    listing.add_argument("--new", action="store_true", help="only series that are newer than matrix.lock")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    locking = actions.add_parser("lock", help="write matrix.lock: the exact packages of the matrix's kernels")
    locking.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    locking.add_argument(
        "--update",
        action="store_true",
        help="use the newest of each, and print what changed and how to run it",
    )
    fetching = actions.add_parser("fetch", help="fetch everything that the matrix needs into the cache")
    add_matrix(fetching, "kernel", "arch", "tag")
    add_bench(fetching)
    adopting = actions.add_parser(
        "adopt", help="add series that are new in the repositories to the matrix, if they can be guests"
    )
    adopting.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    adopting.add_argument("--flavour", type=given_text, default="cloud")
    looking = actions.add_parser("inspect", help="predict the state of every hook, without booting")
    looking.add_argument("kernel", type=given_text, metavar="KERNEL", help="name in the matrix, or path")
    looking.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    looking.add_argument("--arch", type=given_text, default="amd64")
    looking.add_argument("--json", action="store_true", help="print JSON")
    for parser_of in (listing, locking, adopting, looking):
        add_mirror(parser_of)


def execute(arguments: argparse.Namespace) -> int:
    """Run the chosen action."""
    use_mirror(arguments)
    actions = {"list": _list, "lock": _lock, "fetch": _fetch, "adopt": _adopt, "inspect": _inspect}
    return actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from harness.kernels import available, freshness, lock

    matrix = config.load(arguments.matrix) if arguments.matrix.exists() else None
    locked = lock.load(lock_path(arguments))
    with on_stderr() as progress:
        found: Sequence[ResolvedKernel] = available(arguments.flavour, arguments.arch, progress=progress)
    if arguments.new:
        matrix = matrix or config.load(arguments.matrix)
        found = freshness.new_series(found, matrix, locked)
    rows = [_row(kernel, arguments, matrix, locked) for kernel in found]
    if matrix and not arguments.new:
        rows += _of_archives(matrix, arguments.arch, locked)
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    elif not rows:
        sys.stdout.write("no new series\n")
    else:
        _print(rows)
    return 0


def _row(
    kernel: ResolvedKernel, arguments: argparse.Namespace, matrix: Matrix | None, locked: Lock | None
) -> dict[str, Any]:
    pinned = locked.kernels.get((kernel.series, arguments.flavour, arguments.arch)) if locked else None
    names = [entry.name for entry in matrix.kernels if entry.series == kernel.series] if matrix else []
    return {
        "series": kernel.series,
        "release": kernel.release,
        "suite": kernel.suite,
        "packages": len(kernel.packages),
        "size_mib": sum(package.size for package in kernel.packages) >> 20,
        "matrix": names,
        "locked": pinned.release if pinned else "",
    }


def _of_archives(matrix: Matrix, arch: str, locked: Lock | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each kernel of the matrix that has an archive of its own; print what failed."""
    from harness.kernels import freshness, sources

    for (requested, of_arch), kernel in freshness.of_archives(matrix).items():
        if of_arch != arch:
            continue
        try:
            sources.check(kernel, arch)
            with on_stderr() as progress:
                packages = sources.ARCHIVES[kernel.source].listed(kernel, arch, progress)
        except (ConfigError, InfrastructureError) as error:
            print_stderr(f"{kernel.name}: {error.message}; {error.hint}")
            continue
        pinned = locked.archives.get((requested, arch), ()) if locked else ()
        yield {
            "series": kernel.source,
            "release": f"{packages[0].name} {packages[0].version}",
            "suite": kernel.suite,
            "packages": len(packages),
            "size_mib": sum(package.size for package in packages) >> 20,
            "matrix": [kernel.name],
            "locked": f"{pinned[0].name} {pinned[0].version}" if pinned else "",
        }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table("series", "release", "suite", "size", "matrix", "locked", box=None, pad_edge=False)
    for row in rows:
        locked = "this" if row["locked"] == row["release"] else row["locked"]
        size = f"{row['size_mib']} MiB"
        table.add_row(row["series"], row["release"], row["suite"], size, ", ".join(row["matrix"]), locked)
    print_table(Console(), table)


def _lock(arguments: argparse.Namespace) -> int:
    from harness.kernels import freshness, lock

    path = lock_path(arguments)
    old = lock.load(path)
    matrix = config.load(arguments.matrix)
    with on_stderr() as progress:
        new, errors = freshness.make(matrix, old, update=arguments.update, say=progress)
    lock.store(path, new)
    moves = old.moved(new) if old else []
    sys.stdout.writelines(f"{move}\n" for move in moves)
    same = "" if moves or not old else ", no change"
    print_stderr(f"{path.name}: {counted(len(new.kernels) + len(new.archives), 'kernel')}{same}")
    moved = {(move.series, move.flavour) for move in moves if move.new}
    keys = {kernel.name: (kernel.series, kernel.flavour) for kernel in matrix.kernels}
    keys |= {kernel.name: (requested, "") for (requested, _), kernel in freshness.of_archives(matrix).items()}
    if names := [kernel.name for kernel in matrix.kernels if keys[kernel.name] in moved]:
        print_stderr(f"run them: harness run {' '.join(f'--kernel {name}' for name in names)}")
    for error in errors:
        print_stderr(f"{error.message}; its entry, if any, is unchanged")
    return InfrastructureError.exit_code if errors else 0


def _adopt(arguments: argparse.Namespace) -> int:
    from harness.host import paths
    from harness.host.cache import Cache
    from harness.host.files import write_atomic
    from harness.kernels import adopt, available, freshness

    matrix = config.load(arguments.matrix)
    with on_stderr() as progress:
        found = available(arguments.flavour, "amd64", progress=progress)
        # Not those that are newer than the lock: the lock of the last night knows what was adopted then.
        new = freshness.new_series(found, matrix, None)
        good, refused = adopt.suitable(new, Cache(progress=progress), progress)
    for error in refused:
        print_stderr(f"not adopted: {error.message}")
    if good:
        path = paths.real(arguments.matrix)  # a link stays one
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        write_atomic(path, adopt.added(text, arguments.matrix.name, good, arguments.flavour))
    sys.stdout.writelines(f"adopted {kernel.series}: {kernel.release}\n" for kernel in good)
    sys.stdout.write("" if new else "no new series\n")
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    wanted = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
    with contextlib.closing(options.bench(arguments)) as bench:
        plan = Run(wanted, bench).plan
        cells = tuple(cell.model_copy(update={"tests": ()}) for cell in plan.cells)
        with on_stderr() as progress:
            supplies = bench.prepare(plan.model_copy(update={"cells": cells}), "tcg", progress)
    for name, facts in supplies.kernels.items():
        print_stderr(f"{name}: {facts.release}")
    if supplies.missing:
        raise InfrastructureError(f"not fetched: {', '.join(supplies.missing)}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from harness.kernels import inspect, resemblance

    image, settings = _image(arguments)
    try:
        found = inspect.of_image(image, settings)
    except InfrastructureError as error:
        raise ConfigError(error.message, hint=error.hint) from error  # the user named the kernel
    if arguments.json:
        sys.stdout.write(json.dumps([prediction._asdict() for prediction in found], indent=1) + "\n")
        return 0
    sys.stdout.writelines(f"{line}\n" for line in _predicted(found))
    known = (
        str(resemblance.of(settings)) if settings else "configuration: unknown; hooks are those of the BTF"
    )
    sys.stdout.write(f"{known}\n")
    return 0


def _predicted(found: Sequence[Prediction]) -> Iterator[str]:
    """Yield a line for each hook with its targets and the programs that will fail; then the reasons."""
    for hook in dict.fromkeys(row.hook for row in found):
        rows = [row for row in found if row.hook == hook]
        failing = [f"{row.kind} {row.state}" for row in rows if row.state != "attached"]
        targets = dict.fromkeys(row.target for row in rows if row.target)
        yield f"{hook:<22} {' '.join(targets) or '-':<44} {', '.join(failing)}".rstrip()
    yield ""
    for words in dict.fromkeys(row.words for row in found if row.words):
        hooks = dict.fromkeys(row.hook for row in found if row.words == words)
        count = f"{len(hooks)} hooks" if len(hooks) > 1 else next(iter(hooks))
        yield f"{count}: {words}"


def _image(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Return the file with a kernel's BTF, and its configuration, "" if unknown. Raises ConfigError."""
    from harness.host.cache import Cache
    from harness.kernels import lock, named, payload, sources

    path = Path(arguments.kernel)
    known: dict[str, Kernel] = {}
    if "/" not in arguments.kernel and arguments.matrix.exists():
        known = {kernel.name: kernel for kernel in config.load(arguments.matrix).kernels}
    if arguments.kernel not in known and not path.exists() and not arguments.kernel.startswith(named.WORDS):
        near = nearest(arguments.kernel, [*known]) if known else ""
        raise ConfigError(
            f"{arguments.kernel}: neither a file nor in the matrix{near}",
            hint="name a kernel tree, an image, a package, series:6.12, or a kernel of the matrix",
        )
    if arguments.kernel not in known and path.is_file() and payload.is_vmlinux(path):
        return path, ""
    kernel = known.get(arguments.kernel) or named.from_word(arguments.kernel)
    sources.check(kernel, arguments.arch)
    sources.check_host([kernel])
    with on_stderr() as progress:
        store, locked = Cache(progress=progress), lock.load(lock_path(arguments))
        resolved = sources.resolve(kernel, arguments.arch, lock=locked, store=store, progress=progress)
        fetched = sources.fetch(resolved, store, progress)
    settings = fetched.config.read_text(errors="replace") if fetched.config else ""
    return fetched.btf or fetched.vmlinuz, settings
