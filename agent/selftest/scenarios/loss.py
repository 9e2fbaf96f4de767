"""Nothing is lost while the filters do their work, and what is lost is counted."""

from __future__ import annotations

import os

from agent.events.model import EventType
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.scenarios import proves

RATE = 5003  # events a second, of which WANTED_RATE are wanted
WANTED_RATE = 101
SECONDS = 2
LONG_S = 5
LATE_S = 0.1
ATTEMPTS = 2
ALONE = 2003  # events by which the reach of the CPU is measured
HEADROOM = 1.5  # how much more than the rate the CPU must be able to do without the filters
BURST = 1009
FAST = 20_011
FLOOD = 101  # wanted events, each behind FLOOD_NOISE others
FLOOD_NOISE = 997
STOPPED_S = 2  # in which the agent reads nothing
STOPPED_RATE = 503
SHARE = 2003  # wanted events of each processor
MOST_CPUS = 4
LADDER = (1009, 2003, 4001, 6007, 8009, 12_007, 16_001, 20_011, 30_011, 40_009, 60_013, 80_021)


def _open(path: str) -> str:
    return f"open {path} O_RDONLY -> $0\nclose $0\n"


def _beat(rate: int, seconds: int, path: str) -> str:
    return f"rate {rate}/s for {seconds}s\n{_open(path)}end\n"


def _check_reach(bench: Bench, path: str, rate: int) -> None:
    """The rate must be within this CPU's reach; how far that is, is measured with nothing in scope."""
    alone = bench.unwatched(f"repeat {ALONE}\n{_open(path)}end\n").at(1)
    reach = int(ALONE / alone.seconds)
    least = int(rate * HEADROOM)
    if reach < least:
        raise CannotTellError(f"this CPU opens {reach:,} files a second with nothing watched, not {least:,}")
    bench.evidence.record("opens a second with nothing watched", True, f"at least {least}", reach)


def _held(played: Round, seconds: int) -> bool:
    return all(beat.seconds <= seconds + LATE_S for beat in played.outcome.of("rate"))


def _check_held(bench: Bench, played: Round, rate: int, seconds: int) -> None:
    """A rate that the generator did not reach proves nothing about that rate."""
    made = sum(round(beat.ret / beat.seconds) for beat in played.outcome.of("rate"))
    if not _held(played, seconds):
        raise CannotTellError(f"this CPU made {made:,} events a second, none of them lost, not {rate:,}")
    bench.evidence.record("events a second", True, rate, made)


def _check_rate(bench: Bench, rate: int, seconds: int) -> None:
    """Two processes at once: one makes noise, the other opens what the rule wants.

    Another machine may take the CPU away for a while, so the rate may be tried again; a loss may not.
    """
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    _check_reach(bench, noise, rate)
    beats = _beat(WANTED_RATE, seconds, wanted), _beat(rate - WANTED_RATE, seconds, noise)
    script = f"fork -> $1\n{beats[0]}end\n{beats[1]}wait $1\n"
    for _ in range(ATTEMPTS):
        played = bench.play(script)
        spent = played.counted[EventType.OPEN]
        bench.equal("wanted events that arrive", WANTED_RATE * seconds, len(played.matches("wanted")))
        bench.equal("noise rejected", (rate - WANTED_RATE) * seconds, spent.approver_rejected)
        bench.equal("lost", 0, spent.lost)
        if _held(played, seconds) or bench.evidence.failures:
            break
    _check_held(bench, played, rate, seconds)


@proves("loss.steady")
def loss_steady(bench: Bench) -> None:
    """A rate that every machine should hold."""
    _check_rate(bench, RATE, SECONDS)


@proves("loss.sustained")
def loss_sustained(bench: Bench) -> None:
    """The same rate for longer."""
    _check_rate(bench, RATE, LONG_S)


@proves("loss.fast")
def loss_fast(bench: Bench) -> None:
    """Four times that rate."""
    _check_rate(bench, FAST, LONG_S)


@proves("loss.burst")
def loss_burst(bench: Bench) -> None:
    """A flood as fast as the machine can, with what the rule wants in between."""
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    script = f"repeat {FLOOD}\n{_open(wanted)}repeat {FLOOD_NOISE}\n{_open(noise)}end\nend\n"
    played = bench.play(script)
    spent = played.counted[EventType.OPEN]
    bench.equal("wanted events that arrive", FLOOD, len(played.matches("wanted")))
    bench.equal("noise rejected", FLOOD * FLOOD_NOISE, spent.approver_rejected)
    bench.equal("lost", 0, spent.lost)


@proves("loss.unread")
def loss_unread(bench: Bench) -> None:
    """Read nothing while a burst is made: the ring holds all of it."""
    wanted = bench.file("wanted")
    _check_kept(bench, wanted, f"repeat {BURST}\n{_open(wanted)}end\n", BURST)


@proves("loss.stopped")
def loss_stopped(bench: Bench) -> None:
    """Read nothing for a while, with events at a steady rate."""
    wanted = bench.file("wanted")
    script = f"rate {STOPPED_RATE}/s for {STOPPED_S}s\n{_open(wanted)}end\n"
    _check_kept(bench, wanted, script, STOPPED_RATE * STOPPED_S)


def _check_kept(bench: Bench, wanted: str, script: str, made: int) -> None:
    """What happened while nothing was read is there afterwards, in order."""
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    played = bench.play(script, absorb=False)
    times = [event.time_ns for event in played.matches("wanted")]
    bench.equal("wanted events that arrive", made, len(times))
    bench.equal("they are in order", sorted(times), times)
    bench.equal("lost", 0, played.counted[EventType.OPEN].lost)


@proves("loss.small_ring")
def loss_small_ring(bench: Bench) -> None:
    """Fill the ring while the agent does not read: what does not fit is lost, and exactly that is counted."""
    wanted = bench.file("wanted")
    _check_counted(bench, wanted, f"repeat {BURST}\n{_open(wanted)}end\n", BURST)


@proves("loss.stopped_small")
def loss_stopped_small(bench: Bench) -> None:
    """The same with a steady rate and an agent that stands still for as long as in `loss.stopped`."""
    wanted = bench.file("wanted")
    script = f"rate {STOPPED_RATE}/s for {STOPPED_S}s\n{_open(wanted)}end\n"
    _check_counted(bench, wanted, script, STOPPED_RATE * STOPPED_S)


def _check_counted(bench: Bench, wanted: str, script: str, made: int) -> None:
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    burst = bench.play(script, absorb=False)
    spent = burst.counted[EventType.OPEN]
    arrived = len(burst.matches("wanted"))

    bench.evidence.record("some of it is lost", 0 < arrived < made, f"fewer than {made}", arrived)
    bench.equal("what did not arrive was counted", made - arrived, spent.ring_full)
    after = bench.play(_open(wanted))
    bench.arrives_once(after, "wanted", {"file.path": wanted.encode()})


@proves("loss.cpus")
def loss_cpus(bench: Bench) -> None:
    """Several processors at once, each as fast as it can: every one's events arrive."""
    cpus = sorted(os.sched_getaffinity(0))[:MOST_CPUS]
    if len(cpus) == 1:
        raise CannotTellError("there is one processor here")
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    turn = f"repeat {SHARE}\n{_open(wanted)}{_open(noise) * 2}end\n"
    forks = "".join(f"fork -> ${cpu}\ncpu {cpu}\n{turn}end\n" for cpu in cpus)
    played = bench.play(forks + "".join(f"wait ${cpu}\n" for cpu in cpus))
    spent = played.counted[EventType.OPEN]
    arrived = dict.fromkeys((report.ret for report in played.outcome.of("fork")), 0)
    for event in played.matches("wanted"):
        arrived[event.pid] += 1
    bench.equal("wanted events of each processor", dict.fromkeys(arrived, SHARE), arrived)
    bench.equal("noise rejected", 2 * SHARE * len(cpus), spent.approver_rejected)
    bench.equal("lost", 0, spent.lost)


@proves("loss.rate")
def loss_rate(bench: Bench) -> None:
    """Climb until this CPU makes no more: the last rate at which each event was counted, and none lost."""
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    held = 0
    for rate in LADDER:
        second = f"rate {WANTED_RATE}/s for 1s\n{_open(wanted)}end\n"
        beat = f"rate {rate - WANTED_RATE}/s for 1s\n{_open(noise)}end\n"
        script = f"fork -> $1\n{second}end\n{beat}wait $1\n"
        if not any(_held_once(bench, script, rate) for _ in range(ATTEMPTS)):
            break
        held = rate
    if not held:
        raise CannotTellError(f"this CPU does not make {LADDER[0]:,} events a second; none was lost")
    bench.evidence.record("events a second with none lost", True, f"at least {LADDER[0]}", held)
    bench.evidence.note = f"{held:,} events a second, none lost; this CPU makes no more"


def _held_once(bench: Bench, script: str, rate: int) -> bool:
    """Whether the CPU kept the beat for a second; a loss at any try is a failure."""
    played = bench.play(script)
    bench.equal(f"wanted at {rate} events a second", WANTED_RATE, len(played.matches("wanted")))
    bench.equal(f"lost at {rate} events a second", 0, played.counted[EventType.OPEN].lost)
    return all(beat.seconds <= 1 + LATE_S for beat in played.outcome.of("rate"))
