"""Find the first bad kernel of a list, a folder of images, an archive's series, or a git tree."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.errors import ConfigError, IncompleteError
from harness.host import files, paths
from harness.plan import checked as config
from harness.plan import plan
from harness.results import results_file
from harness.run import bisect
from harness.run.bisect import Commits, Judged, Judgement, Listed, Order
from harness.run.options import ACCELERATOR, COLD, CONNECT, SELECTORS, add_to, given_path, given_text
from harness.text import one_line

_FILE = "bisect.json"
_SCHEMA = 1
_PASSED_ON = ("test", "hookset", "arch", "tag")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "kernels", nargs="*", type=given_text, metavar="KERNEL", help="from oldest to newest, as for --kernel"
    )
    parser.add_argument("--folder", type=given_path, metavar="DIR", help="the kernels in a folder, by name")
    parser.add_argument("--archive", action="store_true", help="the series that Debian's archives have")
    parser.add_argument("--tree", type=given_path, metavar="DIR", help="the commits of a kernel's git tree")
    parser.add_argument("--good", type=given_text, metavar="COMMIT", help="with --tree")
    parser.add_argument("--bad", type=given_text, metavar="COMMIT", help="with --tree (default: HEAD)")
    parser.add_argument("--build", type=given_text, metavar="COMMAND", help="with --tree: builds each commit")
    parser.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    add_to(parser, *(option for option in SELECTORS if option.name in _PASSED_ON))
    add_to(parser, CONNECT, ACCELERATOR, COLD)
    parser.add_argument(
        "--output",
        type=given_path,
        default=Path("out/bisect"),
        metavar="DIR",
        help="folder of its runs; the same command goes on where it was (default: out/bisect)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Judge kernels until the first bad one is known. Raises IncompleteError if it was not found."""
    if not (arguments.test or arguments.hookset):
        raise ConfigError("which test decides?", hint="name it with --test, for instance --test command.NAME")
    selected = {name: tuple(getattr(arguments, name)) for name in _PASSED_ON}
    plan.check(config.load(arguments.matrix), plan.Selectors(**selected), {})
    order = _order(arguments)
    state = _State(arguments.output, _question(arguments, order))
    console = Console()
    while name := order.next():
        judged = state.judged.get(name) or _judge(name, arguments, state.folder(name))
        state.record(name, judged)
        order.record(name, judged)
        line = f"{judged.judgement:<4}  {name}  {one_line(judged.reason)}; {order.left()}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    found = order.conclusion()
    if not found.found:
        raise IncompleteError(found.reason)
    console.print(found.reason, highlight=False, markup=False, soft_wrap=True)
    return 0


def _order(arguments: argparse.Namespace) -> Order:
    given = {
        "KERNEL ...": arguments.kernels,
        "--folder": arguments.folder,
        "--archive": arguments.archive,
        "--tree": arguments.tree,
    }
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        raise ConfigError(
            f"name one of {', '.join(given)}" + (f", not {' and '.join(named)}" if named else "")
        )
    if arguments.tree:
        if not (arguments.good and arguments.build):
            raise ConfigError("--tree needs --good COMMIT and --build COMMAND")
        resume = (arguments.output / _FILE).exists()
        return Commits(arguments.tree, arguments.good, arguments.bad or "HEAD", resume=resume)
    names = list(arguments.kernels)
    if arguments.archive:
        from harness.kernels import available

        names = [f"series:{kernel.series}" for kernel in available()]
    elif arguments.folder:
        names = [
            str(path) for path in sorted(_entries(arguments.folder), key=lambda path: _natural(path.name))
        ]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError("name at least two different kernels, from oldest to newest")
    return Listed(names)


def _entries(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ConfigError(f"--folder {folder}: not a folder")
    yield from (paths.real(path) for path in folder.iterdir() if not path.name.startswith("."))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 6.2 before 6.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _question(arguments: argparse.Namespace, order: Order) -> Mapping[str, Any]:
    """What a folder's judgements answer; those of another question cannot be used."""
    selected = {name: getattr(arguments, name) for name in _PASSED_ON}
    if isinstance(order, Listed):
        return {**selected, "kernels": list(order.names)}
    tree = str(arguments.tree.absolute())
    return {**selected, "tree": tree, "good": arguments.good, "bad": arguments.bad, "build": arguments.build}


class _State:
    """The judgements of a bisection in its folder. Raises ConfigError for a folder with another question."""

    def __init__(self, folder: Path, question: Mapping[str, Any]) -> None:
        self._root = folder
        self._question = question
        self.judged: dict[str, Judged] = {}
        self._folders: dict[str, str] = {}
        path = folder / _FILE
        if path.exists():
            self._read(path)
        elif folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"--output {folder}: not empty", hint="name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def _read(self, path: Path) -> None:
        try:
            plain = json.loads(path.read_bytes())
            if plain["schema"] != _SCHEMA or plain["question"] != self._question:
                raise ConfigError(
                    f"{path.parent}: holds another bisection",
                    hint=f"name a new --output, or rm -r {path.parent}",
                )
            for row in plain["judged"]:
                self.judged[row["kernel"]] = Judged(Judgement(row["judgement"]), str(row["reason"]))
                self._folders[row["kernel"]] = str(row["folder"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}", hint="name a new --output") from error

    def folder(self, name: str) -> Path:
        """The folder of a kernel's run."""
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name.rpartition("/")[2]).strip("-.")[:64]
        self._folders.setdefault(name, f"{len(self._folders) + 1:02}-{plain}")
        return self._root / self._folders[name]

    def record(self, name: str, judged: Judged) -> None:
        """Write a judgement to the disk."""
        self.judged[name] = judged
        self._write()

    def _write(self) -> None:
        rows = [
            {"kernel": one, "judgement": row.judgement, "reason": row.reason, "folder": self.folder(one).name}
            for one, row in self.judged.items()
        ]
        plain = {"schema": _SCHEMA, "question": self._question, "judged": rows}
        files.write_atomic(self._root / _FILE, json.dumps(plain, indent=1) + "\n")


def _judge(name: str, arguments: argparse.Namespace, folder: Path) -> Judged:
    """Build, if it is a commit, and run one kernel; what it prints goes to a file beside the folder."""
    log = folder.with_name(f"{folder.name}.log")
    (folder / results_file.FILE).unlink(missing_ok=True)  # of a run that was interrupted
    kernel = name
    if arguments.tree:
        kernel = str(arguments.tree.absolute())
        with log.open("wb") as file:
            built = subprocess.run(
                ["sh", "-c", arguments.build], cwd=arguments.tree, stdout=file, stderr=file, check=False
            )
        if built.returncode:
            return Judged(Judgement.SKIP, f"it does not build; see {log}")
    argv = [sys.executable, "-m", "harness.cli", "run", "--matrix", str(arguments.matrix), "--kernel", kernel]
    argv += [
        word
        for option in _PASSED_ON
        for value in getattr(arguments, option)
        for word in (f"--{option}", value)
    ]
    argv += ["--accelerator", arguments.accelerator, "--output", str(folder)]
    argv += ["--connect", arguments.connect] if arguments.connect else []
    argv += ["--cold"] if arguments.cold else []
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(argv)}\n".encode())
        file.flush()
        done = subprocess.run(argv, stdout=file, stderr=file, check=False)
    if not (folder / results_file.FILE).exists():
        if done.returncode == ConfigError.exit_code and _is_name(arguments, name):
            raise ConfigError(_last_line(log), hint=f"see {log}")
        return Judged(Judgement.SKIP, f"no results, exit code {done.returncode}: {_last_line(log)}")
    return bisect.judge(results_file.load(folder / results_file.FILE))


def _is_name(arguments: argparse.Namespace, kernel: str) -> bool:
    """Whether a kernel is given by its name: if its run is refused, the command line is wrong."""
    return not (arguments.tree or ":" in kernel or Path(kernel).exists())


def _last_line(log: Path) -> str:
    """The cause that a run printed, or else its last line."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    causes = [line.removeprefix("harness: ") for line in lines if line.startswith("harness: ")]
    return (causes or lines)[-1]
