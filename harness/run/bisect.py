"""Finds the first bad kernel of an ordered list, or the first bad commit of a kernel's tree.

A kernel is judged by the results of a run: good if every test ended as expected and one passed, bad if the
product failed. All else (no boot, infrastructure, no result, only skips, a test that failed and then passed)
says nothing about the kernel: it is skipped, as `git bisect skip` does.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.errors import ConfigError, InfrastructureError
from harness.results.model import Results
from harness.results.verdict import Verdict
from harness.text import one_line


class Judgement(StrEnum):
    """What a run says about a kernel; the values are the words of git."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


class Judged(NamedTuple):
    """The judgement of one kernel, and why."""

    judgement: Judgement
    reason: str


class Conclusion(NamedTuple):
    """The end of a bisection: the first bad kernel, "" if it was not found, and a sentence."""

    found: str
    reason: str


class Order(Protocol):
    """What is searched."""

    def next(self) -> str:
        """The kernel to judge next, "" if the search has ended. Raises HarnessError."""

    def record(self, name: str, judged: Judged) -> None:
        """Record the judgement of a kernel."""

    def left(self) -> str:
        """How much is left, in a few words."""

    def conclusion(self) -> Conclusion:
        """The result, once `next` returned ""."""


def judge(results: Results) -> Judged:
    """The judgement that follows from the results of a run with one kernel."""
    tests = [test for cell in results.cells for test in cell.tests]
    ends = [(cell.verdict, f"{cell.id}: {cell.reason}") for cell in results.cells]
    ends += [(test.verdict, f"{test.name}: {test.reason}") for test in tests]
    bad = [reason for verdict, reason in ends if not (verdict.expected or verdict.unknown)]
    flaky = [reason for verdict, reason in ends if verdict is Verdict.FLAKY]
    unknown = [reason for verdict, reason in ends if verdict.unknown]
    passed = [test for test in tests if test.verdict in (Verdict.PASS, Verdict.XFAIL)]
    if certain := [reason for reason in bad if reason not in flaky]:
        return Judged(Judgement.BAD, certain[0])
    if unclear := [*unknown, *flaky]:
        return Judged(Judgement.SKIP, unclear[0])
    if not passed:
        return Judged(Judgement.SKIP, ends[0][1] if ends else "no test ran")
    return Judged(Judgement.GOOD, f"{len(passed)} passed")


@dataclass
class Listed:
    """Kernels from oldest to newest. Both ends are judged first: the last must be bad, the first good."""

    names: Sequence[str]
    judged: dict[str, Judged] = field(default_factory=dict)

    def next(self) -> str:
        """See `Order.next`."""
        known = self._judgeable()
        if not known:
            return ""
        for end, wanted in ((known[-1], Judgement.BAD), (known[0], Judgement.GOOD)):
            if end not in self.judged:
                return end
            if self.judged[end].judgement is not wanted:
                return ""
        low, high = self._range()
        middle = (low + high) / 2
        untested = [index for index in range(low + 1, high) if self.names[index] not in self.judged]
        return self.names[min(untested, key=lambda index: abs(index - middle))] if untested else ""

    def record(self, name: str, judged: Judged) -> None:
        """See `Order.record`."""
        self.judged[name] = judged

    def left(self) -> str:
        """See `Order.left`."""
        low, high = self._range()
        return f"{high - low - 1} of {len(self.names)} left"

    def conclusion(self) -> Conclusion:
        """See `Order.conclusion`."""
        known = self._judgeable()
        if not known:
            return Conclusion("", f"no kernel can be judged: {self.judged[self.names[0]].reason}")
        if self.judged[known[-1]].judgement is Judgement.GOOD:
            return Conclusion("", f"no kernel is bad: {known[-1]}, the newest, is good")
        if self.judged[known[0]].judgement is Judgement.BAD:
            return Conclusion("", f"no kernel is good: {known[0]}, the oldest, is bad")
        low, high = self._range()
        if between := self.names[low + 1 : high]:
            names = ", ".join((*between, self.names[high]))
            return Conclusion("", f"only skipped kernels are left; the first bad one is one of {names}")
        return Conclusion(
            self.names[high], f"{self.names[high]} is the first bad kernel; {self.names[low]} is good"
        )

    def _judgeable(self) -> list[str]:
        """The kernels that were not skipped."""
        skipped = {name for name, judged in self.judged.items() if judged.judgement is Judgement.SKIP}
        return [name for name in self.names if name not in skipped]

    def _range(self) -> tuple[int, int]:
        """The places of the newest good kernel before the oldest bad one, and of that one."""
        marks = {name: judged.judgement for name, judged in self.judged.items()}
        places = list(enumerate(self.names))
        high = min((at for at, name in places if marks.get(name) is Judgement.BAD), default=len(places))
        low = max((at for at, name in places[:high] if marks.get(name) is Judgement.GOOD), default=-1)
        return low, high


class Commits:
    """The commits of a kernel's tree between a good and a bad one; git decides which is judged next.

    A bisection that was interrupted goes on where it was. At the end the tree is where it was before.
    """

    def __init__(self, tree: Path, good: str, bad: str, *, resume: bool = False) -> None:
        self._tree = tree
        self._found = Conclusion("", "")
        self._left = ""
        if not (tree / ".git").exists():
            raise ConfigError(
                f"--tree {tree}: not a git checkout", hint="name the folder of a kernel's git tree"
            )
        if self._git("status", "--porcelain", "--untracked-files=no"):
            raise ConfigError(f"--tree {tree}: it has changes", hint=f"git -C {tree} stash")
        begun = self._try("bisect", "log").returncode == 0
        if begun and not resume:
            raise ConfigError(f"--tree {tree}: another bisection goes on", hint=f"git -C {tree} bisect reset")
        if not begun:
            self._read(self._git("bisect", "start", bad, good, "--"))

    def next(self) -> str:
        """See `Order.next`."""
        return "" if self._found.reason else self._git("rev-parse", "--short=12", "HEAD").strip()

    def record(self, name: str, judged: Judged) -> None:
        """See `Order.record`."""
        done = self._try("bisect", judged.judgement.value, name)
        self._read(done.stdout + done.stderr)
        if done.returncode and not self._found.reason:
            raise InfrastructureError(f"git bisect {judged.judgement}: {one_line(done.stderr)}")

    def left(self) -> str:
        """See `Order.left`."""
        return self._left

    def conclusion(self) -> Conclusion:
        """See `Order.conclusion`."""
        self._git("bisect", "reset")
        return self._found

    def _read(self, output: str) -> None:
        """Read what git prints after each mark: how much is left, or the result."""
        self._left = next(iter(re.findall(r"Bisecting: (\d+ revisions?) left", output)), "the last one")
        if match := re.search(r"^([0-9a-f]{12})[0-9a-f]* is the first bad commit", output, re.MULTILINE):
            subject = self._git("log", "-1", "--format=%s", match[1]).strip()
            self._found = Conclusion(match[1], f"{match[1]} is the first bad commit: {one_line(subject)}")
        elif "only 'skip'ped commits left" in output:
            commits = ", ".join(one[:12] for one in re.findall(r"^[0-9a-f]{40}$", output, re.MULTILINE))
            self._found = Conclusion(
                "", f"only skipped commits are left; the first bad one is one of {commits}"
            )

    def _git(self, *words: str) -> str:
        done = self._try(*words)
        if done.returncode:
            reason = one_line(done.stderr or done.stdout)
            raise ConfigError(f"git -C {self._tree} {' '.join(words)}: {reason}")
        return done.stdout

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["git", "-C", str(self._tree), *words]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
