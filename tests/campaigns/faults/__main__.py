"""`python -m tests.campaigns.faults [NAME...]`, or with --random or --steady: put faults into machines.

Exits with 1 if a fault ended green that must not, in a wrong class, or (of those with names) never struck.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.lab.lab import VmBench
from harness.plan.cells import Cell
from harness.plan.plan import Selectors
from harness.run.run import Options, Run
from harness.run.supplies import Supplies
from tests import ROOT
from tests.campaigns.faults import published, report, table
from tests.campaigns.faults.campaign import Campaign
from tests.campaigns.faults.catalogue import FAULTS
from tests.campaigns.faults.kept import KEPT
from tests.campaigns.faults.scene import TEST, Fault, Scene
from tests.campaigns.faults.table import Row
from tests.campaigns.faults.world import Outcome, play

KERNEL = "6.1"
MATRIX = ROOT / "matrix.yaml"
NAMES = (*(fault.name for fault in FAULTS), report.NAME)


def main(words: Sequence[str]) -> int:
    """Run the requested faults; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what runs meanwhile is ended as by Ctrl-C
    arguments = _parser().parse_args(words)
    if arguments.random or arguments.steady:
        return _random(arguments)
    chosen = [name for name in NAMES if not arguments.names or _asked(name, arguments.names)]
    kept = [name for name in KEPT if not arguments.names or _asked(name, arguments.names)]
    if arguments.list:
        sys.stdout.write("".join(f"{name}\n" for name in (*chosen, *kept)))
        return 0
    count, wrong = 0, []
    for row, right in _ended(chosen):
        count += 1
        if not right:
            wrong.append(row.fault)
        elif arguments.record:  # at once: an interrupted campaign keeps what it found
            table.write(table.PAGE, [row], NAMES)
    if kept:
        wrong += _kept_that_end_wrong(kept, arguments.kernel)
    sys.stdout.write(f"{count + len(kept)} faults, {len(wrong)} ended wrong: {', '.join(wrong) or 'none'}\n")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.faults")
    parser.add_argument("--record", action="store_true", help="write how they ended into docs/faults.md")
    parser.add_argument("--list", action="store_true", help="name the faults and do nothing")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="draw N faults, moments and loads")
    parser.add_argument("--steady", type=int, default=0, metavar="N", help="run one healthy cell N times")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what is drawn (default: 1)")
    parser.add_argument("--kernel", default=KERNEL, metavar="NAME", help="of what is drawn (default: 6.1)")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="of random runs; runs that it has are not run again"
    )
    parser.add_argument("names", nargs="*", help="or parts of names; all if none is given")
    return parser


def _random(arguments: argparse.Namespace) -> int:
    """Run random and healthy runs, and print their figures."""
    seed, kernel = arguments.seed, arguments.kernel
    log = arguments.log or ROOT / "build" / f"faults-{kernel}-{seed}.jsonl"
    campaign = Campaign(kernel, log, log.with_suffix(""), _say)
    ended = [*campaign.steady(seed, arguments.steady), *campaign.random(seed, arguments.random)]
    _say(published.part(kernel, seed, ended))
    if arguments.record:
        published.write(table.PAGE, kernel, seed, ended)
    return 1 if any(one.outcome == "wrong" for one in ended) else 0


def _kept_that_end_wrong(names: Sequence[str], kernel: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(kernel, Path(folder, "log"), Path(folder), _say)
        ended = campaign.play([KEPT[name] for name in names])
    return [name for name, one in zip(names, ended, strict=True) if one.outcome == "wrong"]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _asked(name: str, words: Sequence[str]) -> bool:
    return any(word == name if word in NAMES else word in name for word in words)


def _ended(names: Sequence[str]) -> Iterator[tuple[Row, bool]]:
    """Return each fault's row, and whether its verdict is the expected one."""
    if faults := [fault for fault in FAULTS if fault.name in names]:
        yield from _on_machines(faults)
    if report.NAME in names:
        yield report.cut_results()


def _on_machines(faults: Sequence[Fault]) -> Iterator[tuple[Row, bool]]:
    bench = VmBench(lock=MATRIX.with_name("matrix.lock"))
    with contextlib.closing(bench), tempfile.TemporaryDirectory() as folder:
        cell, supplies = _prepared(bench)
        for number, fault in enumerate(faults):
            if fault.root and os.geteuid():
                sys.stdout.write(f"{fault.name:<36} left out: only root can do that\n")
                continue
            outcome = play(fault, Scene(cell, supplies, Path(folder, str(number)), bench))
            _show(outcome)
            verdict = outcome.verdict
            yield Row(fault.name, fault.phase, verdict, verdict.exit_code, outcome.seconds), outcome.right


def _show(outcome: Outcome) -> None:
    mark = "ok" if outcome.right else f"WRONG, not {outcome.fault.expected}"
    line = f"{outcome.fault.name:<36} {outcome.verdict:<10} {outcome.seconds:5.1f} s  {mark}"
    sys.stdout.write(f"{line}\n    {outcome.problem or outcome.reason[:150]}\n")
    sys.stdout.flush()


def _prepared(bench: VmBench) -> tuple[Cell, Supplies]:
    options = Options(matrix=MATRIX, selectors=Selectors(kernel=(KERNEL,), test=(TEST,)))
    plan = Run(options, bench).plan
    cell = plan.cells[0]
    return cell, bench.prepare(plan, bench.accelerator(cell.arch)[0], print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
