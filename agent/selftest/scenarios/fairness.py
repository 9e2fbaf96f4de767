"""Whatever one user does, the events of others arrive, and the user who causes a loss suffers it."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from agent.events.model import EventType
from agent.selftest import filesystems
from agent.selftest.bench import Bench, CannotTellError, Round
from agent.selftest.scenarios import at_least, proves, sleeps, until
from agent.selftest.stale import Code, served

STRANGER = 1013  # a user without any rights
SLEEPERS = 307  # processes that wait in an open
CROWD = 1301  # more than the 1,024 pending returns that a kprobe had room for
EXHAUSTING = 4211  # more than the 4,096 that it has room for now
# The numbers of openat(2), and of the call by which the C library changes a mode.
OPENAT = {"x86_64": "257", "aarch64": "56"}
CHMOD = {"x86_64": "90", "aarch64": "53"}
WANTED = 53
REFUSALS = 10_007
RENAMES = 2003
RACING = 8009  # opens while another process renames the file
RACES = 3
FLOOD = 2003  # wanted events of one user that the agent does not read
FALL_ASLEEP_S = 60
THREAD = 197_621
CALLERS = 23
LOST = 7  # of their large records: 16 of one user may wait for a return (bpf/keep.h)
LONG = "n" * 233  # two such names make a record large


def _opens(path: str, count: int = WANTED) -> str:
    return f"repeat {count}\nopen {path} O_RDONLY -> $0\nclose $0\nend\n"


def _fifo(bench: Bench, *, unlinked: bool) -> str:
    """A path by which anyone may open a FIFO, and by which it has no name any more if it is `unlinked`."""
    path = bench.path("fifo")
    made = bench.unwatched(f"umask 0\nmknod {path} S_IFIFO|0666\nopen {path} O_PATH -> $5\n")
    if not unlinked:
        return path
    bench.unwatched(f"unlink {path}\n")
    return f"/proc/self/fd/{made.at(3).ret}"


def _put_to_sleep(bench: Bench, fifo: str, count: int) -> None:
    """Start processes of a stranger that open a FIFO for writing, and wait until all of them sleep there."""
    bench.play(f"repeat {count}\nfork\nmute\nsetuid {STRANGER}\nopen {fifo} O_WRONLY\nend\nend\n")
    bench.also_made(EventType.OPEN, count)
    if not until(lambda: _asleep(bench) == count, FALL_ASLEEP_S):
        raise CannotTellError(f"not all of {count} processes sleep after {FALL_ASLEEP_S} s")


def _asleep(bench: Bench, state: str = "S") -> int:
    """Return how many children of the generator are in this state."""
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text("ascii").split()
    return sum(sleeps(child, state) for child in children)


def _wake(bench: Bench, fifo: str, count: int) -> Round:
    """Open the FIFO for reading, so that all writers continue, and wait for their end."""
    return bench.play(f"open {fifo} O_RDONLY|O_NONBLOCK -> $6\nrepeat {count}\nwait -1\nend\nclose $6\n")


@proves("fairness.sleepers")
def fairness_sleepers(bench: Bench) -> None:
    """Processes of a stranger sleep in opens of a file that no rule wants."""
    _open_beside(bench, SLEEPERS)


@proves("fairness.returns")
def fairness_returns(bench: Bench) -> None:
    """The same with more processes than a kernel may have room for in a table of pending returns."""
    _open_beside(bench, CROWD)


@proves("fairness.exhausted")
def fairness_exhausted(bench: Bench) -> None:
    """More threads sleep in opens than a kprobe can have pending returns; a stranger is refused a file."""
    wanted, hidden = bench.file("wanted"), bench.file("hidden")
    bench.folder.chmod(0o755)
    Path(hidden).chmod(0o600)
    fifo = _fifo(bench, unlinked=False)
    bench.rules(wanted=f'open.file.path == "{wanted}"', hidden=f'open.file.path == "{hidden}"')
    with (
        _many_threads(),
        _threads_in(OPENAT, lambda: os.close(os.open(fifo, os.O_WRONLY)), lambda: _reader(fifo)),
    ):
        played = bench.play(_opens(wanted))
        refused = bench.play(  # the last open ends the refused one before it
            f"fork -> $1\nsetuid {STRANGER}\nrepeat {WANTED}\nopen {hidden} O_RDONLY\nend\n"
            f"{_opens(wanted, 1)}end\nwait $1\n",
            refused={f"open:4 errno {errno.EACCES}": WANTED},
        )
    bench.equal("wanted events that arrive", WANTED, len(played.matches("wanted")))
    bench.equal("lost", 0, played.counted[EventType.OPEN].lost)
    arrived, lost = len(refused.matches("hidden")), refused.counted[EventType.OPEN].lost
    bench.equal("refused opens that arrive or are counted as lost", WANTED, arrived + lost)
    bench.evidence.record("refused opens that arrive", True, "any", arrived)


@proves("fairness.changes")
def fairness_changes(bench: Bench) -> None:
    """More threads sleep in changes by name than a kprobe has pending returns; another changes a file."""
    wanted, other = bench.file("wanted"), bench.file("other")
    bench.rules(wanted=f'chmod.file.path == "{wanted}"')
    decoy = bench.folder / "fuse/decoy"
    with served(decoy.parent, str(bench.folder)) as server, _many_threads():
        server.hold(Code.SETATTR)  # one thread has the lock of the file, and all others wait for it
        with _threads_in(CHMOD, lambda: decoy.chmod(0o600), server.released):
            played = bench.play(  # the last change ends the one before it
                f"open {wanted} O_RDONLY -> $0\nrepeat {WANTED}\nchmod {other} 0600\nfchmod $0 0640\nend\n"
                f"chmod {other} 0600\nclose $0\n"
            )
    arrived, lost = len(played.matches("wanted")), played.counted[EventType.CHMOD].lost
    bench.equal("changes that arrive or are counted as lost", WANTED, arrived + lost)
    bench.evidence.record("changes that arrive", True, "any", arrived)


@contextmanager
def _many_threads() -> Iterator[None]:
    """Allow this process EXHAUSTING threads with small stacks, each with a file."""
    before, files = threading.stack_size(1 << 16), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, max(1 << 16, files[1])))
    try:
        with at_least("kernel/threads-max", 1 << 16), at_least("kernel/pid_max", 1 << 16):
            yield
    finally:
        threading.stack_size(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


@contextmanager
def _threads_in(
    number: Mapping[str, str], call: Callable[[], object], wake: Callable[[], AbstractContextManager[object]]
) -> Iterator[None]:
    """Let EXHAUSTING threads of this process sleep in a call; within `wake()` all these calls end.

    They make no events; processes would need more memory. `number` is that of the call, by architecture.
    """
    threads = [threading.Thread(target=call) for _ in range(EXHAUSTING)]
    try:
        for thread in threads:
            thread.start()
        if not until(lambda: all(_is_in(number, thread) for thread in threads), FALL_ASLEEP_S):
            raise CannotTellError(f"not all of {EXHAUSTING} threads sleep after {FALL_ASLEEP_S} s")
        yield
    finally:
        with wake():
            for thread in threads:
                if thread.ident:
                    thread.join()


@contextmanager
def _reader(fifo: str) -> Iterator[None]:
    """Open a FIFO for reading, so that all writers continue."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(reader)


def _is_in(number: Mapping[str, str], thread: threading.Thread) -> bool:
    known = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text("ascii")
    return known.split()[0] == number[os.uname().machine]


def _open_beside(bench: Bench, sleepers: int) -> None:
    wanted = bench.file("wanted")
    fifo = _fifo(bench, unlinked=True)
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    _put_to_sleep(bench, fifo, sleepers)
    played = bench.play(_opens(wanted))
    bench.equal("wanted events that arrive", WANTED, len(played.matches("wanted")))
    bench.equal("lost", 0, played.counted[EventType.OPEN].lost)
    woken = _wake(bench, fifo, sleepers)
    bench.equal("opens of the FIFO that left the kernel", 0, len(woken.of(EventType.OPEN)))


@proves("fairness.waiting")
def fairness_waiting(bench: Bench) -> None:
    """The same where a rule wants those opens too: their records wait, and are charged to the stranger."""
    wanted = bench.file("wanted")
    fifo = _fifo(bench, unlinked=False)
    bench.rules(
        wanted=f'open.file.path == "{wanted}"', waiting=f'open.file.path == "{fifo}" && process.uid > 0'
    )
    _put_to_sleep(bench, fifo, SLEEPERS)
    played = bench.play(_opens(wanted))
    bench.equal("wanted events that arrive", WANTED, len(played.matches("wanted")))
    bench.equal("lost", 0, played.counted[EventType.OPEN].lost)
    woken = _wake(bench, fifo, SLEEPERS)
    bench.equal("opens that waited and arrive", SLEEPERS, len(woken.matches("waiting")))


@proves("fairness.kept")
def fairness_kept(bench: Bench) -> None:
    """More processes of a stranger wait in opens and refused calls than there is room for their records."""
    wanted = bench.file("wanted")
    with bench.mounted("fs", "ext4") as top:
        folder = f"{top}/{LONG}/{LONG}"
        Path(folder).mkdir(parents=True)
        bench.rules(
            wanted=f'open.file.path == "{wanted}"',
            waiting=f'open.file.path == "{folder}/fifo" && process.uid > 0',
            refused=f'mkdir.file.path == "{folder}"',
        )
        before = bench.subject.accounts()
        wake = _wait_in_opens(bench, f"{folder}/fifo")
        _check_kept(bench, before[EventType.OPEN].lost, wanted, EventType.OPEN, "waiting", wake)
        with filesystems.frozen(top) as thaw:
            wake = _wait_in_refusals(bench, folder, thaw)
            _check_kept(bench, before[EventType.MKDIR].lost, wanted, EventType.MKDIR, "refused", wake)


_Wake = Callable[[], Round]


def _wait_in_opens(bench: Bench, fifo: str) -> _Wake:
    bench.unwatched(f"umask 0\nmknod {fifo} S_IFIFO|0666\n")
    _put_to_sleep(bench, fifo, CALLERS)
    return lambda: _wake(bench, fifo, CALLERS)


def _wait_in_refusals(bench: Bench, folder: str, thaw: Callable[[], None]) -> _Wake:
    call = f"mkdir {folder} 0755\n"
    bench.play(f"repeat {CALLERS}\nfork\nmute\nsetuid {STRANGER}\n{call}end\nend\n")
    bench.also_made(EventType.MKDIR, CALLERS)
    if not until(lambda: _asleep(bench, "D") == CALLERS, FALL_ASLEEP_S):
        raise CannotTellError(f"not all of {CALLERS} processes wait for their file system")
    script = f"repeat {CALLERS}\nwait -1\nend\n"
    return lambda: bench.play(script, meanwhile=thaw)


def _check_kept(bench: Bench, before: int, wanted: str, kind: EventType, rule: str, wake: _Wake) -> None:
    played = bench.play(_opens(wanted))
    bench.equal(f"wanted events that arrive beside {rule}", WANTED, len(played.matches("wanted")))
    room = len(wake().matches(rule))
    # Of two that ask for the last place at once, on two CPUs, neither may get it.
    most = CALLERS - LOST
    bench.evidence.record(
        f"events of {rule} that find room", most - 1 <= room <= most, f"{most - 1} or {most}", room
    )
    lost = bench.subject.accounts()[kind].lost - before
    bench.equal(f"events of {rule} that are counted as lost", CALLERS - room, lost)


def _flood(directory: str, count: int) -> str:
    """A stranger is refused a directory that exists, again and again."""
    return f"repeat {count}\nmkdir {directory} 0755\nend\n"


@proves("fairness.refusals")
def fairness_refusals(bench: Bench) -> None:
    """Requests that are refused, and whose text no rule can match, do not leave the kernel."""
    wanted = bench.file("wanted")
    bench.rules(
        wanted=f'open.file.path == "{wanted}"',
        made=f'mkdir.file.path =~ "{bench.path("kept")}/**"',
        refused=f'mkdir.file.path == "{bench.path("kept")}"',
    )
    kept = bench.path("kept")
    bench.unwatched(f"mkdir {kept} 0755\n")
    here = str(bench.folder)
    relative = here[1:]
    played = bench.play(
        f"chdir /\nfork -> $1\nsetuid {STRANGER}\n"
        f"{_flood(here, REFUSALS)}{_flood(relative, WANTED)}mkdir {kept} 0755\n"
        f"chdir {here}\nmkdir kept 0755\nmkdir ./kept 0755\nend\nwait $1\n",
        refused={
            f"mkdir:5 errno {errno.EEXIST}": REFUSALS,
            f"mkdir:8 errno {errno.EEXIST}": WANTED,
            f"mkdir:10 errno {errno.EEXIST}": 1,
            f"mkdir:12 errno {errno.EEXIST}": 1,
            f"mkdir:13 errno {errno.EEXIST}": 1,
        },
    )
    spent = played.counted[EventType.MKDIR]
    bench.equal("refusals that a rule wants", 3, len(played.matches("refused")))
    bench.equal("refusals rejected in the kernel", REFUSALS + WANTED, spent.approver_rejected)
    bench.equal("lost", 0, spent.lost)


@proves("fairness.ring")
def fairness_ring(bench: Bench) -> None:
    """A user fills the ring with events that a rule wants: the others' still find room in it."""
    wanted, flooded = bench.file("wanted"), bench.file("flooded")
    bench.rules(wanted=f'open.file.path == "{wanted}"', flooded=f'open.file.path == "{flooded}"')
    few = WANTED // 4
    played = bench.play(
        f"fork -> $1\nsetuid {STRANGER}\n{_opens(flooded, FLOOD)}end\nwait $1\n{_opens(wanted, few)}",
        absorb=False,
    )
    spent = played.counted[EventType.OPEN]
    arrived = len(played.matches("flooded"))
    bench.equal("wanted events that arrive", few, len(played.matches("wanted")))
    bench.evidence.record("some of the flood is lost", 0 < arrived < FLOOD, f"fewer than {FLOOD}", arrived)
    bench.equal("what did not arrive was counted", FLOOD - arrived, spent.ring_full)


def _fork_as(thread: int) -> str:
    """Fork a process with this id, if none has it."""
    return f"open /proc/sys/kernel/ns_last_pid O_WRONLY -> $3\nwrite $3 {thread - 1}\nclose $3\nfork -> $2\n"


@proves("fairness.twin")
def fairness_twin(bench: Bench) -> None:
    """A process asks to write an attribute and sleeps; one of a stranger with a like thread id writes."""
    with bench.mounted("fs", "ext4") as top, at_least("kernel/pid_max", 1 << 22):
        wanted, own = bench.file("fs/wanted"), bench.file("own")
        os.chown(own, STRANGER, STRANGER)
        bench.rules(wanted=f'setxattr.file.path == "{wanted}"')
        twin = THREAD + (1 << 16)  # the size of `writing` in bpf/attributes.h
        with filesystems.frozen(top) as thaw:
            bench.play(f"{_fork_as(THREAD)}mute\nsetxattr {wanted} user.fim x\nend\n")
            bench.also_made(EventType.SETXATTR, 1)
            if not until(lambda: sleeps(str(THREAD), "D"), FALL_ASLEEP_S):
                raise CannotTellError(f"thread {THREAD} does not wait for its file system")
            played = bench.play(f"{_fork_as(twin)}setuid {STRANGER}\nchmod {own} 0600\nend\nwait $2\n")
            if played.outcome.at(4).ret != twin:
                raise CannotTellError(f"thread id {twin} is in use")
            woken = bench.play("wait -1\n", meanwhile=thaw)
        bench.arrives_once(woken, "wanted", {"file.path": wanted.encode(), "retval": 0})
        bench.equal("lost", 0, woken.counted[EventType.SETXATTR].lost)


@proves("fairness.crowd")
def fairness_crowd(bench: Bench) -> None:
    """A thousand sleepers, refusals and renamed directories of one user at once."""
    wanted = bench.file("wanted")
    own = bench.path("own")
    bench.unwatched(f"umask 0\nmkdir {own} 0777\nmkdir {own}/a 0777\n")
    fifo = _fifo(bench, unlinked=True)
    bench.rules(
        wanted=f'open.file.path == "{wanted}"',
        made=f'mkdir.file.path =~ "{bench.path("kept")}/**"',
        moved=f'rename.file.path =~ "{bench.path("kept")}/**"',
    )
    _put_to_sleep(bench, fifo, CROWD)
    hostile = f"setuid {STRANGER}\n"
    renames = f"repeat {RENAMES}\nrename {own}/a {own}/b\nrename {own}/b {own}/a\nend\n"
    played = bench.play(
        f"fork -> $1\n{hostile}{_flood(own, REFUSALS)}end\nfork -> $2\n{hostile}{renames}end\n"
        f"rate 101/s for 2s\nopen {wanted} O_RDONLY -> $0\nclose $0\nend\nwait $1\nwait $2\n",
        refused={f"mkdir:4 errno {errno.EEXIST}": REFUSALS},
    )
    bench.equal("wanted events that arrive", 202, len(played.matches("wanted")))
    bench.equal(
        "refusals rejected in the kernel", REFUSALS, played.counted[EventType.MKDIR].approver_rejected
    )
    bench.equal("lost", 0, sum(account.lost for account in played.counted.values()))
    _wake(bench, fifo, CROWD)


@proves("fairness.racing_rename")
def fairness_racing_rename(bench: Bench) -> None:
    """Open a file of a stranger on one CPU while another renames it to where no rule can match, and back."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        raise CannotTellError("this machine has only one CPU")
    with bench.mounted("fs") as top:
        for folder in ("etc", "anyone/own"):
            Path(f"{top}/{folder}").mkdir(parents=True)
        for file in ("etc/passwd", "anyone/passwd"):
            Path(f"{top}/{file}").touch()
        for mine in ("anyone", "anyone/own", "anyone/passwd"):
            os.chown(f"{top}/{mine}", STRANGER, STRANGER)
        bench.rules(wanted=f'open.file.path =~ "{top}/*/passwd"')
        here, there = f"{top}/anyone/passwd", f"{top}/anyone/own/passwd"
        # What is open has no name to look up: each open finds the file, wherever it is.
        again = "open /proc/self/fd/%{5} O_RDONLY -> $0\nclose $0\n"
        script = (
            f"open {here} O_PATH -> $5\n"
            f"fork -> $1\ncpu {cpus[0]}\nsetuid {STRANGER}\nrepeat {RACING}\n{again}end\nend\n"
            f"fork -> $2\ncpu {cpus[1]}\nsetuid {STRANGER}\n"
            f"repeat {RACING}\nrename {here} {there}\nrename {there} {here}\nend\nend\n"
            "wait $1\nwait $2\nclose $5\n"
        )
        for _ in range(RACES):
            played = bench.play(script, absorb=False)  # the agent would take the time of one of the CPUs
            seen = len(played.matches("wanted"))
            bench.evidence.record("opens in both places", 0 < seen < RACING, f"fewer than {RACING}", seen)
            passed = bench.play(_opens(f"{top}/etc/passwd"))
            bench.equal("events of another file", WANTED, len(passed.matches("wanted")))
