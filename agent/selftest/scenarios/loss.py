"""No event is lost at the supported rates, and each lost event is counted."""

from __future__ import annotations

import os
from contextlib import closing

from agent.events.model import EventType
from agent.selftest import filesystems
from agent.selftest.bench import Bench, CannotTellError, Round, opens_a_second
from agent.selftest.scenarios import proves, sleeps, until

RATE = 5003  # events a second, of which WANTED_RATE are wanted
WANTED_RATE = 101
SECONDS = 2
LONG_S = 5
LATE_S = 0.1
ATTEMPTS = 2
HEADROOM = 1.5  # the CPU must reach this multiple of the rate while nothing is watched
BURST = 1009
FAST = 20_011
FLOOD = 101  # wanted events, each followed by FLOOD_NOISE others
FLOOD_NOISE = 997
STOPPED_S = 2  # while the agent reads nothing
STOPPED_RATE = 503
SHARE = 2003  # wanted events of each CPU
MOST_CPUS = 4
FALL_ASLEEP_S = 60
LADDER = (1009, 2003, 4001, 6007, 8009, 12_007, 16_001, 20_011, 30_011, 40_009, 60_013, 80_021)


def _open(path: str) -> str:
    return f"open {path} O_RDONLY -> $0\nclose $0\n"


def _beat(rate: int, seconds: int, path: str) -> str:
    return f"rate {rate}/s for {seconds}s\n{_open(path)}end\n"


def _check_reach(bench: Bench, path: str, rate: int) -> None:
    """Raise CannotTellError if this CPU is too slow for the rate while nothing is watched."""
    reached = opens_a_second(bench.unwatched, path)
    needed = int(rate * HEADROOM)
    if reached < needed:
        reason = f"this CPU opens {reached:,} files a second with nothing watched, not {needed:,}"
        raise bench.too_slow(reason)
    bench.evidence.record("opens a second with nothing watched", True, f"at least {needed}", reached)


def _held(played: Round, seconds: int) -> bool:
    return all(beat.seconds <= seconds + LATE_S for beat in played.outcome.of("rate"))


def _check_held(bench: Bench, played: Round, rate: int, seconds: int) -> None:
    """Raise CannotTellError if the generator did not reach the rate."""
    made = sum(round(beat.ret / beat.seconds) for beat in played.outcome.of("rate"))
    if not _held(played, seconds):
        raise bench.too_slow(f"this CPU generated {made:,} events a second, not {rate:,}; none was lost")
    bench.evidence.record("events a second", True, rate, made)


def _check_rate(bench: Bench, rate: int, seconds: int) -> None:
    """Run two processes at once: one makes noise, the other opens the file that the rule matches.

    If the rate was not reached the script runs again, because the host may have taken the CPU away. After a
    loss it does not.
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
    """A rate that each supported machine must reach."""
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
    """Make events as fast as possible, with wanted ones among them."""
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
    """Read nothing during a burst; the ring buffer can hold all of it."""
    wanted = bench.file("wanted")
    _check_kept(bench, wanted, f"repeat {BURST}\n{_open(wanted)}end\n", BURST)


@proves("loss.stopped")
def loss_stopped(bench: Bench) -> None:
    """Read nothing for a while, with events at a steady rate."""
    wanted = bench.file("wanted")
    script = f"rate {STOPPED_RATE}/s for {STOPPED_S}s\n{_open(wanted)}end\n"
    _check_kept(bench, wanted, script, STOPPED_RATE * STOPPED_S)


def _check_kept(bench: Bench, wanted: str, script: str, made: int) -> None:
    """Check that all events of the script arrive in order, though the agent reads nothing while it runs."""
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    played = bench.play(script, absorb=False)
    times = [event.time_ns for event in played.matches("wanted")]
    bench.equal("wanted events that arrive", made, len(times))
    bench.equal("times in order", sorted(times), times)
    bench.equal("lost", 0, played.counted[EventType.OPEN].lost)


@proves("loss.small_ring")
def loss_small_ring(bench: Bench) -> None:
    """Fill the ring buffer while the agent reads nothing; exactly the lost events are counted."""
    wanted = bench.file("wanted")
    _check_counted(bench, wanted, f"repeat {BURST}\n{_open(wanted)}end\n", BURST)


@proves("loss.stopped_small")
def loss_stopped_small(bench: Bench) -> None:
    """The same at a steady rate, for as long as in `loss.stopped`."""
    wanted = bench.file("wanted")
    script = f"rate {STOPPED_RATE}/s for {STOPPED_S}s\n{_open(wanted)}end\n"
    _check_counted(bench, wanted, script, STOPPED_RATE * STOPPED_S)


def _check_counted(bench: Bench, wanted: str, script: str, made: int) -> None:
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    burst = bench.play(script, absorb=False)
    spent = burst.counted[EventType.OPEN]
    arrived = len(burst.matches("wanted"))

    bench.evidence.record("an event is lost", 0 < arrived < made, f"fewer than {made}", arrived)
    bench.equal("lost events that were counted", made - arrived, spent.ring_full)
    after = bench.play(_open(wanted))
    bench.arrives_once(after, "wanted", {"file.path": wanted.encode()})


@proves("loss.cpus")
def loss_cpus(bench: Bench) -> None:
    """Make events on several CPUs at once, on each as fast as possible."""
    cpus = sorted(os.sched_getaffinity(0))[:MOST_CPUS]
    if len(cpus) == 1:
        raise CannotTellError("this machine has only one CPU")
    wanted, noise = bench.file("wanted"), bench.file("noise")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    turn = f"repeat {SHARE}\n{_open(wanted)}{_open(noise) * 2}end\n"
    forks = "".join(f"fork -> ${cpu}\ncpu {cpu}\n{turn}end\n" for cpu in cpus)
    played = bench.play(forks + "".join(f"wait ${cpu}\n" for cpu in cpus))
    spent = played.counted[EventType.OPEN]
    arrived = dict.fromkeys((report.ret for report in played.outcome.of("fork")), 0)
    for event in played.matches("wanted"):
        arrived[event.pid] += 1
    bench.equal("wanted events of each CPU", dict.fromkeys(arrived, SHARE), arrived)
    bench.equal("noise rejected", 2 * SHARE * len(cpus), spent.approver_rejected)
    bench.equal("lost", 0, spent.lost)


@proves("loss.rate")
def loss_rate(bench: Bench) -> None:
    """Raise the rate until this CPU does not reach it; report the last rate without a loss."""
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
        raise bench.too_slow(f"this CPU does not generate {LADDER[0]:,} events a second; none was lost")
    bench.evidence.record("events a second with none lost", True, f"at least {LADDER[0]}", held)
    bench.evidence.note = f"{held:,} events a second, none lost; this CPU generates no more"


def _held_once(bench: Bench, script: str, rate: int) -> bool:
    """Return whether the CPU reached the rate for a second. A loss in any attempt is a failure."""
    played = bench.play(script)
    bench.equal(f"wanted at {rate} events a second", WANTED_RATE, len(played.matches("wanted")))
    bench.equal(f"lost at {rate} events a second", 0, played.counted[EventType.OPEN].lost)
    return all(beat.seconds <= 1 + LATE_S for beat in played.outcome.of("rate"))


@proves("loss.began_before")
def loss_began_before(bench: Bench) -> None:
    """Load an agent while a process waits to set an attribute: it did not see for which mount."""
    with bench.mounted("fs", "ext4") as top:
        path = bench.file("fs/watched")
        rules = {"watched": f'setxattr.file.path == "{path}"'}
        bench.rules(**rules)
        with filesystems.frozen(top) as thaw:
            began = bench.play(f"fork -> $1\nmute\nsetxattr {path} user.fim x\nend\n")
            bench.also_made(EventType.SETXATTR, 1)
            child = str(began.outcome.of("fork")[0].ret)
            if not until(lambda: sleeps(child, "D"), FALL_ASLEEP_S):
                raise CannotTellError("the process does not wait for its file system")
            with closing(bench.another()) as other:
                other.watch(bench.pid)
                other.enforce(rules)
                woken = bench.play("wait -1\n", meanwhile=thaw)
                missed = other.accounts()[EventType.SETXATTR].lost
        bench.equal("events that the new agent counts as lost", 1, missed)
        # A program that is attached to the same function makes the kernel skip those at its pending returns.
        arrived, lost = len(woken.matches("watched")), woken.counted[EventType.SETXATTR].lost
        bench.equal("events of the agent before it that arrive or are lost", 1, arrived + lost)
