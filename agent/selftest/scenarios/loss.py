"""Nothing is lost while the filters do their work, and what is lost is counted."""

from __future__ import annotations

from agent.events import EventType
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves

RATE = 5003  # events a second, of which WANTED_RATE are wanted
WANTED_RATE = 101
SECONDS = 5
BURST = 1009


def _beat(rate: int, path: str) -> str:
    return f"rate {rate}/s for {SECONDS}s\nopen {path} O_RDONLY -> $0\nclose $0\nend\n"


@proves("loss.steady")
def loss_steady(bench: Bench) -> None:
    """Two processes at once: one makes noise, the other opens what the rule wants."""
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    played = bench.play(
        f"fork -> $1\n{_beat(WANTED_RATE, wanted)}end\n{_beat(RATE - WANTED_RATE, noise)}wait $1\n"
    )
    spent = played.spent[EventType.OPEN]

    for beat in played.outcome.of("rate"):
        held = beat.seconds <= SECONDS * 1.02
        bench.evidence.record(
            "the generator held its rate", held, f"{beat.ret} beats in {SECONDS} s", beat.seconds
        )
    bench.equal("wanted events that arrive", WANTED_RATE * SECONDS, len(played.matches("wanted")))
    bench.equal("noise rejected", (RATE - WANTED_RATE) * SECONDS, spent.approver_rejected)
    bench.equal("lost", 0, spent.lost)


@proves("loss.small_ring")
def loss_small_ring(bench: Bench) -> None:
    """Fill the ring while the agent does not read: what does not fit is lost, and exactly that is counted."""
    wanted = bench.file("wanted")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    burst = bench.play(f"repeat {BURST}\nopen {wanted} O_RDONLY -> $0\nclose $0\nend\n", absorb=False)
    spent = burst.spent[EventType.OPEN]
    arrived = len(burst.matches("wanted"))

    bench.evidence.record("some of the burst is lost", 0 < arrived < BURST, f"fewer than {BURST}", arrived)
    bench.equal("what did not arrive was counted", BURST - arrived, spent.ring_full)
    after = bench.play(f"open {wanted} O_RDONLY -> $0\nclose $0\n")
    bench.arrives_once(after, "wanted", {"file.path": wanted.encode()})
