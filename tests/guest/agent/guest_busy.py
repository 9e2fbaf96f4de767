"""Repeats each kind of access of the agent to its maps while another process opens files. Runs in a guest.

Prints as JSON, for each act, how many files were opened, how many of them were seen and missed, and how
often the act was done meanwhile.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count

sys.path.insert(0, "/opt/fim")

from agent.events.model import EventType
from agent.filters.approvers import Approvers, Mode
from agent.kernel import loader
from agent.kernel.maps import Discard, Discarder

PATH = "/w/busy"
numbers = count()


def approve() -> None:
    """Set other rules: this inserts and deletes approvers, and writes a policy."""
    paths = frozenset(b"/nowhere/%d" % next(numbers) for _ in range(20))
    loaded.set_policy({EventType.OPEN: Approvers(Mode.APPROVE, paths=paths)})


def discard() -> None:
    """Insert a discarder."""
    discarder = Discarder(next(numbers), 1, 0)
    loaded.tables.insert_discard(discarder, Discard(1, 1 << 62, 0, 0, 0))


def look() -> None:
    """Read the counters, as `agent status` does."""
    loaded.tables.counts()
    loaded.tables.generation()


def watch() -> None:
    """Set the same scope again."""
    loaded.set_scope(os.getppid())


def until_sigterm(act: Callable[[], None], out: int) -> None:
    """Repeat an action until SIGTERM, then write how often it ran."""
    signalled: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: signalled.append(1))
    acts = 0
    while not signalled:
        act()
        acts += 1
    os.write(out, str(acts).encode())


def opened(files: int) -> None:
    for _ in range(files):
        os.close(os.open(PATH, os.O_RDONLY))


def beside(act: Callable[[], None], files: int) -> int:
    """Open files while a child repeats an action; return how often it ran."""
    back, out = os.pipe()
    child = os.fork()
    if not child:
        until_sigterm(act, out)
        os._exit(0)
    opened(files)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    return int(os.read(back, 64))


def measured(act: Callable[[], None], files: int) -> dict[str, int]:
    """Open the files in a child, which is the scope, because the agent's own process is never seen."""
    before, missed = loaded.tables.counts()[EventType.OPEN].seen, misses()
    back, out = os.pipe()
    child = os.fork()
    if not child:
        loaded.set_scope(os.getpid())
        os.write(out, str(beside(act, files)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    seen = loaded.tables.counts()[EventType.OPEN].seen - before
    return {"opened": files, "seen": seen, "missed": misses() - missed, "acts": int(os.read(back, 64))}


def misses() -> int:
    return sum(hook.recursion_misses for hook in loaded.hooks)


if __name__ == "__main__":
    hookset, files = sys.argv[1], int(sys.argv[2])
    with open(PATH, "w"):
        pass
    loaded = loader.load(hookset, events=(EventType.OPEN, EventType.UNLINK, EventType.RENAME))
    acts = (approve, discard, look, watch)
    json.dump({act.__name__: measured(act, files) for act in acts}, sys.stdout)
    loaded.close()
