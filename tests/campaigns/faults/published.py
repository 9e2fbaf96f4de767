"""The part of `docs/faults.md` about random faults: figures with bounds, and the confusion matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.results.verdict import Verdict
from tests.campaigns.faults import figures
from tests.campaigns.faults.judge import Ended
from tests.campaigns.faults.kinds import GROUPS
from tests.campaigns.faults.table import RANDOM

HEAD = f"""{RANDOM}
Written by `make faults ARGS="--random N --seed S --steady M --record"`; `--kernel` names another kernel. A
seed and a number give a fault, a phase of the cell, a moment of that phase and a load: the host as it is,
or with as many programs as are missing for four times its cores. The fault is put into `harness run` of one
short cell, in a process of its own; what counts is its exit code and its `results.json`, and that no QEMU
is left. `exit N` stands where the exit code is not that of the worst verdict, and for a run that left no
results; a negative N is the signal that ended the run.

A fault that never took place (there was nothing left to strike) and one that came after the last look at
the guest, in a run that passed, count neither way. A machine that was lost may be replaced, and one that
cannot be restored is booted: then PASS is right if the results say so.

The figures are those of one campaign on one commit, a78da65, of which no run was repeated or judged anew.
Other work kept the host busy throughout: a load between 8 and 20 on two cores, also where a run is called
idle. The runs that ended wrong are listed. In each of them the verdict was right or the cause was in what
the campaign expected; in two of them (machines that hung while the agent was copied to them) the results
also said that a restored machine had been booted. That is fixed, and the campaign now expects CRASH where
the kernel itself panics about a stalled CPU or about memory that was taken earlier. A shorter campaign on
the commit before found a false green, an agent that skipped a test without a reason, and a healthy run
that ended in BOOT_FAIL because a restored guest stopped answering; both are fixed in a78da65. The six
faults of 6.1 that ended wrong were repeated after these changes, and each ended as expected; the figures
below are those from before.

Random runs that once ended wrong are kept by name in `tests/campaigns/faults/kept.py`, and `make faults`
repeats them.

A bound is the largest rate at which so few would still be seen in one campaign of twenty (Clopper and
Pearson, one-sided).
"""
_PART = "### Kernel {kernel}, seed {seed}\n"


class Count(NamedTuple):
    """How often something happened in how many runs."""

    happened: int
    runs: int

    def __str__(self) -> str:
        bound = figures.upper_bound(*self)
        return f"{self.happened} of {self.runs} | {bound * 100:.1f} %"


def counts(ended: Sequence[Ended]) -> dict[str, Count]:
    """Return the figures of some runs."""
    faults = [one for one in ended if one.draw.fault and one.outcome in ("right", "wrong")]
    red = [one for one in faults if one.draw.group != "overcome"]
    healthy = [one for one in ended if one.draw.fault is None]
    calm = [*healthy, *(one for one in faults if one.draw.group == "overcome")]
    return {
        "a fault ended green": Count(sum(one.false_green for one in red), len(red)),
        "a fault ended in a wrong class": Count(sum(one.outcome == "wrong" for one in faults), len(faults)),
        "a healthy run ended red": Count(sum(one.exit_code != 0 for one in healthy), len(healthy)),
        "a healthy run lost a machine and went on with another": Count(
            sum(one.exit_code == 0 and one.lost > 0 for one in healthy), len(healthy)
        ),
        "a run ended red that is healthy or is to overcome its fault": Count(
            sum(one.exit_code != 0 for one in calm), len(calm)
        ),
    }


def part(kernel: str, seed: int, ended: Sequence[Ended]) -> str:
    """Return the figures and the matrix of one kernel as Markdown."""
    outcomes = Counter(one.outcome for one in ended)
    faults = sum(one.draw.fault is not None for one in ended)
    busy = sum(one.draw.busy for one in ended)
    pairs = [(one.draw.group, one.verdict) for one in ended if one.outcome in ("right", "wrong")]
    rows = [f"| {name} | {count} |" for name, count in counts(ended).items() if count.runs]
    matrix = figures.as_markdown(figures.matrix(pairs), GROUPS, [str(verdict) for verdict in Verdict])
    wrong = [f"- {_wrong(one)}" for one in ended if one.outcome == "wrong"]
    lines = [
        _PART.format(kernel=kernel, seed=seed),
        f"{faults} faults and {len(ended) - faults} healthy runs, {busy} of them on a busy host; "
        f"{outcomes['missed']} faults did not take place, {outcomes['late']} came too late.\n",
        "| what | seen | 95 % bound |\n|---|---|---|",
        *rows,
        "",
        matrix,
    ]
    return "\n".join([*lines, *(["Ended wrong:\n", *wrong, ""] if wrong else [])])


def _wrong(one: Ended) -> str:
    when = f"{one.draw.phase} at {one.draw.fraction}, {'busy' if one.draw.busy else 'idle'}"
    return f"{one.number}: {one.draw.kind} in {when}: {one.verdict}"


def write(page: Path, kernel: str, seed: int, ended: Sequence[Ended]) -> None:
    """Write a kernel's part into the page, in place of its earlier one."""
    before, _, random = page.read_text(encoding="utf-8").partition(RANDOM)
    parts = {match[1]: match[0] for match in re.finditer(r"(?ms)^### Kernel (\S+),.*?(?=^### |\Z)", random)}
    parts[kernel] = part(kernel, seed, ended)
    body = "\n".join(text.rstrip("\n") + "\n" for text in parts.values())
    page.write_text(f"{before.rstrip()}\n\n{HEAD}\n{body}", encoding="utf-8")
