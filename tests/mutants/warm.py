"""Each fault on one warm machine: built, sent over, loaded, and the tests run that must notice.

    python -m tests.mutants.warm [--kernel NAME] [NAME...]

prints mutant x scenario; the exit status is 1 if a fault was noticed by no test, or not by each that should.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.selftest.catalogue import by_name
from harness.commands import booted
from harness.errors import HarnessError
from harness.guest import deploy
from harness.guest.base import Guest
from harness.guest.selftest import SelftestClient
from tests.mutants import workshop
from tests.mutants.catalogue import MUTANTS, Mutant

KERNEL = "6.1"
LOAD_S = 240.0  # on an emulated CPU that others want too
TEST_S = 240.0


def bundle(root: Path, built: Path) -> bytes:
    """The agent of a tree that `workshop.build` has built."""
    return deploy.build(
        deploy.BundleSources(
            root / "agent", built / "fim.bpf.o", built / "fim-gen", built / "rules_tables.py"
        )
    )


def verdicts(guest: Guest, tests: tuple[str, ...]) -> dict[str, str]:
    """What is deployed in the guest, judged by these tests; one that does not even load proves nothing."""
    client = SelftestClient.start(guest, LOAD_S)
    try:
        client.load("auto", "kernel", "ringbuf", LOAD_S, _events(tests))
        return {test: client.test(test, TEST_S).verdict for test in tests}
    except HarnessError as error:
        return dict.fromkeys(tests, f"NOT RUN ({error})")
    finally:
        client.close()


def _events(tests: tuple[str, ...]) -> tuple[str, ...]:
    """The event types that these tests need: to load the rest is most of the time that a fault takes."""
    scenarios = filter(None, map(by_name, tests))
    needs = (need for scenario in scenarios for need in scenario.needs)
    return tuple(dict.fromkeys(n.removeprefix("event:") for n in needs if n.startswith("event:")))


def judge(guest: Guest, mutant: Mutant) -> dict[str, str]:
    """One fault: test -> verdict."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        workshop.build(mutant, copy)
        deploy.deploy(guest, bundle(copy, copy / "build"))
    return verdicts(guest, mutant.caught_by)


def rows(guest: Guest, mutants: tuple[Mutant, ...]) -> Iterator[tuple[Mutant, dict[str, str]]]:
    """Each fault with what became of it."""
    for mutant in mutants:
        yield mutant, judge(guest, mutant)


def main(words: list[str]) -> int:
    """Print the table; the exit status."""
    parser = argparse.ArgumentParser()
    booted.configure(parser)
    parser.add_argument("names", nargs="*", help="of faults; all if none is named")
    parser.set_defaults(kernel=[])
    arguments = parser.parse_args(words)
    arguments.kernel = arguments.kernel or [KERNEL]
    chosen = tuple(one for one in MUTANTS if not arguments.names or one.name in arguments.names)
    survivors = []
    with booted.booted(arguments) as machine:
        for mutant, found in rows(machine.guest, chosen):
            told = ", ".join(f"{test} {verdict}" for test, verdict in found.items())
            sys.stdout.write(f"{mutant.name:<32} {told}\n")
            sys.stdout.flush()
            if not all(verdict == "FAIL" for verdict in found.values()):
                survivors.append(mutant.name)
    sys.stdout.write(f"{len(chosen)} faults, {len(survivors)} survived: {', '.join(survivors) or 'none'}\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
