"""No event is missed when the agent starts, reloads, ends or is killed, and nothing stays behind."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path

from agent.errors import KernelError
from agent.events.model import EventType
from agent.hooks.needs import SYSCALL_HOOKS
from agent.hooks.sets import TRAMPOLINES
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.resident import ResidentError
from agent.selftest.scenarios import proves, until
from agent.selftest.subject import Resident
from agent.service import privileges

RATE = 503  # events a second while the rules change
SECONDS = 1
WANTED = 13
UNREAD = 503  # events that wait in the kernel while the agent is stopped
LOST = 53  # events that a killed agent never reads
MILLION = 1_000_003
BATCH = 5003  # files at a time
BATCHES_S = 12  # time for the million on a slow CPU
FEW = 503  # files at a time in the daily scenario
FEW_BATCHES = 5
FLAT_BYTES = 4 << 20  # Python allocates 1 MiB at once, so that one object more can take as much
_CMDLINE = Path("/proc/cmdline")
MANY_RULES, MANY_VALUES = 53, 1301  # more values than the map of approvers has room for
SETTLE_S = 20  # in which the kernel frees objects without references


Objects = dict[str, frozenset[object]]


def _opens(path: str, count: int = WANTED) -> str:
    return f"repeat {count}\nopen {path} O_RDONLY -> $0\nclose $0\nend\n"


@proves("life.open_files")
def life_open_files(bench: Bench) -> None:
    """Change a file by a descriptor that was opened before the agent watched."""
    path = bench.file("watched")
    bench.rules(cut=f'truncate.file.path == "{path}"', changed=f'chmod.file.path == "{path}"')
    bench.unwatched(f"open {path} O_RDWR -> $5\n")
    played = bench.play("ftruncate $5 7\nfchmod $5 0600\n")
    bench.arrives_once(played, "cut", {"file.path": path.encode(), "retval": 0})
    bench.arrives_once(played, "changed", {"file.path": path.encode(), "mode": 0o600})
    bench.unwatched("close $5\n")


@proves("life.reload")
def life_reload(bench: Bench) -> None:
    """Change the rules again and again while events happen that all rule sets match."""
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
    bench.evidence.record("changes of the rules", changes > 0, "more than 0", changes)


@proves("life.two_agents")
def life_two_agents(bench: Bench) -> None:
    """Start and end a second agent on the same hooks, with other rules."""
    one, two = bench.file("one"), bench.file("two")
    before = _objects()
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


def _objects() -> Objects:
    """Return what an agent could leave behind: descriptors, programs, maps, links, pins, probes."""
    from agent.kernel.libbpf import ids  # lazy: the unit tests load no libbpf

    pins, probes = Path("/sys/fs/bpf"), Path("/sys/kernel/tracing/kprobe_events")
    return {
        "descriptors": frozenset(Path("/proc/self/fd").iterdir()),
        "pins": frozenset(pins.iterdir() if pins.is_dir() else ()),
        "probes": frozenset(probes.read_text("ascii").splitlines() if probes.exists() else ()),
        **{f"{kind}s": frozenset(ids(kind)) for kind in ("prog", "map", "link")},
    }


def _check_nothing_left(bench: Bench, before: Objects) -> None:
    """Check that no new objects are left, after the kernel had time to free them."""
    until(lambda: not any(_new_since(before).values()), SETTLE_S)
    bench.equal("objects that the agent left behind", {kind: [] for kind in before}, _new_since(before))


def _new_since(before: Objects) -> dict[str, list[str]]:
    return {kind: sorted(map(str, now - before[kind])) for kind, now in _objects().items()}


@proves("life.sigterm")
def life_sigterm(bench: Bench) -> None:
    """Send SIGTERM to an agent with unread events: it reports all of them, and leaves nothing behind."""
    path = bench.file("watched")
    before = _objects()
    bench.rules()
    with closing(bench.resident(wanted=f'open.file.path == "{path}"')) as resident:
        resident.signal(signal.SIGSTOP)
        bench.play(_opens(path, UNREAD))
        resident.signal(signal.SIGTERM)
        resident.signal(signal.SIGCONT)
        bench.equal("exit status", 0, resident.wait())
        bench.equal("reported matches", UNREAD, len(resident.matches("wanted")))
    _check_nothing_left(bench, before)


@proves("life.sigkill")
def life_sigkill(bench: Bench) -> None:
    """Kill an agent with unread events, and load another, which sees the next events."""
    paths, rules = _watched(bench)
    before = _objects()
    _kill(bench, paths, rules, before)
    with closing(bench.another()) as other:
        other.watch(bench.pid)
        other.enforce(rules)
        bench.play(_opens(paths[2]))
        drained = other.drain()
        seen = [sum(rule in judged.rules for judged in drained) for rule in rules]
        bench.equal("matches of the next agent", [0, 0, WANTED], seen)
    _check_nothing_left(bench, before)


@proves("life.bounded")
def life_bounded(bench: Bench) -> None:
    """Start an agent that can have no more capabilities than its unit gives it, and reload its rules."""
    attached = {row["type"] for row in bench.subject.known()["hooks"] if row["state"] == "attached"}
    if not attached & {*TRAMPOLINES, "kprobe_multi"}:
        raise CannotTellError("to attach programs through perf may take CAP_SYS_ADMIN")
    if not shutil.which("setpriv"):
        raise CannotTellError("this system has no setpriv")
    paths, rules = _watched(bench)
    names = (name.removeprefix("CAP_").lower() for name in privileges.names(privileges.needed()))
    bounds = ",".join(("-all", *(f"+{name}" for name in names)))
    bench.rules()
    with closing(
        bench.confined(("setpriv", "--bounding-set", bounds, "--no-new-privs"), a=rules["a"])
    ) as own:
        bench.play(_opens(paths[0]))
        _check_reported(bench, own, "a")
        own.reload(rules)
        bench.play(_opens(paths[1]))
        own.signal(signal.SIGTERM)
        bench.equal("exit status", 0, own.wait())
        counts = [len(own.matches(rule)) for rule in rules]
        bench.equal("matches", [WANTED, WANTED, 0], counts)


@proves("life.restart")
def life_restart(bench: Bench) -> None:
    """Kill an agent, and start another with the same folder, rules, file and control socket."""
    paths, rules = _watched(bench)
    before = _objects()
    _kill(bench, paths, rules, before)
    with closing(bench.resident(**rules)) as resident:
        bench.play(_opens(paths[2]))
        resident.signal(signal.SIGTERM)
        bench.equal("exit status of the next agent", 0, resident.wait())
        counts = [len(resident.matches(rule)) for rule in rules]
        bench.equal("matches of both agents", [WANTED, 0, WANTED], counts)
    _check_nothing_left(bench, before)


def _watched(bench: Bench) -> tuple[list[str], dict[str, str]]:
    """Create three files, and return their paths and a rule for each."""
    paths = [bench.file(name) for name in ("one", "two", "three")]
    return paths, {name: f'open.file.path == "{path}"' for name, path in zip("abc", paths, strict=True)}


def _kill(bench: Bench, paths: list[str], rules: dict[str, str], before: Objects) -> None:
    """Kill an agent that reported the first file and has not read the events of the second."""
    bench.rules()
    with closing(bench.resident(**rules)) as resident:
        bench.play(_opens(paths[0]))
        _check_reported(bench, resident, "a")
        resident.signal(signal.SIGSTOP)
        bench.play(_opens(paths[1], LOST))
        resident.signal(signal.SIGKILL)
        bench.equal("exit status", -signal.SIGKILL, resident.wait())
        counts = [len(resident.matches(rule)) for rule in rules]
        bench.equal("matches of the killed agent", [WANTED, 0, 0], counts)
    _check_nothing_left(bench, before | {"probes": _objects()["probes"]})  # the next agent removes those


def _check_reported(bench: Bench, resident: Resident, rule: str) -> None:
    """Wait until the agent has written all lines, and the last one completely, and count them."""

    def complete() -> bool:
        lines = resident.lines()
        return len(lines) == WANTED and lines[-1].endswith(b"\n")

    until(complete, SETTLE_S)
    bench.equal(f"matches of {rule}", WANTED, len(resident.matches(rule)))


# Calls by the event type that they make: FILE is a file that exists, NAME one that does not.
_DEEDS = {
    "chmod": "chmod FILE 0640\n",
    "mkdir": "mkdir NAME 0755\n",
    "setxattr": "setxattr FILE trusted.a 1\n",
    "open": "open FILE O_RDONLY -> $0\nclose $0\n",
}


@proves("life.interrupted")
def life_interrupted(bench: Bench) -> None:
    """Interrupt an open that sleeps: it starts again or fails, as the handler asks, and is one event."""
    fifo, gate = bench.path("fifo"), bench.path("gate")
    bench.unwatched(f"mknod {fifo} S_IFIFO|0600\nmknod {gate} S_IFIFO|0600\n")
    bench.rules(opened=f'open.file.path == "{fifo}" && open.flags & O_WRONLY > 0')
    child = _sleeping(bench, fifo, restarts=True)
    before = _state(child)
    opened: list[int] = []

    def open_gate() -> None:  # once the child sleeps again
        if not opened:
            until(lambda: _state(child) not in ("R", before), SETTLE_S)
            opened.append(os.open(gate, os.O_RDWR))

    kill = f"kill $1 {int(signal.SIGUSR1)}\n"
    script = f"{kill}open {gate} O_RDONLY -> $7\nopen {fifo} O_RDONLY|O_NONBLOCK -> $6\nwait $1\n"
    played = bench.play(f"{script}close $6\nclose $7\n", meanwhile=open_gate)
    os.close(opened[0])
    bench.equal("results with a restart", [0], [event.retval for event in played.matches("opened")])
    _sleeping(bench, fifo, restarts=False)
    played = bench.play(f"{kill}wait $1\n")
    results = [event.retval for event in played.matches("opened")]
    bench.equal("results without a restart", [-errno.EINTR], results)


def _sleeping(bench: Bench, fifo: str, *, restarts: bool) -> Path:
    """Start a process that sleeps in the open of a FIFO; return its status file."""
    handle = f"handle {int(signal.SIGUSR1)} {int(restarts)}"
    played = bench.play(f"fork -> $1\nmute\n{handle}\nopen {fifo} O_WRONLY\nend\n")
    bench.also_made(EventType.OPEN, 1)
    status = Path(f"/proc/{played.outcome.at(1).ret}/status")
    until(lambda: _state(status).startswith("S"), SETTLE_S)
    return status


def _state(status: Path) -> str:
    """Return a process's state and how often it has slept."""
    fields = dict(line.split(":", 1) for line in status.read_text("ascii", "replace").splitlines())
    state = fields["State"].strip()[0]
    return "R" if state == "R" else state + fields.get("voluntary_ctxt_switches", "").strip()


@proves("life.needed")
def life_needed(bench: Bench) -> None:
    """Reload rules that want another event type each time: only its programs are attached, and see it."""
    bench.rules()
    before, file, name = _objects(), bench.file("watched"), bench.path("new")
    coverage = bench.subject.known()["coverage"]
    kinds = [kind for kind in _DEEDS if coverage.get(kind, "none") != "none"]
    rules = {kind: {kind: f'{kind}.file.path in ["{file}", "{name}"]'} for kind in kinds}
    with closing(bench.resident(**rules[kinds[0]])) as resident:
        for number, kind in enumerate(kinds):
            resident.reload(rules[kind])
            bench.play(_DEEDS[kind].replace("FILE", file).replace("NAME", name))
            _check_attached(bench, resident, kind, kinds[:number], kinds[number + 1 :])
        resident.signal(signal.SIGTERM)
        bench.equal("how it ended", 0, resident.wait())
        found = {kind: len(resident.matches(kind)) for kind in kinds}
    bench.equal("matches of each rule", dict.fromkeys(kinds, 1), found)
    _check_nothing_left(bench, before)


def _check_attached(bench: Bench, resident: Resident, kind: str, before: list[str], later: list[str]) -> None:
    """Of these event types the programs of one are attached, and those that could not be attached again.

    The hook set tracepoint has the same two programs for all of them, which stay attached.
    """
    facts = bench.subject.known()
    if of_all := {*SYSCALL_HOOKS} & {row["event"] for row in facts["hooks"]}:
        shared = of_all & resident.attached()
        bench.equal(f"programs of all system calls attached while {kind} is wanted", of_all, shared)
        return
    again = facts["capabilities"].get("reattach") == "fires"
    perf = {
        row["event"].partition(".")[0] for row in facts["hooks"] if row["type"] in ("kprobe", "tracepoint")
    }
    kept = (set() if again else {*before}) | perf - {kind}

    def attached() -> set[str]:
        points = {hook.partition(".")[0] for hook in resident.attached()}
        return points & {kind, *before, *later} - kept

    until(lambda: attached() == {kind}, SETTLE_S)
    bench.equal(f"event types attached while {kind} is wanted", {kind}, attached())


@proves("life.lockdown")
def life_lockdown(bench: Bench) -> None:
    """Raise lockdown, which lasts until the next boot: the agent goes on, and a new one sees or names it."""
    from agent.kernel import lockdown

    # Secure Boot locks a host down without this word, and no test may do more to such a host.
    if "lockdown=integrity" not in _CMDLINE.read_text("ascii", "replace").split():
        raise CannotTellError("raises lockdown for good; boots with lockdown=integrity are for that")
    if (level := lockdown.level()) != "integrity":
        raise CannotTellError(f"raises lockdown from integrity for good, and it is {level or 'unknown'} here")
    file, name = bench.file("watched"), bench.path("new")
    known = bench.subject.known()
    sees = known["capabilities"].get("cast") == "fires" and any(
        row["type"] in (*TRAMPOLINES, "kprobe_multi") for row in known["hooks"] if row["state"] == "attached"
    )
    opened, made = {"opened": f'open.file.path == "{file}"'}, {"made": f'mkdir.file.path == "{name}"'}
    bench.rules(**opened)
    with closing(bench.resident(**opened)) as resident:
        lockdown.raise_level()
        bench.equal("level of lockdown", "confidentiality", lockdown.level())
        bench.equal("events after it rose", WANTED, len(bench.play(_opens(file)).matches("opened")))
        resident.reload(opened | made)
        bench.play(f"{_opens(file)}mkdir {name} 0755\n")
        resident.signal(signal.SIGTERM)
        bench.equal("exit status", 0, resident.wait())
        found = [len(resident.matches(rule)) for rule in ("opened", "made")]
        bench.equal("matches of the agent that ran", [2 * WANTED, 1], found)
    try:
        with closing(bench.resident(**opened)) as resident:
            bench.play(_opens(file))
            resident.signal(signal.SIGTERM)
            bench.equal("exit status of the next agent", 0, resident.wait())
            bench.equal("matches of both agents", 3 * WANTED, len(resident.matches("opened")))
            bench.equal("the next agent starts", sees, True)
    except ResidentError as error:
        bench.equal("the next agent starts", sees, False)
        bench.evidence.record(
            "its error", "lockdown=confidentiality" in error.detail, "lockdown", error.detail
        )


@proves("life.foreign")
def life_foreign(bench: Bench) -> None:
    """Attach other programs to the same function: they see every open, and so does the agent."""
    from agent.kernel import btf
    from agent.selftest.foreign import FOREIGN_KINDS, Foreign

    path = bench.file("watched")
    capabilities = bench.subject.known()["capabilities"]
    kinds = [kind for kind in FOREIGN_KINDS if capabilities.get(kind) == "fires"]
    if not kinds:
        raise CannotTellError(f"no program of the types {', '.join(FOREIGN_KINDS)} works on this kernel")
    if not Path(btf.KERNEL).is_file():
        raise CannotTellError(f"{btf.KERNEL} does not exist here, and the other programs need it")
    before = _objects()
    bench.rules(wanted=f'open.file.path == "{path}"')
    with closing(Foreign(kinds, bench.pid)) as foreign:
        played = bench.play(_opens(path, UNREAD))
        bench.equal("events of the agent", UNREAD, len(played.matches("wanted")))
        opens = played.counted[EventType.OPEN].seen
        bench.equal("opens seen by each other program", dict.fromkeys(kinds, opens), foreign.counts())
    after = bench.play(_opens(path))
    bench.equal("events of the agent afterwards", WANTED, len(after.matches("wanted")))
    _check_nothing_left(bench, before)


@proves("life.memory")
def life_memory(bench: Bench) -> None:
    """Create and remove some thousand files, and compare the memory use."""
    _check_flat(bench, FEW, lambda batches: batches < FEW_BATCHES)


@proves("life.million")
def life_million(bench: Bench) -> None:
    """Create and remove a million files, or as many as time permits, and compare the memory use."""
    ends_at = time.monotonic() + BATCHES_S
    minimum = 3  # batches
    _check_flat(
        bench,
        BATCH,
        lambda batches: batches * BATCH < MILLION and (batches < minimum or time.monotonic() < ends_at),
    )


def _check_flat(bench: Bench, batch: int, more: Callable[[int], bool]) -> None:
    """Create and remove batches of files while `more(batches)` holds, and compare the memory use.

    The agent evaluates the rules for each file.
    """
    bench.rules(other='open.file.name == "none" || open.retval == -1')  # passes every open, and matches none
    script = f"repeat {batch}\nopen {bench.path('f')}%d O_RDWR|O_CREAT 0600 -> $0\nclose $0\nend\n"
    remove = f"repeat {batch}\nunlink {bench.path('f')}%d\nend\n"
    arrived, sizes = 0, [_memory()]
    while more(len(sizes) - 1):
        arrived += len(bench.play(script + remove).of(EventType.OPEN))
        sizes.append(_memory())
    bench.equal("events of the files", (len(sizes) - 1) * batch, arrived)
    middle = len(sizes) // 2
    of_half = (len(sizes) - 1 - middle) * batch
    # One object that stays for each file is twice as many objects as are permitted.
    for unit, limit, before, after in zip(
        ("bytes", "objects"), (FLAT_BYTES, of_half // 2), sizes[middle], sizes[-1], strict=True
    ):
        grown = after - before
        name = f"growth of memory in {unit} by the last {of_half} of {arrived} files"
        bench.evidence.record(name, grown <= limit, f"at most {limit}", grown)


def _memory() -> tuple[int, int]:
    """Return the resident bytes of this process, and the objects for which Python has memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), sys.getallocatedblocks()


@proves("life.overflow")
def life_overflow(bench: Bench) -> None:
    """Apply rules twice, for both banks; then too many values, and the first rules again."""
    path = bench.file("watched")
    few = {"watched": f'open.file.path == "{path}"'}
    bench.rules(**few)
    bench.rules(**few)
    names = [", ".join(f'"/{rule}/{value}"' for value in range(MANY_VALUES)) for rule in range(MANY_RULES)]
    try:
        bench.rules(**{f"many_{rule}": f"open.file.path in [{text}]" for rule, text in enumerate(names)})
        refusal = ""
    except KernelError as error:
        refusal = error.message
    bench.equal("that many values are refused", True, bool(refusal))
    bench.rules(**few)
    played = bench.play(f"open {path} O_RDONLY -> $0\nclose $0\n")
    bench.arrives_once(played, "watched", {"file.path": path.encode()})
