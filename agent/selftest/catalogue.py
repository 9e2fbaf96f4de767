"""Every self-test by name, with one sentence of what it proves: data that a plan reads before anything boots.

The bodies live in `scenarios/`, one file a family, and are imported only where they run.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple


class Scenario(NamedTuple):
    """One promise of the agent.

    `needs` are facts about a kernel that are observed before the body runs, such as `event:open`: a hook for
    that event fires; `kernel` is what a model of one lacks, `resolved` what is not had where events are told
    by their system calls alone, `refusals` what is not seen without a hook at the lookup. What is missing
    makes a SKIP.

    `cost` is the seconds expected on one emulated CPU; `long`
    scenarios can be left out where seconds matter. `ring_bytes` asks for an agent of its own with that ring,
    `discarders` for one with room for so many.
    """

    name: str
    proves: str
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    long: bool = False
    ring_bytes: int = 0
    discarders: int = 0

    @property
    def family(self) -> str:
        """The part of the name before the dot: also the name of the file that holds the body."""
        return self.name.partition(".")[0]


def _promise(name: str, proves: str, events: str, **more: Any) -> Scenario:
    """A scenario that needs events of these types; what begins with `+` is another need."""
    needs = (word[1:] if word.startswith("+") else f"event:{word}" for word in events.split())
    return Scenario(name, proves, tuple(needs), **more)


# Discarders are in use only where all that makes them stale is heard of.
_DISCARDING = "open unlink rmdir rename link mount umount +resolved"

_TRUTH = (
    _promise(
        "truth.open",
        "An open that a rule wants arrives exactly once, with path, identity, flags and return value right.",
        "open",
    ),
    _promise(
        "truth.unlink",
        "An unlink that a rule wants arrives exactly once, also when the kernel refuses it.",
        "unlink",
    ),
    _promise(
        "truth.rename",
        "A rename arrives exactly once with both of its paths, whichever of the two the rule names.",
        "rename",
    ),
    _promise(
        "truth.close",
        "The last close of a file that was open for writing arrives once, and no other close does.",
        "close",
    ),
    _promise(
        "truth.rmdir",
        "The removal of a directory arrives by either call, also when the kernel refuses it.",
        "rmdir",
    ),
    _promise(
        "truth.mkdir",
        "A new directory arrives with its mode, also when the kernel refuses it.",
        "mkdir +refusals",
    ),
    _promise(
        "truth.link",
        "A hard link arrives once with both of its paths, also when the kernel refuses it.",
        "link",
    ),
    _promise(
        "truth.symlink",
        "A symbolic link arrives with its path and its text, also when the kernel refuses it.",
        "symlink +refusals",
    ),
    _promise(
        "truth.mknod", "A new special file arrives, also when the kernel refuses it.", "mknod +refusals"
    ),
    _promise(
        "truth.truncate",
        "A truncation arrives by name and by descriptor, also when the kernel refuses it.",
        "truncate",
    ),
    _promise(
        "truth.chmod",
        "A change of mode arrives with the mode by all calls, also when the kernel refuses it.",
        "chmod",
    ),
    _promise(
        "truth.chown",
        "A change of owner arrives with the owner by all calls, also when the kernel refuses it.",
        "chown",
    ),
    _promise("truth.utimes", "A change of times arrives once, also when the kernel refuses it.", "utimes"),
    _promise(
        "truth.setxattr",
        "An extended attribute arrives with its name by all calls, also when the kernel refuses it.",
        "setxattr",
    ),
    _promise(
        "truth.removexattr",
        "The removal of an extended attribute arrives with its name, also of one that is not there.",
        "removexattr setxattr",
    ),
    _promise(
        "truth.mount",
        "A mount arrives with its place, type and source, also when the kernel refuses it.",
        "mount +kernel",
    ),
    _promise(
        "truth.umount",
        "An unmount arrives with its place, also of what is not mounted.",
        "umount mount +kernel",
    ),
    _promise("truth.exec", "A program arrives with its file and all of its arguments.", "exec"),
    _promise("truth.fork", "A new process arrives with its parent, a new thread does not.", "fork"),
    _promise("truth.exit", "The end of a process arrives with its status.", "exit"),
    _promise(
        "truth.brief",
        "Processes that live as long as it takes to start them are told whole.",
        "exec fork exit +kernel",
    ),
    _promise(
        "truth.names",
        "Names of 1 to 255 bytes, with newlines, quotes and bytes that are no UTF-8, arrive as they are.",
        "open unlink",
    ),
    _promise(
        "truth.long_path",
        "A path is told whole up to 4,096 bytes, and a longer one is a tail that says so.",
        "open +kernel",
    ),
    _promise(
        "truth.tamper",
        "A file that is replaced and put back within a millisecond leaves every step behind.",
        "open rename",
    ),
    _promise(
        "truth.brief_context",
        "Of processes that live 2 ms the container, the program and the parents are told.",
        "open fork exit close +kernel",
    ),
    _promise(
        "truth.program_context",
        "A program that ended before anyone read of it is told with its arguments.",
        "open exec fork exit +kernel",
    ),
    _promise("truth.threads", "Threads are told by their own ids, under that of their process.", "open"),
)

_APPROVERS = (
    _promise(
        "approvers.path",
        "Opens of paths that no rule names stay in the kernel, by the thousand, while the named path passes.",
        "open",
    ),
    _promise(
        "approvers.flags",
        "Opens whose flags no rule asks for stay in the kernel, while the flags that a rule names pass.",
        "open",
    ),
    _promise(
        "approvers.basename",
        "A base name passes wherever it lies, and one that begins alike does not.",
        "open",
    ),
    _promise(
        "approvers.prefix",
        "All below a directory passes, and a directory whose name begins alike does not.",
        "open",
    ),
    _promise("approvers.names", "Names of 1 to 255 bytes are told apart by their last byte.", "open"),
    _promise(
        "approvers.rdonly", "Opens for reading only pass by themselves where a rule asks for them.", "open"
    ),
    _promise(
        "approvers.flags_combined",
        "Rules that want several flags at once, or any of several, get just those.",
        "open",
    ),
    _promise(
        "approvers.uid", "What one user does passes, and what another does stays in the kernel.", "open"
    ),
    _promise(
        "approvers.auid",
        "What a login does passes, whoever it became, and what another does stays in the kernel.",
        "open +kernel",
    ),
    _promise(
        "approvers.change", "Rules that are added and removed hold from the very next event on.", "open"
    ),
    _promise(
        "approvers.none",
        "A rule that the kernel cannot serve forwards all of its event type, and of no other.",
        "open mkdir rmdir",
    ),
    _promise(
        "approvers.other_types",
        "What one event type asks for lets no other type pass.",
        "open unlink rename close",
    ),
)

_DISCARDERS = (
    _promise(
        "discarders.parent",
        "A directory that no rule can match is dropped in the kernel after its first event, and no other is.",
        _DISCARDING,
    ),
    _promise(
        "discarders.leaf",
        "A file that no rule can match is dropped in the kernel, and the file beside it is not.",
        _DISCARDING,
    ),
    _promise(
        "discarders.grandparent",
        "A directory is dropped for all that lies two levels below it, and for nothing beside it.",
        _DISCARDING,
    ),
    _promise(
        "discarders.great_grandparent",
        "A directory is dropped for all that lies three levels below it, and for nothing beside it.",
        _DISCARDING,
    ),
    _promise(
        "discarders.mask",
        "A file whose opens are dropped is still seen when it changes, and when it is removed.",
        _DISCARDING,
    ),
    _promise(
        "discarders.rename_file",
        "A dropped file that gets a name that a rule wants is seen at once.",
        f"{_DISCARDING} chmod",
    ),
    _promise(
        "discarders.rename_parent",
        "A dropped file is seen once its directory gets another name.",
        _DISCARDING,
    ),
    _promise(
        "discarders.rename_grandparent",
        "A dropped file is seen once the directory above its own gets another name.",
        _DISCARDING,
    ),
    _promise(
        "discarders.rename_great_grandparent",
        "A dropped file is seen once the directory two levels above its own gets another name.",
        _DISCARDING,
    ),
    _promise(
        "discarders.move_into",
        "A file that moves from a dropped directory into a watched one is seen on its way and there.",
        _DISCARDING,
    ),
    _promise("discarders.link", "A dropped file is seen by a second name that a rule wants.", _DISCARDING),
    _promise(
        "discarders.bind_mount",
        "A dropped directory is seen where it is mounted a second time.",
        f"{_DISCARDING} +kernel",
    ),
    _promise(
        "discarders.reload",
        "What was dropped under one set of rules is seen by the next from its first event on.",
        _DISCARDING,
    ),
    _promise(
        "discarders.inode_reuse",
        "A new file that gets the inode of a dropped one is seen.",
        f"{_DISCARDING} +kernel",
    ),
    _promise(
        "discarders.two_devices",
        "A dropped file hides none with the same inode number on another device.",
        f"{_DISCARDING} +kernel",
    ),
    _promise(
        "discarders.eviction",
        "A table that is full forgets the oldest, drops the newest, and mistakes none.",
        f"{_DISCARDING} +kernel",
        cost=5.0,
        discarders=128,
    ),
)

_PLACES = (
    _promise(
        "places.tmpfs",
        "Events on a tmpfs have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    _promise(
        "places.ext4",
        "Events on ext4 have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    _promise(
        "places.xfs",
        "Events on xfs have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    _promise(
        "places.btrfs", "Events on btrfs have path and inode right.", "open rename unlink +resolved +kernel"
    ),
    _promise(
        "places.overlay",
        "A file of an overlay is told by the path of the whole, and in which layer it lies.",
        "open +resolved +kernel",
    ),
    _promise(
        "places.copy_up",
        "A write that copies a file up is one open and one close, by the path of the whole.",
        "open close +resolved +kernel",
    ),
    _promise(
        "places.upper_layer",
        "A rule that asks for the upper layer gets its files and keeps the others in the kernel.",
        "open +resolved +kernel",
    ),
    _promise(
        "places.opaque",
        "A directory that takes a lower one's place is told as what it is, and hides what was there.",
        "open unlink rmdir mkdir +resolved +kernel",
    ),
    _promise(
        "places.bind_mount",
        "A file that is mounted twice is told by the path that was used.",
        "open mount umount +kernel",
    ),
    _promise(
        "places.chroot",
        "A process in a root of its own is told by the paths of its mount namespace.",
        "open +kernel",
    ),
    _promise(
        "places.namespace",
        "A file in a mount namespace is told by the path that it has there.",
        "open mount +kernel",
    ),
    _promise(
        "places.user_namespace",
        "A process in a namespace of users is told by the host's user and by the path that it used.",
        "open mount +kernel",
    ),
    _promise(
        "places.cgroup_v2",
        "A program in a container's group is told with the container, and one beside it without.",
        "open exec fork exit close +kernel",
    ),
    _promise(
        "places.cgroup_v1",
        "The same where containers are told apart by groups of the old kind.",
        "open exec fork exit close +kernel",
    ),
    _promise(
        "places.deleted",
        "A file without a name is told by its last one, and said to be gone.",
        "open unlink chmod +kernel",
    ),
    _promise(
        "places.deleted_directory",
        "A directory that is gone is told by its last path, and said to be gone.",
        "mkdir rmdir chmod +kernel",
    ),
    _promise(
        "places.read_only",
        "What a read-only file system refuses is told with its path and the error.",
        "open unlink chmod mount +refusals +kernel",
    ),
)

_DOORS = (
    _promise(
        "doors.at",
        "Calls that are relative to a descriptor are told by whole paths, each once.",
        "open close unlink rmdir mkdir rename link symlink mknod chmod chown utimes +kernel",
    ),
    _promise(
        "doors.openat2", "An open with restrictions is told, also when they refuse it.", "open close +kernel"
    ),
    _promise(
        "doors.exchange", "Two files that take each other's name are one rename with both paths.", "rename"
    ),
    _promise(
        "doors.noreplace",
        "A rename that must not replace is told when it does and when it does not.",
        "rename +refusals",
    ),
    _promise(
        "doors.tmpfile", "A file that is made without a name is told when it gets one.", "open link +kernel"
    ),
    _promise(
        "doors.truncate", "A file that is emptied is told whether an open or a call did it.", "open truncate"
    ),
    _promise(
        "doors.copy",
        "What sendfile, copy_file_range, splice and memory maps write is told when the file is closed.",
        "close",
    ),
    _promise(
        "doors.compat",
        "System calls of 32-bit programs are told like others.",
        "open close unlink rmdir mkdir rename link symlink chmod truncate +kernel",
    ),
    _promise(
        "doors.io_uring",
        "What is done by io_uring is told once, by the process that asked for it.",
        "open unlink rmdir mkdir rename link symlink setxattr +kernel",
    ),
    _promise("doors.handle", "An open by a file's handle is told by its path.", "open +kernel"),
)

_LIFE = (
    _promise(
        "life.open_files",
        "A file that was open before the watching began is told by its path.",
        "truncate chmod +kernel",
    ),
    _promise(
        "life.reload",
        "While rules change again and again no event that all of them want is missed.",
        "open",
        cost=3.0,
    ),
    _promise(
        "life.two_agents",
        "A second agent comes and goes, neither disturbs the other, and nothing is left of it.",
        "open +kernel",
        cost=5.0,
        long=True,
    ),
    _promise(
        "life.sigterm",
        "An agent that is told to end tells first what happened before, and leaves nothing.",
        "open +kernel",
        cost=15.0,
        long=True,
    ),
    _promise(
        "life.sigkill",
        "An agent that is killed leaves whole lines and no program, and the next one sees all again.",
        "open +kernel",
        cost=25.0,
        long=True,
    ),
    _promise(
        "life.foreign",
        "Programs of somebody else on the same hooks see every event, and so does the agent.",
        "open +kernel",
        cost=2.0,
    ),
    _promise(
        "life.memory",
        "A million files, or as many as there is time for, take no memory.",
        "open unlink +kernel",
        cost=20.0,
        long=True,
    ),
)

_LOSS = (
    _promise(
        "loss.steady",
        "Of 5,000 events a second for 5 seconds none is lost: kernel, agent and generator count the same.",
        "open",
        cost=7.0,
        long=True,
    ),
    _promise(
        "loss.small_ring",
        "With a ring that is too small events are lost, and every one of them is counted.",
        "open",
        cost=3.0,
        ring_bytes=4096,
    ),
    _promise(
        "loss.stopped",
        "What happens while the agent reads nothing for two seconds is there afterwards.",
        "open",
        cost=3.0,
    ),
    _promise(
        "loss.stopped_small",
        "What a ring that is too small loses in those two seconds is counted to the last event.",
        "open",
        cost=4.0,
        long=True,
        ring_bytes=4096,
    ),
    _promise(
        "loss.fast",
        "Of 20,000 events a second for 5 seconds none is lost, where the CPU can make them.",
        "open",
        cost=7.0,
        long=True,
    ),
    _promise(
        "loss.burst",
        "Of 100,000 events as fast as they can be made none is lost.",
        "open",
        cost=20.0,
        long=True,
    ),
    _promise(
        "loss.cpus",
        "What several processors do at once is counted on each, and none is lost.",
        "open +kernel",
        cost=5.0,
    ),
    _promise(
        "loss.rate",
        "How many events a second this machine makes with none lost.",
        "open",
        cost=15.0,
        long=True,
    ),
)

CATALOGUE: tuple[Scenario, ...] = (*_TRUTH, *_APPROVERS, *_DISCARDERS, *_PLACES, *_DOORS, *_LIFE, *_LOSS)


def by_name(name: str) -> Scenario | None:
    """The scenario of exactly that name, or None."""
    return next((scenario for scenario in CATALOGUE if scenario.name == name), None)


def select(patterns: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios that `patterns` choose, in catalogue order.

    A pattern is a glob over names; `!GLOB` leaves out. With no positive pattern all are chosen from.
    """
    patterns = tuple(patterns)
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return tuple(s for s in CATALOGUE if _fits(s, wanted) and not _fits(s, unwanted))


def unknown(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those of `patterns` that fit no scenario: a misspelt test must not pass as an empty run."""
    return tuple(p for p in patterns if not any(_fits(s, [p.removeprefix("!")]) for s in CATALOGUE))


def _fits(scenario: Scenario, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(scenario.name, glob) for glob in globs)
