"""What many rules cost: `python -m tests.campaigns.many_rules [COUNT...]`.

For each number of rules one line, all in one process and in CPU time: to load them, and for an event that
none of them matches to evaluate it, and to find a discarder in a directory that was not seen before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from agent.events.model import Event, EventType, File
from agent.filters import approvers, discarders
from agent.rules.engine import Ruleset
from agent.rules.load import loads

COUNTS = (10, 100, 1_000, 4_000)
_EVENTS = 2_000


def policy(count: int) -> str:
    """Return rules as operators write them: single files, names, trees and lists."""
    forms = (
        'open.file.path == "/srv/app{0}/conf.yaml" && open.flags & (O_WRONLY|O_RDWR) > 0',
        'open.file.name == "secret{0}.pem"',
        'open.file.path =~ "/srv/app{0}/data/**" && process.comm != "svc{0}"',
        'open.file.path in ["/opt/a{0}/x", "/opt/a{0}/y"] && process.uid != 0',
    )
    rules = [f"  - id: r{at}\n    expression: '{forms[at % len(forms)].format(at)}'" for at in range(count)]
    return "\n".join(["rules:", *rules])


def event(number: int) -> Event:
    """Return an open in a directory of its own, which no rule matches."""
    path = f"/var/lib/some/deep/dir{number}/file".encode()
    file = File(path, 5, 5, 1, 0o100644, nlink=1, identities=(5, 4, 3, 2))
    return Event(EventType.OPEN, 1, 7, 7, 1, file=file, comm=b"c")


def each(work: Callable[[Event], object]) -> float:
    """Return the microseconds of CPU time for one event."""
    events = [event(number) for number in range(_EVENTS)]
    started = time.process_time()
    for one in events:
        work(one)
    return (time.process_time() - started) / _EVENTS * 1e6


def measure(count: int) -> tuple[float, float, float]:
    """Return seconds to load and derive approvers, and microseconds to evaluate and to discard."""
    text = policy(count)
    started = time.process_time()
    rules: Ruleset = loads(text)
    approvers.derive(rules)
    loaded = time.process_time() - started
    discarders.best(rules, event(-1))
    return loaded, each(rules.evaluate), each(lambda one: discarders.best(rules, one))


def main(arguments: list[str]) -> int:
    """Print the table."""
    loads(policy(1))  # creates the parser
    sys.stdout.write("rules  load      an event without a match  its discarder\n")
    for count in [int(text) for text in arguments] or COUNTS:
        loaded, evaluated, discarded = measure(count)
        sys.stdout.write(f"{count:5}  {loaded:6.3f} s  {evaluated:8.2f} us{discarded:27.2f} us\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
