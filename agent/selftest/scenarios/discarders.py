"""What no rule can match is dropped in the kernel, once the agent has seen it."""

from __future__ import annotations

from pathlib import Path

from agent.events import EventType
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves

NOISE = 1009
WANTED = 13


@proves("discarders.parent")
def discarders_parent(bench: Bench) -> None:
    """Open a thousand files in a directory that no rule can match, then files of /etc, where some match."""
    dull = bench.path("dull")
    Path(dull).mkdir()
    everywhere_else = f'open.file.path !~ "{dull}/*" && open.file.name != "group"'
    noise = f"open {dull}/f%d O_RDWR|O_CREAT 0600 -> $0\nclose $0\n"

    bench.rules(elsewhere=everywhere_else)
    first = bench.play(f"repeat 1\n{noise}end\n")
    bench.equal("the first event arrives", 1, len(first.of(EventType.OPEN)))
    rest = bench.play(f"repeat {NOISE}\n{noise}end\n")
    bench.equal("later events that reach the agent", 0, len(rest.of(EventType.OPEN)))
    bench.equal("later events discarded", NOISE, rest.spent[EventType.OPEN].discarded)

    unmatched = bench.play("open /etc/group O_RDONLY -> $0\nclose $0\n")
    bench.equal("an event of /etc that no rule matches", 1, len(unmatched.of(EventType.OPEN)))
    wanted = bench.play(f"repeat {WANTED}\nopen /etc/passwd O_RDONLY -> $0\nclose $0\nend\n")
    bench.equal("events of /etc that a rule matches", WANTED, len(wanted.matches("elsewhere")))

    bench.rules(elsewhere=everywhere_else)
    again = bench.play(f"repeat 1\n{noise}end\n")
    bench.equal("the first event after a reload arrives", 1, len(again.of(EventType.OPEN)))
