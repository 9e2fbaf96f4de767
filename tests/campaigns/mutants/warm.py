"""Tests each fault on one warm machine: build it, copy it, load it, and run the tests that must notice.

    python -m tests.campaigns.mutants.warm [--kernel NAME] [--record] [NAME...]

prints mutant x scenario; without --kernel each fault is tried on the kernel that the catalogue has for it.
The exit status is 1 if a fault was not noticed by each test that should, if one does not fit the code, or if
the code as it is does not pass these tests.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.selftest.catalogue import by_name
from harness.commands import booted, options
from harness.errors import HarnessError
from harness.guest import deploy
from harness.guest.base import Guest
from harness.guest.selftest import SelftestClient
from harness.host import deadlines
from harness.lab.lab import VmBench
from tests.campaigns.mutants import table, workshop
from tests.campaigns.mutants.catalogue import MUTANTS
from tests.campaigns.mutants.model import Mutant

LOAD_S = 240.0  # on an emulated CPU that others want too
TEST_S = 240.0  # at least
UNIT = "tests/"  # a unit test begins with it: `tests/FILE::FUNCTION`


def bundle(root: Path) -> bytes:
    """Return the agent of a built tree, as that tree's own harness packs it."""
    code = "import sys; from harness.lab import supplies; sys.stdout.buffer.write(supplies.bundle())"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, cwd=root, env=environment, stdout=subprocess.PIPE, check=True).stdout


def verdicts(guest: Guest, copy: Path, tests: Sequence[str], hookset: str) -> dict[str, str]:
    """Return the verdicts of these tests with the copy's agent; NOT_RUN if it does not load."""
    units = [test for test in tests if test.startswith(UNIT)]
    scenarios = [test for test in tests if test not in units]
    found = {test: _on_this_host(copy, test) for test in units}
    return found | (_in_guest(guest, copy, scenarios, hookset) if scenarios else {})


def _on_this_host(copy: Path, test: str) -> str:
    """Return the verdict of a unit test of the copy; one that is skipped is NOT_RUN."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(argv, cwd=copy, capture_output=True, text=True, check=False)
    last = done.stdout.strip().rpartition("\n")[2]
    verdict = {0: "PASS", 1: "FAIL"}.get(done.returncode)
    return verdict if verdict and " skipped" not in last else f"NOT_RUN ({last})"


def _in_guest(guest: Guest, copy: Path, tests: Sequence[str], hookset: str) -> dict[str, str]:
    deploy.deploy(guest, bundle(copy))
    client = SelftestClient.start(guest, LOAD_S)
    try:
        client.load(hookset, "kernel", "ringbuf", LOAD_S, _events(tests))
        ran = [client.test(test, _patience(test)) for test in tests]
    except HarnessError as error:
        return dict.fromkeys(tests, f"NOT_RUN ({error})")
    finally:
        client.close()
    for one in ran:
        sys.stderr.write(f"{one.name}: {one.verdict} {one.reason}\n" if one.reason else "")
    return {one.name: one.verdict for one in ran}


def _patience(test: str) -> float:
    scenario = by_name(test)
    return max(TEST_S, deadlines.TEST_S * (1 + scenario.cost) if scenario else 0.0)


def _events(tests: Sequence[str]) -> tuple[str, ...]:
    """Return the event types that these tests need: to load all would take most of the time."""
    scenarios = filter(None, map(by_name, tests))
    needs = (need for scenario in scenarios for need in scenario.needs)
    return tuple(dict.fromkeys(n.removeprefix("event:") for n in needs if n.startswith("event:")))


def judge(guest: Guest, copy: Path, mutant: Mutant) -> dict[str, str]:
    """Return test -> verdict for one fault."""
    try:
        with workshop.mutated(copy, mutant):
            return verdicts(guest, copy, mutant.caught_by, mutant.hookset)
    except workshop.MisfitError as error:
        return dict.fromkeys(mutant.caught_by, f"NOT_RUN ({error})")


def _check_sound(guest: Guest, copy: Path, tests: Sequence[str], hookset: str) -> None:
    sound = verdicts(guest, copy, tests, hookset)
    if broken := {test: verdict for test, verdict in sound.items() if verdict != "PASS"}:
        raise workshop.MisfitError(f"without any fault these tests do not pass: {_listed(broken)}")
    _say(f"{'(no fault)':<32} {len(tests)} tests PASS with {hookset}")


def _check_all_sound(guest: Guest, copy: Path, mutants: Sequence[Mutant]) -> None:
    """Raise MisfitError if a test does not pass without a fault."""
    for hookset in dict.fromkeys(mutant.hookset for mutant in mutants):
        some = (mutant.caught_by for mutant in mutants if mutant.hookset == hookset)
        _check_sound(guest, copy, tuple(dict.fromkeys(test for tests in some for test in tests)), hookset)


def _judged(guest: Guest, copy: Path, mutants: Sequence[Mutant]) -> dict[str, dict[str, str]]:
    found = {}
    for mutant in mutants:
        found[mutant.name] = judge(guest, copy, mutant)
        _say(f"{mutant.name:<32} {_listed(found[mutant.name])}")
    return found


def main(words: Sequence[str]) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser()
    booted.configure(parser)
    parser.add_argument("--record", action="store_true", help="write what was noticed into docs/mutants.md")
    parser.add_argument("names", nargs="*", help="of faults; all if none is named")
    parser.set_defaults(kernel=[])
    arguments = parser.parse_args(words)
    chosen = [one for one in MUTANTS if not arguments.names or one.name in arguments.names]
    try:
        found = _on_machines(arguments, chosen)
    except workshop.MisfitError as error:
        _say(str(error))
        return 1
    survivors = [name for name, row in found.items() if set(row.values()) != {"FAIL"}]
    _say(f"{len(chosen)} faults, {len(survivors)} survived: {', '.join(survivors) or 'none'}")
    if arguments.record:
        table.write(table.PAGE, {name: row for name, row in found.items() if name not in survivors})
    return 1 if survivors else 0


def _on_machines(arguments: argparse.Namespace, mutants: Sequence[Mutant]) -> dict[str, dict[str, str]]:
    """Return fault -> test -> verdict, with one machine for each kernel. Raises MisfitError.

    With a command line there is one for the code as it is, and one for each fault.
    """
    by_machine: dict[Mutant, list[Mutant]] = {}
    for mutant in mutants:
        machine = Mutant("", "", "", "", (), mutant.kernel, "", mutant.vcpus, mutant.tags, mutant.cmdline)
        by_machine.setdefault(machine, []).append(mutant)
    found: dict[str, dict[str, str]] = {}
    with contextlib.closing(options.bench(arguments)) as bench:
        for machine, some in by_machine.items():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder)
                workshop.copy_tree(copy)
                with _booted(arguments, machine, bench) as guest:
                    _check_all_sound(guest, copy, some)
                    if not machine.cmdline:
                        found |= _judged(guest, copy, some)
                for mutant in some if machine.cmdline else ():
                    with _booted(arguments, machine, bench) as guest:
                        found |= _judged(guest, copy, [mutant])
    return found


@contextlib.contextmanager
def _booted(arguments: argparse.Namespace, wanted: Mutant, bench: VmBench) -> Iterator[Guest]:
    """Boot the machine that a mutant wants, or that the user asked for."""
    asked = argparse.Namespace(**vars(arguments))
    if not arguments.kernel:
        asked.kernel, asked.tag = [wanted.kernel], [*(arguments.tag or []), *wanted.tags]
    asked.vcpus = arguments.vcpus or wanted.vcpus
    asked.cmdline = f"{arguments.cmdline} {wanted.cmdline}".strip()
    with booted.booted(asked, bench) as machine:
        yield machine.guest


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{test} {verdict}" for test, verdict in found.items())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
