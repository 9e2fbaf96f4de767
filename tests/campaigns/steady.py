"""`make steady`: the same cells again and again while the host has several times more to do than CPUs.

Each kernel gets as many machines as `--runs` says, and they run side by side, so that they are each other's
load. No verdict may depend on the speed of the host: the campaign fails unless every test of every run ends
as expected, and prints how often each test ended how, and how far its durations lie apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.host import capacity
from harness.plan import checked
from harness.plan.matrix import Kernel
from harness.results import results_file
from harness.results.model import CellResult
from harness.results.verdict import Verdict
from harness.text import one_line

_SLOWEST = 5  # tests that are listed for their spread
_REPEATED = "-run"  # between the name of a kernel and the number of its run


def copies(kernels: Iterable[Kernel], runs: int) -> str:
    """A matrix with each kernel `runs` times, in turn, as JSON, which is YAML: one cell with `auto` each."""
    kernels = tuple(kernels)
    entries = [
        {
            **kernel.model_dump(exclude_defaults=True, mode="json"),
            "name": f"{kernel.name}{_REPEATED}{run}",
            "tags": [],
        }
        for run in range(1, runs + 1)
        for kernel in kernels
    ]
    return json.dumps({"kernels": entries, "hooksets": ["auto"]}, indent=1)


def table(cells: Iterable[CellResult]) -> list[str]:
    """Lines of Markdown: for each kernel how its tests ended, then its bad verdicts and widest durations."""
    of_kernel: dict[str, list[CellResult]] = defaultdict(list)
    for cell in cells:
        of_kernel[cell.id.partition(_REPEATED)[0]].append(cell)
    lines = ["| kernel | runs | tests | verdicts of cells | verdicts of tests |", "|---|---:|---:|---|---|"]
    for kernel, its in of_kernel.items():
        tests = [test for cell in its for test in cell.tests]
        ends = counted(cell.verdict for cell in its), counted(test.verdict for test in tests)
        lines.append(f"| {kernel} | {len(its)} | {len(tests):,} | {ends[0]} | {ends[1]} |")
    for kernel, its in of_kernel.items():
        lines += ["", f"{kernel}:", *bad(its), *spread(its)]
    return lines


def counted(verdicts: Iterable[Verdict]) -> str:
    """`90 PASS, 1 FLAKY`, the most frequent first."""
    return ", ".join(f"{count:,} {verdict}" for verdict, count in Counter(verdicts).most_common())


def bad(cells: Sequence[CellResult]) -> list[str]:
    """Each cell and each test that did not end as expected, with its reason."""
    return [
        one_line(f"- {cell.id}{name}: {judged.verdict}: {judged.reason}")
        for cell in cells
        for name, judged in (("", cell), *((f" {test.name}", test) for test in cell.tests))
        if not judged.verdict.expected
    ]


def spread(cells: Sequence[CellResult]) -> list[str]:
    """The tests whose longest run took the most times their median, with both in seconds."""
    took: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for test in cell.tests:
            if test.verdict is Verdict.PASS:
                took[test.name].append(test.duration_s)
    wide = [(max(all_) / (statistics.median(all_) or 0.1), max(all_), name) for name, all_ in took.items()]
    return [
        f"- {name}: longest {longest:.1f} s, {ratio:.1f} times the median"
        for ratio, longest, name in sorted(wide, reverse=True)[:_SLOWEST]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make steady",
        description="Many runs of the default cells of some kernels, on a host with too much to do.",
    )
    parser.add_argument("--matrix", type=Path, default=Path("matrix.yaml"), metavar="FILE")
    parser.add_argument(
        "--kernel", action="append", metavar="NAME", help="kernels (default: 5.10, 6.1 and 7.3)"
    )
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="of each kernel (default: 30)")
    parser.add_argument(
        "--load", type=int, default=4, metavar="N", help="machines at once for each CPU (default: 4)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/steady"), metavar="DIR")
    arguments = parser.parse_args()
    names = arguments.kernel or ["5.10", "6.1", "7.3"]
    of_name = {kernel.name: kernel for kernel in checked.load(arguments.matrix).kernels}
    if unknown := [name for name in names if name not in of_name]:
        parser.error(f"{arguments.matrix} has no kernel {unknown[0]}; it has {', '.join(of_name)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    matrix = arguments.output / "matrix.yaml"
    matrix.write_text(copies((of_name[name] for name in names), arguments.runs))
    command = [sys.executable, "-m", "harness.cli", "run", "--matrix", str(matrix)]
    command += ["-n", str(arguments.load * capacity.cpus()), "--output", str(arguments.output / "run")]
    code = subprocess.run(command, check=False).returncode
    results = results_file.load(arguments.output / "run" / results_file.FILE)
    sys.stdout.write("\n".join(table(results.cells)) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
