"""What a promise of the agent is, and those of events and filters; `catalogue.py` has them all."""

from __future__ import annotations

from typing import Any, NamedTuple

NIGHTLY = "nightly"  # repeats longer, faster or on more processors what another scenario proves by day
SMOKE = "smoke"  # `make test` runs these on real kernels: a dozen that touch every part of the agent


class Scenario(NamedTuple):
    """One promise of the agent.

    `needs` are facts about a kernel that are observed before the body runs, such as `event:open`: a hook for
    that event fires; `kernel` is what a model of one lacks, `resolved` what is not had where events are told
    by their system calls alone, `refusals` what is not seen without a hook at the lookup, `unhidden` what
    preempted programs hide of others. What is missing makes a SKIP.

    `cost` is the seconds expected on one emulated CPU. `tags` are those of `NIGHTLY` and `SMOKE`.
    `host_bound` scenarios ask more speed of a CPU than an emulated one may have: a whole run that could not
    try one notes it and does not fail. `ring_bytes` asks for an agent of its own with that ring, `discarders`
    for one with room for so many.
    """

    name: str
    proves: str
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    tags: tuple[str, ...] = ()
    host_bound: bool = False
    ring_bytes: int = 0
    discarders: int = 0

    @property
    def family(self) -> str:
        """The part of the name before the dot: also the name of the file that holds the body."""
        return self.name.partition(".")[0]


def promise(name: str, proves: str, events: str, *tags: str, **more: Any) -> Scenario:
    """A scenario that needs events of these types; a word that begins with `+` is another need."""
    needs = (word[1:] if word.startswith("+") else f"event:{word}" for word in events.split())
    return Scenario(name, proves, tuple(needs), tags=tags, **more)


# Discarders are in use only where all that makes them stale is heard of.
_DISCARDING = "open unlink rmdir rename link mount umount +resolved"

TRUTH = (
    promise(
        "truth.open",
        "An open that a rule wants arrives exactly once, with path, identity, flags and return value right.",
        "open",
        SMOKE,
    ),
    promise(
        "truth.unlink",
        "An unlink that a rule wants arrives exactly once, also when the kernel refuses it.",
        "unlink",
        SMOKE,
    ),
    promise(
        "truth.rename",
        "A rename arrives exactly once with both of its paths, whichever of the two the rule names.",
        "rename",
        SMOKE,
    ),
    promise(
        "truth.close",
        "The last close of a file that was open for writing arrives once, and no other close does.",
        "close",
    ),
    promise(
        "truth.rmdir",
        "The removal of a directory arrives by either call, also when the kernel refuses it.",
        "rmdir",
    ),
    promise(
        "truth.mkdir",
        "A new directory arrives with its mode, also when the kernel refuses it.",
        "mkdir +refusals",
    ),
    promise(
        "truth.link",
        "A hard link arrives once with both of its paths, also when the kernel refuses it.",
        "link",
    ),
    promise(
        "truth.symlink",
        "A symbolic link arrives with its path and its text, also when the kernel refuses it.",
        "symlink +refusals",
    ),
    promise("truth.mknod", "A new special file arrives, also when the kernel refuses it.", "mknod +refusals"),
    promise(
        "truth.truncate",
        "A truncation arrives by name and by descriptor, also when the kernel refuses it.",
        "truncate",
    ),
    promise(
        "truth.chmod",
        "A change of mode arrives with the mode by all calls, also when the kernel refuses it.",
        "chmod",
    ),
    promise(
        "truth.chown",
        "A change of owner arrives with the owner by all calls, also when the kernel refuses it.",
        "chown",
    ),
    promise("truth.utimes", "A change of times arrives once, also when the kernel refuses it.", "utimes"),
    promise(
        "truth.setxattr",
        "An extended attribute arrives with its name by all calls, also when the kernel refuses it.",
        "setxattr",
    ),
    promise(
        "truth.removexattr",
        "The removal of an extended attribute arrives with its name, also of one that is not there.",
        "removexattr setxattr",
    ),
    promise(
        "truth.mount",
        "A mount arrives with its place, type and source, also when the kernel refuses it.",
        "mount +kernel",
    ),
    promise(
        "truth.umount",
        "An unmount arrives with its place, also of what is not mounted.",
        "umount mount +kernel",
    ),
    promise(
        "truth.exec",
        "A program arrives with its file and all of its arguments.",
        "exec",
        SMOKE,
    ),
    promise("truth.fork", "A new process arrives with its parent, a new thread does not.", "fork"),
    promise("truth.exit", "The end of a process arrives with its status.", "exit"),
    promise(
        "truth.brief",
        "Processes that live as long as it takes to start them are told whole.",
        "exec fork exit +kernel",
    ),
    promise(
        "truth.names",
        "Names of 1 to 255 bytes, with newlines, quotes and bytes that are no UTF-8, arrive as they are.",
        "open unlink",
    ),
    promise(
        "truth.long_path",
        "A path is told whole up to 4,096 bytes, and a longer one is a tail that says so.",
        "open +kernel",
    ),
    promise(
        "truth.tamper",
        "A file that is replaced and put back within a millisecond leaves every step behind.",
        "open rename",
        host_bound=True,
    ),
    promise(
        "truth.brief_context",
        "Of processes that live 2 ms the container, the program and the parents are told.",
        "open fork exit close +kernel",
        host_bound=True,
    ),
    promise(
        "truth.program_context",
        "A program that ended before anyone read of it is told with its arguments.",
        "open exec fork exit +kernel",
    ),
    promise("truth.threads", "Threads are told by their own ids, under that of their process.", "open"),
)

APPROVERS = (
    promise(
        "approvers.path",
        "Opens of paths that no rule names stay in the kernel, by the thousand, while the named path passes.",
        "open",
        SMOKE,
    ),
    promise(
        "approvers.flags",
        "Opens whose flags no rule asks for stay in the kernel, while the flags that a rule names pass.",
        "open",
        SMOKE,
    ),
    promise(
        "approvers.basename",
        "A base name passes wherever it lies, and one that begins alike does not.",
        "open",
    ),
    promise(
        "approvers.prefix",
        "All below a directory passes, and a directory whose name begins alike does not.",
        "open",
    ),
    promise("approvers.names", "Names of 1 to 255 bytes are told apart by their last byte.", "open"),
    promise(
        "approvers.rdonly", "Opens for reading only pass by themselves where a rule asks for them.", "open"
    ),
    promise(
        "approvers.flags_combined",
        "Rules that want several flags at once, or any of several, get just those.",
        "open",
    ),
    promise("approvers.uid", "What one user does passes, and what another does stays in the kernel.", "open"),
    promise(
        "approvers.auid",
        "What a login does passes, whoever it became, and what another does stays in the kernel.",
        "open +kernel",
    ),
    promise("approvers.change", "Rules that are added and removed hold from the very next event on.", "open"),
    promise(
        "approvers.none",
        "A rule that the kernel cannot serve forwards all of its event type, and of no other.",
        "open mkdir rmdir",
    ),
    promise(
        "approvers.other_types",
        "What one event type asks for lets no other type pass.",
        "open unlink rename close",
    ),
)

DISCARDERS = (
    promise(
        "discarders.parent",
        "A directory that no rule can match is dropped in the kernel after its first event, and no other is.",
        _DISCARDING,
        SMOKE,
    ),
    promise(
        "discarders.leaf",
        "A file that no rule can match is dropped in the kernel, and the file beside it is not.",
        _DISCARDING,
    ),
    promise(
        "discarders.grandparent",
        "A directory is dropped for all that lies two levels below it, and for nothing beside it.",
        _DISCARDING,
    ),
    promise(
        "discarders.great_grandparent",
        "A directory is dropped for all that lies three levels below it, and for nothing beside it.",
        _DISCARDING,
    ),
    promise(
        "discarders.mask",
        "A file whose opens are dropped is still seen when it changes, and when it is removed.",
        _DISCARDING,
    ),
    promise(
        "discarders.rename_file",
        "A dropped file that gets a name that a rule wants is seen at once.",
        f"{_DISCARDING} chmod",
        SMOKE,
    ),
    promise(
        "discarders.rename_parent",
        "A dropped file is seen once its directory gets another name.",
        _DISCARDING,
    ),
    promise(
        "discarders.rename_grandparent",
        "A dropped file is seen once the directory above its own gets another name.",
        _DISCARDING,
    ),
    promise(
        "discarders.rename_great_grandparent",
        "A dropped file is seen once the directory two levels above its own gets another name.",
        _DISCARDING,
    ),
    promise(
        "discarders.move_into",
        "A file that moves from a dropped directory into a watched one is seen on its way and there.",
        _DISCARDING,
    ),
    promise("discarders.link", "A dropped file is seen by a second name that a rule wants.", _DISCARDING),
    promise(
        "discarders.bind_mount",
        "A dropped directory is seen where it is mounted a second time.",
        f"{_DISCARDING} +kernel",
    ),
    promise(
        "discarders.reload",
        "What was dropped under one set of rules is seen by the next from its first event on.",
        _DISCARDING,
    ),
    promise(
        "discarders.inode_reuse",
        "A new file that gets the inode of a dropped one is seen.",
        f"{_DISCARDING} +kernel",
    ),
    promise(
        "discarders.two_devices",
        "A dropped file hides none with the same inode number on another device.",
        f"{_DISCARDING} +kernel",
    ),
    promise(
        "discarders.eviction",
        "A table that is full forgets the oldest, drops the newest, and mistakes none.",
        f"{_DISCARDING} +kernel",
        cost=5.0,
        discarders=128,
    ),
)
