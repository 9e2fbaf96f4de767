"""Every self-test by name, with one sentence of what it proves: data that a plan reads before anything boots.

The bodies live in `scenarios/`, one file a family, and are imported only where they run.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from agent.selftest.promises import APPROVERS, DISCARDERS, NIGHTLY, SMOKE, TRUTH, Scenario, promise

__all__ = ["CATALOGUE", "NIGHTLY", "SMOKE", "Scenario", "by_name", "select", "unknown"]

_PLACES = (
    promise(
        "places.tmpfs",
        "Events on a tmpfs have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    promise(
        "places.ext4",
        "Events on ext4 have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    promise(
        "places.xfs",
        "Events on xfs have path, device and inode right.",
        "open rename unlink +resolved +kernel",
    ),
    promise(
        "places.btrfs", "Events on btrfs have path and inode right.", "open rename unlink +resolved +kernel"
    ),
    promise(
        "places.overlay",
        "A file of an overlay is told by the path of the whole, and in which layer it lies.",
        "open +resolved +kernel",
    ),
    promise(
        "places.copy_up",
        "A write that copies a file up is one open and one close, by the path of the whole.",
        "open close +resolved +kernel",
    ),
    promise(
        "places.upper_layer",
        "A rule that asks for the upper layer gets its files and keeps the others in the kernel.",
        "open +resolved +kernel",
    ),
    promise(
        "places.opaque",
        "A directory that takes a lower one's place is told as what it is, and hides what was there.",
        "open unlink rmdir mkdir +resolved +kernel",
    ),
    promise(
        "places.bind_mount",
        "A file that is mounted twice is told by the path that was used.",
        "open mount umount +kernel",
    ),
    promise(
        "places.chroot",
        "A process in a root of its own is told by the paths of its mount namespace.",
        "open +kernel",
    ),
    promise(
        "places.namespace",
        "A file in a mount namespace is told by the path that it has there.",
        "open mount +kernel",
    ),
    promise(
        "places.user_namespace",
        "A process in a namespace of users is told by the host's user and by the path that it used.",
        "open mount +kernel",
    ),
    promise(
        "places.cgroup_v2",
        "A program in a container's group is told with the container, and one beside it without.",
        "open exec fork exit close +kernel",
    ),
    promise(
        "places.cgroup_v1",
        "The same where containers are told apart by groups of the old kind.",
        "open exec fork exit close +kernel",
    ),
    promise(
        "places.deleted",
        "A file without a name is told by its last one, and said to be gone.",
        "open unlink chmod +kernel",
    ),
    promise(
        "places.deleted_directory",
        "A directory that is gone is told by its last path, and said to be gone.",
        "mkdir rmdir chmod +kernel",
    ),
    promise(
        "places.read_only",
        "What a read-only file system refuses is told with its path and the error.",
        "open unlink chmod mount +refusals +kernel",
    ),
)

_DOORS = (
    promise(
        "doors.at",
        "Calls that are relative to a descriptor are told by whole paths, each once.",
        "open close unlink rmdir mkdir rename link symlink mknod chmod chown utimes +kernel",
        SMOKE,
    ),
    promise(
        "doors.openat2", "An open with restrictions is told, also when they refuse it.", "open close +kernel"
    ),
    promise(
        "doors.exchange", "Two files that take each other's name are one rename with both paths.", "rename"
    ),
    promise(
        "doors.noreplace",
        "A rename that must not replace is told when it does and when it does not.",
        "rename +refusals",
    ),
    promise(
        "doors.tmpfile", "A file that is made without a name is told when it gets one.", "open link +kernel"
    ),
    promise(
        "doors.truncate", "A file that is emptied is told whether an open or a call did it.", "open truncate"
    ),
    promise(
        "doors.copy",
        "What sendfile, copy_file_range, splice and memory maps write is told when the file is closed.",
        "close",
    ),
    promise(
        "doors.compat",
        "System calls of 32-bit programs are told like others.",
        "open close unlink rmdir mkdir rename link symlink chmod truncate +kernel",
    ),
    promise(
        "doors.io_uring",
        "What is done by io_uring is told once, by the process that asked for it.",
        "open unlink rmdir mkdir rename link symlink setxattr +kernel",
    ),
    promise("doors.handle", "An open by a file's handle is told by its path.", "open +kernel"),
)

_LIFE = (
    promise(
        "life.open_files",
        "A file that was open before the watching began is told by its path.",
        "truncate chmod +kernel",
    ),
    promise(
        "life.reload",
        "While rules change again and again no event that all of them want is missed.",
        "open",
        cost=2.0,
    ),
    promise(
        "life.two_agents",
        "A second agent comes and goes, neither disturbs the other, and nothing is left of it.",
        "open +kernel",
        cost=3.0,
    ),
    promise(
        "life.sigterm",
        "An agent that is told to end tells first what happened before, and leaves nothing.",
        "open +kernel",
        cost=8.0,
    ),
    promise(
        "life.sigkill",
        "An agent that is killed leaves whole lines and no program, and the next one sees all again.",
        "open +kernel",
        cost=9.0,
    ),
    promise(
        "life.restart",
        "After a kill `agent run` starts again in the same place, adds to its file, and sees all again.",
        "open +kernel",
        NIGHTLY,
        cost=25.0,
    ),
    promise(
        "life.foreign",
        "Programs of somebody else on the same hooks see every event, and so does the agent.",
        "open +kernel",
        cost=2.0,
    ),
    promise(
        "life.memory",
        "Thousands of files, each seen once, take no memory.",
        "open unlink +kernel",
        cost=4.0,
    ),
    promise(
        "life.million",
        "A million files, or as many as there is time for, take no memory.",
        "open unlink +kernel",
        NIGHTLY,
        cost=20.0,
    ),
)

_LOSS = (
    promise(
        "loss.steady",
        "Of 5,000 events a second for 2 seconds none is lost: kernel, agent and generator count the same.",
        "open +unhidden",
        SMOKE,
        cost=3.0,
    ),
    promise(
        "loss.small_ring",
        "With a ring that is too small events are lost, and every one of them is counted.",
        "open",
        SMOKE,
        cost=3.0,
        ring_bytes=4096,
    ),
    promise(
        "loss.unread",
        "A thousand events that happen while the agent reads nothing are there afterwards.",
        "open +unhidden",
        SMOKE,
    ),
    promise(
        "loss.stopped",
        "What happens while the agent reads nothing for two seconds is there afterwards.",
        "open +unhidden",
        NIGHTLY,
        cost=3.0,
    ),
    promise(
        "loss.stopped_small",
        "What a ring that is too small loses in those two seconds is counted to the last event.",
        "open",
        NIGHTLY,
        cost=4.0,
        ring_bytes=4096,
    ),
    promise(
        "loss.sustained",
        "Of 5,000 events a second for 5 seconds none is lost: kernel, agent and generator count the same.",
        "open +unhidden",
        NIGHTLY,
        cost=7.0,
    ),
    promise(
        "loss.fast",
        "Of 20,000 events a second for 5 seconds none is lost, where the CPU can make them.",
        "open +unhidden",
        NIGHTLY,
        cost=7.0,
        host_bound=True,
    ),
    promise(
        "loss.burst",
        "Of 100,000 events as fast as they can be made none is lost.",
        "open +unhidden",
        NIGHTLY,
        cost=20.0,
    ),
    promise(
        "loss.cpus",
        "What several processors do at once is counted on each, and none is lost.",
        "open +kernel +unhidden",
        NIGHTLY,
        cost=5.0,
    ),
    promise(
        "loss.rate",
        "How many events a second this machine makes with none lost.",
        "open +unhidden",
        NIGHTLY,
        cost=15.0,
    ),
)

CATALOGUE: tuple[Scenario, ...] = (*TRUTH, *APPROVERS, *DISCARDERS, *_PLACES, *_DOORS, *_LIFE, *_LOSS)


def by_name(name: str) -> Scenario | None:
    """The scenario of exactly that name, or None."""
    return next((scenario for scenario in CATALOGUE if scenario.name == name), None)


def select(patterns: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios that `patterns` choose, in catalogue order.

    A pattern is a glob over names, or `@TAG`; `!` before it leaves out. With no positive pattern all are
    chosen from.
    """
    patterns = tuple(patterns)
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return tuple(s for s in CATALOGUE if _fits(s, wanted) and not _fits(s, unwanted))


def unknown(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those of `patterns` that fit no scenario: a misspelt test must not pass as an empty run."""
    return tuple(p for p in patterns if not any(_fits(s, [p.removeprefix("!")]) for s in CATALOGUE))


def _fits(scenario: Scenario, globs: Iterable[str]) -> bool:
    return any(
        glob[1:] in scenario.tags if glob.startswith("@") else fnmatchcase(scenario.name, glob)
        for glob in globs
    )
