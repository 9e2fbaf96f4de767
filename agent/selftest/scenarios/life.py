"""What an agent's beginning, its changes of mind and its end do to the stream of events."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path

from agent.events.model import EventType
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.scenarios import proves
from agent.selftest.subject import Resident

RATE = 503  # events a second while the rules change
SECONDS = 1
WANTED = 13
UNREAD = 503  # events that wait in the kernel while the agent stands still
LOST = 53  # events of which an agent that is killed never hears
MILLION = 1_000_003
CROWD = 5003  # files at a time
CROWDS_S = 12  # how long the million may take, where the CPU cannot make it
FEW = 503  # files at a time by day
FEW_CROWDS = 5
FLAT_BYTES = 1 << 20
SETTLE_S = 20  # in which the kernel frees what nobody holds any more


Held = dict[str, frozenset[object]]


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
    before = _held()
    bench.rules(wanted=f'open.file.path == "{one}"')
    with closing(bench.another()) as other:
        other.watch(bench.pid)
        other.enforce({"theirs": f'open.file.path == "{two}"'})
        played = bench.play(_opens(one) + _opens(two))
        theirs = [judged for judged in other.drain() if "theirs" in judged.rules]
        bench.equal("events of the first agent", WANTED, len(played.matches("wanted")))
        bench.equal("events of the second agent", WANTED, len(theirs))
        bench.equal("rejected by the first", WANTED, played.counted[EventType.OPEN].approver_rejected)
    after = bench.play(_opens(one))
    bench.equal("events of the first agent afterwards", WANTED, len(after.matches("wanted")))
    _check_nothing_left(bench, before)


def _held() -> Held:
    """What an agent could leave: descriptors, and in the kernel programs, maps, links, pins, probes."""
    from agent.kernel.libbpf import ids  # not where there is no kernel to ask

    pins, probes = Path("/sys/fs/bpf"), Path("/sys/kernel/tracing/kprobe_events")
    return {
        "descriptors": frozenset(Path("/proc/self/fd").iterdir()),
        "pins": frozenset(pins.iterdir() if pins.is_dir() else ()),
        "probes": frozenset(probes.read_text("ascii").splitlines() if probes.exists() else ()),
        **{f"{kind}s": frozenset(ids(kind)) for kind in ("prog", "map", "link")},
    }


def _check_nothing_left(bench: Bench, before: Held) -> None:
    """The kernel frees what nobody holds a little later."""
    _until(lambda: not any(_beyond(before).values()), SETTLE_S)
    bench.equal("what is left of the agent", {kind: [] for kind in before}, _beyond(before))


def _beyond(before: Held) -> dict[str, list[str]]:
    return {kind: sorted(map(str, now - before[kind])) for kind, now in _held().items()}


def _until(holds: Callable[[], bool], patience_s: float) -> bool:
    """Look until something holds, or the time is up; says whether it does."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two looks
    return True


@proves("life.sigterm")
def life_sigterm(bench: Bench) -> None:
    """Stop an agent that has not read for a while: it tells all that happened before, and leaves nothing."""
    path = bench.file("watched")
    before = _held()
    bench.rules()
    with closing(bench.resident(wanted=f'open.file.path == "{path}"')) as resident:
        resident.signal(signal.SIGSTOP)
        bench.play(_opens(path, UNREAD))
        resident.signal(signal.SIGTERM)
        resident.signal(signal.SIGCONT)
        bench.equal("how it ended", 0, resident.wait())
        bench.equal("matches told", UNREAD, len(resident.matches("wanted")))
    _check_nothing_left(bench, before)


@proves("life.sigkill")
def life_sigkill(bench: Bench) -> None:
    """Kill an agent: what it told is whole, what it did not it never claimed, and the next sees all again."""
    paths, rules = _watched(bench)
    before = _held()
    _kill(bench, paths, rules, before)
    with closing(bench.another()) as other:
        other.watch(bench.pid)
        other.enforce(rules)
        bench.play(_opens(paths[2]))
        drained = other.drain()
        seen = [sum(rule in judged.rules for judged in drained) for rule in rules]
        bench.equal("matches of the next agent", [0, 0, WANTED], seen)
    _check_nothing_left(bench, before)


@proves("life.restart")
def life_restart(bench: Bench) -> None:
    """Kill an agent and start another in its folder, with the same rules, file and control socket."""
    paths, rules = _watched(bench)
    before = _held()
    _kill(bench, paths, rules, before)
    with closing(bench.resident(**rules)) as resident:
        bench.play(_opens(paths[2]))
        resident.signal(signal.SIGTERM)
        bench.equal("how the next ended", 0, resident.wait())
        told = [len(resident.matches(rule)) for rule in rules]
        bench.equal("matches told by both", [WANTED, 0, WANTED], told)
    _check_nothing_left(bench, before)


def _watched(bench: Bench) -> tuple[list[str], dict[str, str]]:
    """Three files, and a rule for each."""
    paths = [bench.file(name) for name in ("one", "two", "three")]
    return paths, {name: f'open.file.path == "{path}"' for name, path in zip("abc", paths, strict=True)}


def _kill(bench: Bench, paths: list[str], rules: dict[str, str], before: Held) -> None:
    """Kill an agent that told of the first file and has not read of the second."""
    bench.rules()
    with closing(bench.resident(**rules)) as resident:
        bench.play(_opens(paths[0]))
        _check_told(bench, resident, "a")
        resident.signal(signal.SIGSTOP)
        bench.play(_opens(paths[1], LOST))
        resident.signal(signal.SIGKILL)
        bench.equal("how it ended", -signal.SIGKILL, resident.wait())
        told = [len(resident.matches(rule)) for rule in rules]
        bench.equal("matches told by the killed agent", [WANTED, 0, 0], told)
    _check_nothing_left(bench, before | {"probes": _held()["probes"]})  # which the next agent clears away


def _check_told(bench: Bench, resident: Resident, rule: str) -> None:
    """Its lines come in the order of events, and the last one is whole once it has its end."""

    def told() -> bool:
        lines = resident.lines()
        return len(lines) == WANTED and lines[-1].endswith(b"\n")

    _until(told, SETTLE_S)
    bench.equal(f"matches of {rule} told at once", WANTED, len(resident.matches(rule)))


@proves("life.foreign")
def life_foreign(bench: Bench) -> None:
    """Somebody else's programs on the same function see every open, and so does the agent."""
    from agent.kernel import btf
    from agent.selftest.foreign import FOREIGN_KINDS, Foreign

    path = bench.file("watched")
    capabilities = bench.subject.known()["capabilities"]
    kinds = [kind for kind in FOREIGN_KINDS if capabilities.get(kind) == "fires"]
    if not kinds:
        raise CannotTellError(f"none of {', '.join(FOREIGN_KINDS)} fires here")
    if not Path(btf.KERNEL).is_file():
        raise CannotTellError(f"there is no {btf.KERNEL} here, by which the others' programs are relocated")
    before = _held()
    bench.rules(wanted=f'open.file.path == "{path}"')
    with closing(Foreign(kinds, bench.pid)) as others:
        played = bench.play(_opens(path, UNREAD))
        bench.equal("events of the agent", UNREAD, len(played.matches("wanted")))
        everything = played.counted[EventType.OPEN].seen
        bench.equal("opens seen by each of the others", dict.fromkeys(kinds, everything), others.counts())
    after = bench.play(_opens(path))
    bench.equal("events of the agent afterwards", WANTED, len(after.matches("wanted")))
    _check_nothing_left(bench, before)


@proves("life.memory")
def life_memory(bench: Bench) -> None:
    """Some thousand different files, and no memory for them."""
    _check_flat(bench, FEW, lambda crowds: crowds < FEW_CROWDS)


@proves("life.million")
def life_million(bench: Bench) -> None:
    """A million different files, or as many as this CPU makes in its time, and no memory for them."""
    ends_at = time.monotonic() + CROWDS_S
    least = 3  # crowds
    _check_flat(
        bench,
        CROWD,
        lambda crowds: crowds * CROWD < MILLION and (crowds < least or time.monotonic() < ends_at),
    )


def _check_flat(bench: Bench, crowd: int, more: Callable[[int], bool]) -> None:
    """Make and remove crowds of files, all of which are judged, while `more` wants another after so many."""
    bench.rules(other='open.file.name == "none" || open.retval == -1')  # asks for each, and wants none
    script = f"repeat {crowd}\nopen {bench.path('f')}%d O_RDWR|O_CREAT 0600 -> $0\nclose $0\nend\n"
    remove = f"repeat {crowd}\nunlink {bench.path('f')}%d\nend\n"
    arrived, sizes = 0, [_resident_bytes()]
    while more(len(sizes) - 1):
        arrived += len(bench.play(script + remove).of(EventType.OPEN))
        sizes.append(_resident_bytes())
    bench.equal("files that were judged", (len(sizes) - 1) * crowd, arrived)
    grown = sizes[-1] - sizes[len(sizes) // 2]
    bench.evidence.record(
        f"bytes of memory more after {arrived} files than after half of them",
        grown <= FLAT_BYTES,
        f"at most {FLAT_BYTES}",
        grown,
    )


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
