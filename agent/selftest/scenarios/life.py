"""What an agent's beginning, its changes of mind and its end do to the stream of events."""

from __future__ import annotations

from contextlib import closing
from itertools import cycle
from pathlib import Path

from agent.events import EventType
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves

RATE = 503  # events a second while the rules change
SECONDS = 2
WANTED = 13


def _opens(path: str, count: int = WANTED) -> str:
    return f"repeat {count}\nopen {path} O_RDONLY -> $0\nclose $0\nend\n"


@proves("life.open_files")
def life_open_files(bench: Bench) -> None:
    """Change a file by a descriptor that is older than the watching."""
    path = bench.file("watched")
    bench.rules(cut=f'truncate.file.path == "{path}"', changed=f'chmod.file.path == "{path}"')
    bench.unwatched(f"open {path} O_RDWR -> $5\n")
    played = bench.play("ftruncate $5 7\nfchmod $5 0600\n")
    bench.arrives_once(played, "cut", {"file.path": path.encode(), "retval": 0})
    bench.arrives_once(played, "changed", {"file.path": path.encode(), "mode": 0o600})
    bench.unwatched("close $5\n")


@proves("life.reload")
def life_reload(bench: Bench) -> None:
    """Change the rules again and again while events flow, all of which every set of rules wants."""
    path = bench.file("watched")
    wanted = {"wanted": f'open.file.path == "{path}"'}
    sets = cycle(
        (wanted | {"more": 'open.file.name == "nothing"'}, wanted | {"most": 'unlink.file.name == "x"'})
    )
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        bench.subject.enforce(bench.with_sentinel(next(sets)))

    bench.rules(**wanted)
    script = f"rate {RATE}/s for {SECONDS}s\nopen {path} O_RDONLY -> $0\nclose $0\nend\n"
    played = bench.play(script, meanwhile=change)
    bench.equal("events that arrive", RATE * SECONDS, len(played.matches("wanted")))
    bench.evidence.record("the rules changed meanwhile", changes > 0, "more than 0", changes)


@proves("life.two_agents")
def life_two_agents(bench: Bench) -> None:
    """A second agent on the same hooks, with rules of its own, comes and goes."""
    one, two = bench.file("one"), bench.file("two")
    held = set(Path("/proc/self/fd").iterdir())
    pinned = _pinned()
    bench.rules(wanted=f'open.file.path == "{one}"')
    with closing(bench.another()) as other:
        other.watch(bench.pid)
        other.enforce({"theirs": f'open.file.path == "{two}"'})
        played = bench.play(_opens(one) + _opens(two))
        theirs = [judged for judged in other.drain() if "theirs" in judged.rules]
        bench.equal("events of the first agent", WANTED, len(played.matches("wanted")))
        bench.equal("events of the second agent", WANTED, len(theirs))
        bench.equal("rejected by the first", WANTED, played.spent[EventType.OPEN].approver_rejected)
    after = bench.play(_opens(one))
    bench.equal("events of the first agent afterwards", WANTED, len(after.matches("wanted")))
    bench.equal("descriptors left open", set(), set(Path("/proc/self/fd").iterdir()) - held)
    bench.equal("objects left pinned", pinned, _pinned())


def _pinned() -> list[str]:
    place = Path("/sys/fs/bpf")
    return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
