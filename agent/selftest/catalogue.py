"""Lists all self-test scenarios in one table: what each proves, needs and costs.

Plans, documentation and reports are made from this table, so importing it imports neither the scenarios' code
nor the kernel package. The code of a scenario is in `scenarios/FAMILY.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

NIGHTLY = "nightly"  # repeats another scenario for longer, faster or on more CPUs; left out by default
AUTO = "auto"  # depends on no hook set, or tests all: planned where the hook set is auto, without variants
SHORT = "short"  # what differs between kernels; all that runs on a kernel between two that run everything
_SHORT = ("truth.*", "approvers.path", "discarders.parent", "doors.*", "shapes.*")
SMOKE = "smoke"  # the dozen scenarios that touch each part of the agent; `make test` runs them in guests


class Scenario(NamedTuple):
    """One promise of the agent, and the conditions for testing it.

    `needs` are facts about a kernel. A scenario is skipped on a kernel without one of them:

        event:TYPE   the agent sees events of this type
        kernel       a real kernel, not the fake of the unit tests
        resolved     the type is not seen only by the arguments of its system calls
        refusals     operations that fail in the lookup of the name are seen
        unhidden     a preempted program does not hide the events of other processes

    `cost` is the expected duration in seconds on one emulated CPU. A `host_bound` scenario needs a faster CPU
    than an emulated one may be; a run that could not test it reports that, and does not fail. `ring_bytes`
    and `discarders` load an agent of its own, with a ring buffer and a discarder table of these sizes.
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
        """The part of the name before the dot, which is also the name of the module with the code."""
        return self.name.partition(".")[0]


def _scenario(name: str, needs: str, proves: str, *tags: str, **conditions: Any) -> Scenario:
    """Return a scenario. `needs` are event types, and other needs after a `+`."""
    facts = (word[1:] if word.startswith("+") else f"event:{word}" for word in needs.split())
    short = (SHORT,) if any(fnmatchcase(name, glob) for glob in _SHORT) else ()
    return Scenario(name, proves, tuple(facts), tags=(*tags, *short), **conditions)


# The agent uses discarders only if it sees everything that makes one stale.
_DISCARDING = "open unlink rmdir rename link mount umount +resolved"

# fmt: off
CATALOGUE: tuple[Scenario, ...] = (
    _scenario("truth.open", "open",
        "An open that a rule matches is reported exactly once, with correct path, user, flags and result.",
        SMOKE),
    _scenario("truth.unlink", "unlink",
        "An unlink that a rule matches is reported exactly once, also if the kernel refuses it.", SMOKE),
    _scenario("truth.rename", "rename",
        "A rename is reported exactly once with both paths, whichever of them the rule names.", SMOKE),
    _scenario("truth.directory_above", "rename +resolved",
        "The rename of a directory above a watched path is reported for the rules that watch below it."),
    _scenario("truth.close", "close",
        "The last close of a file that was open for writing is reported once, and no other close is."),
    _scenario("truth.rmdir", "rmdir",
        "The removal of a directory is reported for both system calls, also if the kernel refuses it."),
    _scenario("truth.mkdir", "mkdir +refusals",
        "A new directory is reported with its mode, also if the kernel refuses it."),
    _scenario("truth.link", "link",
        "A hard link is reported once with both paths, also if the kernel refuses it."),
    _scenario("truth.symlink", "symlink +refusals",
        "A symbolic link is reported with its path and target, also if the kernel refuses it."),
    _scenario("truth.mknod", "mknod +refusals",
        "A new special file is reported, also if the kernel refuses it."),
    _scenario("truth.truncate", "truncate",
        "A truncation is reported by path and by descriptor, also if the kernel refuses it."),
    _scenario("truth.chmod", "chmod",
        "A change of mode is reported with the mode for each system call, also if the kernel refuses it."),
    _scenario("truth.chown", "chown",
        "A change of owner is reported with the owner for each system call, also if the kernel refuses it."),
    _scenario("truth.utimes", "utimes",
        "A change of times is reported once, also if the kernel refuses it."),
    _scenario("truth.setxattr", "setxattr",
        "A new extended attribute is reported with its name for each system call, also if it is refused."),
    _scenario("truth.removexattr", "removexattr setxattr",
        "The removal of an extended attribute is reported with its name, also if the file has none."),
    _scenario("truth.mount", "mount +kernel",
        "A mount is reported with mount point, type and source, also if the kernel refuses it."),
    _scenario("truth.umount", "umount mount +kernel",
        "An unmount is reported with its mount point, also if nothing is mounted there."),
    _scenario("truth.exec", "exec",
        "An executed program is reported with its file and all its arguments.", SMOKE),
    _scenario("truth.fork", "fork",
        "A new process is reported with its parent, and a new thread is not reported."),
    _scenario("truth.exit", "exit",
        "The end of a process is reported with its exit status."),
    _scenario("truth.brief", "exec fork exit +kernel",
        "Processes that end as soon as they start are reported completely."),
    _scenario("truth.names", "open unlink",
        "Names of 1 to 255 bytes, with newlines, quotes or invalid UTF-8, are reported unchanged."),
    _scenario("truth.long_path", "open +kernel",
        "Paths of up to 4,096 bytes are reported completely, and longer ones as a tail that is marked so."),
    _scenario("truth.tamper", "open rename",
        "Each step is reported if a file is replaced and put back within a millisecond.", host_bound=True),
    _scenario("truth.brief_context", "open fork exit close +kernel",
        "Events of processes that live for 2 ms have their container, program and ancestors.",
        host_bound=True),
    _scenario("truth.program_context", "open exec fork exit +kernel",
        "Events of a program that ended before the agent read them have its arguments."),
    _scenario("truth.threads", "open",
        "Events of threads have the id of the thread and the id of its process."),

    _scenario("approvers.path", "open",
        "The kernel rejects thousands of opens of paths that no rule names, and passes a named path.",
        SMOKE),
    _scenario("approvers.flags", "open",
        "The kernel rejects opens whose flags no rule names, and passes flags that a rule names.", SMOKE),
    _scenario("approvers.basename", "open",
        "A base name passes in any directory, and a name that only begins with it does not."),
    _scenario("approvers.prefix", "open",
        "Everything below a directory passes, and a directory whose name only begins alike does not."),
    _scenario("approvers.names", "open",
        "The kernel distinguishes names of 1 to 255 bytes that differ only in the last byte."),
    _scenario("approvers.rdonly", "open",
        "Opens for reading only pass if a rule names exactly those."),
    _scenario("approvers.flags_combined", "open",
        "A rule for several flags at once and a rule for any of several flags get exactly those opens."),
    _scenario("approvers.uid", "open",
        "Events of the user that a rule names pass, and the kernel rejects those of another user."),
    _scenario("approvers.auid", "open +kernel",
        "Events of a login pass, whatever its user id is now, and the kernel rejects those of another."),
    _scenario("approvers.change", "open",
        "Added and removed rules take effect with the next event."),
    _scenario("approvers.none", "open mkdir rmdir",
        "A rule that the kernel cannot filter for forwards all events of its type, and of no other type."),
    _scenario("approvers.other_types", "open unlink rename close",
        "A value that approves events of one type passes no event of another type."),
    _scenario("approvers.unasked_reads", "open +kernel",
        "Where all rules ask for writing, opens for reading are rejected and those for writing reported."),
    _scenario("approvers.moved_directory", _DISCARDING,
        "A directory that the kernel rejected events of is reported once it, or one above it, is renamed."),
    _scenario("approvers.moved_mount", f"{_DISCARDING} +kernel",
        "A directory that the kernel rejected events of is reported where it is mounted again or moved to."),
    _scenario("approvers.changed_directory", _DISCARDING,
        "A directory that the kernel rejected events of is reported as soon as a rule names files in it."),
    _scenario("approvers.evicted_directory", f"{_DISCARDING} +kernel",
        "A directory is reported whose inode lies in memory where that of a rejected one lay."),
    _scenario("approvers.exchanged_directory", _DISCARDING,
        "A file that leaves a rejected directory is reported, and so is one whose directory is exchanged."),

    _scenario("discarders.parent", _DISCARDING,
        "The kernel drops a directory that no rule can match after its first event, and drops no other.",
        SMOKE),
    _scenario("discarders.leaf", _DISCARDING,
        "The kernel drops a file that no rule can match, and does not drop the file beside it."),
    _scenario("discarders.grandparent", _DISCARDING,
        "A directory is discarded for everything two levels below it, and for nothing beside it."),
    _scenario("discarders.great_grandparent", _DISCARDING,
        "A directory is discarded for everything three levels below it, and for nothing beside it."),
    _scenario("discarders.mask", _DISCARDING,
        "A file whose opens are discarded is still reported when it is changed and when it is removed."),
    _scenario("discarders.rename_file", f"{_DISCARDING} chmod",
        "A discarded file is reported as soon as it gets a name that a rule matches.", SMOKE),
    _scenario("discarders.rename_parent", _DISCARDING,
        "A discarded file is reported once its directory is renamed."),
    _scenario("discarders.rename_grandparent", _DISCARDING,
        "A discarded file is reported once the parent of its directory is renamed."),
    _scenario("discarders.rename_great_grandparent", _DISCARDING,
        "A discarded file is reported once the grandparent of its directory is renamed."),
    _scenario("discarders.move_into", _DISCARDING,
        "A file that moves from a discarded directory into a watched one is reported on its way and there."),
    _scenario("discarders.link", _DISCARDING,
        "A discarded file is reported by a second name that a rule matches."),
    _scenario("discarders.bind_mount", f"{_DISCARDING} +kernel",
        "A discarded directory is reported where it is mounted a second time."),
    _scenario("discarders.reload", _DISCARDING,
        "What one set of rules discarded is reported under the next set from its first event on."),
    _scenario("discarders.inode_reuse", f"{_DISCARDING} +kernel",
        "A new file that reuses the inode of a discarded file is reported."),
    _scenario("discarders.two_devices", f"{_DISCARDING} +kernel",
        "A discarded file hides no file with the same inode number on another device."),
    _scenario("discarders.subvolumes", f"{_DISCARDING} +kernel",
        "A discarded directory hides none with the same inode number in another subvolume."),
    _scenario("discarders.evicted", f"{_DISCARDING} +kernel",
        "A new file is reported whose inode lies in memory where that of a discarded file lay."),
    _scenario("discarders.unannounced", f"{_DISCARDING} +kernel",
        "A discarded file that overlayfs renames in its upper layer is reported by its new name."),
    _scenario("discarders.mounted_file", f"{_DISCARDING} mount +kernel",
        "A discarded file that is mounted on another one is reported when that gets a new name elsewhere."),
    _scenario("discarders.eviction", f"{_DISCARDING} +kernel",
        "A full table evicts the oldest discarders, uses the newest, and drops no event of another file.",
        cost=5.0, discarders=128),

    _scenario("places.tmpfs", "open rename unlink +resolved +kernel",
        "Events on a tmpfs have the correct path, device and inode."),
    _scenario("places.ext4", "open rename unlink +resolved +kernel",
        "Events on ext4 have the correct path, device and inode."),
    _scenario("places.xfs", "open rename unlink +resolved +kernel",
        "Events on xfs have the correct path, device and inode."),
    _scenario("places.btrfs", "open rename unlink +resolved +kernel",
        "Events on btrfs have the correct path and inode."),
    _scenario("places.overlay", "open +resolved +kernel",
        "A file of an overlay is reported by its path in the merged tree, and with its layer."),
    _scenario("places.copy_up", "open close +resolved +kernel",
        "A write that copies a file up is one open and one close, by the path in the merged tree."),
    _scenario("places.copy_up_attributes", "open close setxattr +resolved +kernel",
        "What overlayfs itself does to copy a file up is no event, whatever the process did before."),
    _scenario("places.copy_up_unfollowed", "setxattr +resolved +kernel",
        "What overlayfs does to copy a file up is nothing lost if no rule wants what the process does.",
        cost=15.0),
    _scenario("places.copy_up_result", "setxattr +resolved +kernel",
        "A change that copies a file up has its own result, not that of what overlayfs does below it."),
    _scenario("places.scanned", "open close +resolved +kernel",
        "A write is one open and one close while a content scanner watches the file system."),
    _scenario("places.upper_layer_new", "mkdir symlink mknod +resolved +kernel",
        "A rule for the upper layer gets what is made there."),
    _scenario("places.upper_layer", "open +resolved +kernel",
        "A rule for the upper layer gets the files there, and the kernel rejects the others."),
    _scenario("places.opaque", "open unlink rmdir mkdir +resolved +kernel",
        "A directory that replaces a lower one is reported in the upper layer, and hides the lower files."),
    _scenario("places.bind_mount", "open mount umount +kernel",
        "A file that is mounted twice is reported by the path that the process used."),
    _scenario("places.any_path", "open mount +resolved +kernel",
        "A rule that follows a file by any path matches its hard link and bind mount, and no other."),
    _scenario("places.chroot", "open +kernel",
        "A process in a chroot is reported by the paths of its mount namespace."),
    _scenario("places.namespace", "open mount +kernel",
        "A file in another mount namespace is reported by its path there."),
    _scenario("places.user_namespace", "open mount +kernel",
        "A process in a user namespace is reported with the host's user id and the path that it used."),
    _scenario("places.cgroup_v2", "open exec fork exit close +kernel",
        "A program in a container's cgroup is reported with the container, and one beside it without."),
    _scenario("places.cgroup_v1", "open exec fork exit close +kernel",
        "With cgroup v1, a program in a container is reported with it, and one beside it without."),
    _scenario("places.deleted", "open unlink chmod +kernel",
        "A file without a name is reported by its last path, and marked as deleted."),
    _scenario("places.deleted_directory", "mkdir rmdir chmod +kernel",
        "A removed directory is reported by its last path, and marked as deleted."),
    _scenario("places.detached", "open +resolved +kernel",
        "A file in a tree of mounts that is attached nowhere passes the filters and is marked."),
    _scenario("places.memfd", "exec open +resolved +kernel",
        "A program in a memfd is reported by the name of the memfd."),
    _scenario("places.read_only", "open unlink chmod mount +refusals +kernel",
        "An operation that a read-only file system refuses is reported with its path and the error."),
    _scenario("places.read_only_descriptor",
        "chmod chown setxattr removexattr chattr mount +refusals +kernel",
        "A change of an open file that a read-only file system refuses is reported, with what was asked."),
    _scenario("places.read_only_compat", "chown setxattr removexattr mount +refusals +resolved +kernel",
        "A change by a 32-bit program of an open file on a read-only file system is reported."),
    _scenario("stale.open", "open +resolved +kernel",
        "An open that a stale file makes the kernel look up again is reported by the path that it reached."),
    _scenario("stale.create", "open close +resolved +kernel",
        "An open that a stale file makes the kernel look up again is reported if it creates its file then."),
    _scenario("stale.unlink", "unlink +resolved +kernel",
        "An unlink that a stale file makes the kernel look up again is reported by the path it reached."),
    _scenario("stale.chmod", "chmod +resolved +kernel",
        "A change of mode that a stale file makes the kernel look up again is reported by the path."),

    _scenario("doors.at",
        "open close unlink rmdir mkdir rename link symlink mknod chmod chown utimes +kernel",
        "System calls relative to a descriptor are each reported once, by complete paths.", SMOKE),
    _scenario("doors.openat2", "open close +kernel",
        "An open with restrictions is reported, also if they refuse it."),
    _scenario("doors.exec_refused", "exec open +resolved +kernel",
        "An execve that the kernel refuses is reported with the file and the error, also by a link to it."),
    _scenario("doors.refused_links", "open +resolved +kernel",
        "A refused open is reported by the file that was refused, whichever links led to it."),
    _scenario("doors.refused_exclusive", "open +resolved +kernel",
        "The refusal to create a file that exists is reported by the file, whichever links led to it."),
    _scenario("doors.refused_sticky", "open +resolved +kernel",
        "The refusal to open another user's file with O_CREAT in a sticky directory has the file's path."),
    _scenario("doors.mount_api", "mount umount +resolved +kernel",
        "Mounts, moves and remounts by the mount API are reported with mount point, type, source and flags."),
    _scenario("doors.pivot_root", "mount umount +resolved +kernel",
        "A pivot_root is reported as a mount of the old root below the new one."),
    _scenario("doors.mount_compat", "mount umount +resolved +kernel",
        "A move_mount of a 32-bit caller is reported like others."),
    _scenario("doors.exchange", "rename",
        "The exchange of two files is one rename with both paths."),
    _scenario("doors.noreplace", "rename +refusals",
        "A rename that must not replace a file is reported when it succeeds and when it fails."),
    _scenario("doors.tmpfile", "open link +kernel",
        "A file that is created without a name is reported when it gets one."),
    _scenario("doors.truncate", "open truncate",
        "A truncation is reported both for an open with O_TRUNC and for the system calls."),
    _scenario("doors.copy", "close",
        "Files written by sendfile, copy_file_range, splice and memory maps are reported on close."),
    _scenario("doors.chattr", "chattr +kernel",
        "A change of an inode's flags is reported with them for each call, also if the kernel refuses it."),
    _scenario("doors.bind", "mknod +refusals +kernel",
        "A socket that gets a name by bind(2) is a mknod, also if the name exists or the kernel refuses it."),
    _scenario("doors.compat", "open close unlink rmdir mkdir rename link symlink chmod truncate +kernel",
        "System calls of 32-bit programs are reported like others."),
    _scenario("doors.compat_chattr", "chattr +kernel",
        "A change of an inode's flags by a 32-bit program is reported with them."),
    _scenario("doors.io_uring", "open unlink rmdir mkdir rename link symlink setxattr +kernel",
        "An operation by io_uring is reported once, for the process that requested it."),
    _scenario("doors.handle", "open +kernel",
        "An open by a file handle is reported by its path."),

    _scenario("law.refused_by_link", "open +kernel +resolved",
        "An open that is refused through a link is reported by the path of the file that was refused."),
    _scenario("law.refused_by_proc", "open +kernel +resolved",
        "An open that is refused by a path below /proc/self/root is reported by the path of the file."),
    _scenario("law.directory_by_link", "open +kernel +resolved",
        "The refusal to open a directory for writing is reported by its path, not by that of a link."),
    _scenario("law.created_directory_by_link", "open +kernel +resolved",
        "The refusal to create a file where a directory is has the path of the directory."),
    _scenario("law.truncated_read_only", "open +kernel +resolved",
        "The refusal to truncate a file of a read-only mount has its path, not that of a link."),
    _scenario("law.changed_read_only", "chown setxattr removexattr +kernel +resolved",
        "The refusal to change attributes on a read-only mount has the path of the file, not of a link."),
    _scenario("law.created_with_slash", "mkdir +kernel +resolved",
        "The refusal to make a directory with a slash behind its name has its path, not that of a link."),
    _scenario("law.created_read_only", "open +kernel +resolved",
        "The refusal to create a file on a read-only mount has its path, not the caller's spelling."),
    _scenario("law.created_exclusively_by_proc", "open +kernel +resolved",
        "The refusal to create a file whose name exists has its path, not the caller's spelling."),
    _scenario("law.created_refused_by_proc", "open +kernel +resolved",
        "The refusal to create a file in a directory has its path, not the caller's spelling."),
    _scenario("law.rename_by_proc", "rename +kernel +resolved +refusals",
        "A refused rename is reported by the paths of the files, not by the caller's spelling."),
    _scenario("law.link_by_proc", "link +kernel +resolved +refusals",
        "A refused link is reported by the paths of the files, not by the caller's spelling."),
    _scenario("law.created_by_proc", "mkdir +kernel +resolved +refusals",
        "The refusal to make a directory that exists is reported by its path, not by the caller's spelling."),
    _scenario("law.exec_refused", "exec open +kernel +resolved",
        "The refusal to execute a file is reported with its error."),
    _scenario("law.refused_mode", "mkdir +kernel +resolved +refusals",
        "A refused mkdir is reported with the mode that was asked for."),
    _scenario("law.refused_by_owner", "open +kernel +resolved",
        "An open that is refused is reported with the owner and the mode of the file."),
    _scenario("law.changed_in_detached_tree", "open +kernel +resolved",
        "A file that is changed through a detached copy of its tree is reported and marked."),

    _scenario("life.open_files", "truncate chmod +kernel",
        "A file that was open before the agent watched the process is reported by its path."),
    _scenario("life.reload", "open",
        "No event that all rule sets match is missed while the rules change again and again.", cost=2.0),
    _scenario("life.two_agents", "open +kernel",
        "A second agent starts and ends without disturbing the first, and leaves nothing behind.", cost=3.0),
    _scenario("life.sigterm", "open +kernel",
        "After SIGTERM the agent reports all earlier events, ends, and leaves nothing behind.", cost=8.0),
    _scenario("life.sigkill", "open +kernel",
        "A killed agent leaves complete lines and no program behind, and the next agent sees all events.",
        cost=9.0),
    _scenario("life.restart", "open +kernel",
        "After a kill `agent run` restarts with the same paths, appends to its file, and sees all events.",
        NIGHTLY, AUTO, cost=25.0),
    _scenario("life.bounded", "open +kernel",
        "The agent starts, sees and reloads with no capabilities but those that its systemd unit permits.",
        NIGHTLY, AUTO, cost=30.0),
    _scenario("life.interrupted", "open fork exit +resolved +kernel",
        "An open that a signal interrupts is one event, whether it starts again or fails."),
    _scenario("life.needed", "open mkdir chmod setxattr +kernel",
        "An agent attaches only the programs that its rules need, after a reload too, and sees all the same.",
        NIGHTLY, cost=60.0),
    _scenario("life.lockdown", "open mkdir +kernel",
        "Lockdown that is raised blinds no agent and stops no reload; the next agent sees all or names it.",
        NIGHTLY, cost=60.0),
    _scenario("life.overflow", "open +kernel",
        "After rules with more values than the kernel stage has room for were refused, earlier rules match.",
        NIGHTLY, AUTO, cost=90.0),
    _scenario("life.foreign", "open +kernel",
        "Programs of another process on the same hooks see every event, and so does the agent.", cost=2.0),
    _scenario("life.memory", "open unlink +kernel",
        "Events of thousands of different files take no more memory.", cost=4.0),
    _scenario("life.million", "open unlink +kernel",
        "Events of a million different files, or as many as time permits, take no more memory.",
        NIGHTLY, AUTO, cost=20.0),

    _scenario("loss.steady", "open +unhidden",
        "Of 5,000 events a second for 2 seconds none is lost: kernel, agent and generator count the same.",
        SMOKE, cost=3.0),
    _scenario("loss.small_ring", "open",
        "With a ring buffer that is too small events are lost, and every lost event is counted.",
        SMOKE, cost=3.0, ring_bytes=4096),
    _scenario("loss.unread", "open +unhidden",
        "A thousand events that happen while the agent reads nothing are delivered afterwards.", SMOKE),
    _scenario("loss.stopped", "open +unhidden",
        "Events that happen while the agent reads nothing for two seconds are delivered afterwards.",
        NIGHTLY, cost=3.0),
    _scenario("loss.stopped_small", "open",
        "Every event that a ring buffer that is too small loses in those two seconds is counted.",
        NIGHTLY, cost=4.0, ring_bytes=4096),
    _scenario("loss.sustained", "open +unhidden",
        "Of 5,000 events a second for 5 seconds none is lost: kernel, agent and generator count the same.",
        NIGHTLY, cost=7.0),
    _scenario("loss.fast", "open +unhidden",
        "Of 20,000 events a second for 5 seconds none is lost, if the CPU can generate them.",
        NIGHTLY, cost=7.0, host_bound=True),
    _scenario("loss.burst", "open +unhidden",
        "Of 100,000 events that are generated as fast as possible none is lost.", NIGHTLY, cost=20.0),
    _scenario("loss.cpus", "open +kernel +unhidden",
        "Events of several CPUs at once are counted on each CPU, and none is lost.", NIGHTLY, cost=5.0),
    _scenario("loss.rate", "open +unhidden",
        "Measures the highest rate at which this machine generates events and none is lost.",
        NIGHTLY, cost=15.0),
    _scenario("loss.began_before", "setxattr fork exit open +resolved +kernel",
        "A change that began before the agent, which does not know its mount, is counted as lost.",
        NIGHTLY, cost=5.0),

    _scenario("fairness.sleepers", "open fork exit +kernel",
        "Hundreds of sleeping opens of one user hide no event of another user.", cost=8.0),
    _scenario("fairness.returns", "open fork exit +kernel",
        "More than a thousand sleeping opens of one user hide no event of another user.", cost=20.0),
    _scenario("fairness.exhausted", "open fork exit +unhidden +kernel",
        "More sleeping opens of one user than the kernel can report returns of hide no event of another.",
        NIGHTLY, cost=90.0),
    _scenario("fairness.waiting", "open fork exit +unhidden +kernel",
        "Hundreds of sleeping opens that a rule matches are reported when they end, and hide nothing before.",
        cost=8.0),
    _scenario("fairness.kept", "open mkdir fork exit +refusals +unhidden +kernel",
        "Calls of one user that wait are reported as far as its share has room; the others are counted.",
        cost=4.0),
    _scenario("fairness.refusals", "open mkdir +refusals +kernel",
        "The kernel judges refused requests by their text, and rejects those that no rule can match.",
        cost=3.0),
    _scenario("fairness.ring", "open +kernel",
        "A user whose events fill the ring buffer loses them, and events of others still find room.",
        cost=3.0, ring_bytes=1 << 18),
    _scenario("fairness.twin", "open setxattr chmod fork exit +kernel",
        "A user whose thread has an id like another's cannot make it lose the change of an attribute.",
        cost=3.0),
    _scenario("fairness.racing_rename", f"{_DISCARDING} +kernel",
        "A user who renames a file while it is opened on another CPU hides no event of another file.",
        NIGHTLY, cost=25.0),
    _scenario("fairness.crowd", "open mkdir rename fork exit +refusals +unhidden +kernel",
        "Events of a user are reported while another's thousand processes sleep, are refused and rename.",
        NIGHTLY, cost=25.0),

    _scenario("shapes.lsm", "open +kernel",
        "The verifier accepts every LSM program in every combination of the constants that it reads.",
        NIGHTLY, AUTO, cost=4.0),
    _scenario("shapes.fentry", "open +kernel",
        "The verifier accepts every fentry and fexit program in every combination of its constants.",
        NIGHTLY, AUTO, cost=8.0),
    _scenario("shapes.kprobe", "open +kernel",
        "The verifier accepts every kprobe and kretprobe in every combination of its constants.",
        NIGHTLY, AUTO, cost=8.0),
    _scenario("shapes.kprobe_multi", "open +kernel",
        "The verifier accepts every program of kprobe.multi in every combination of its constants.",
        NIGHTLY, AUTO, cost=8.0),
    _scenario("shapes.tracepoint", "open +kernel",
        "The verifier accepts every program at a tracepoint in every combination of its constants.",
        NIGHTLY, AUTO, cost=4.0),
)
# fmt: on


_BY_NAME = {scenario.name: scenario for scenario in CATALOGUE}


def by_name(name: str) -> Scenario | None:
    """Return the scenario of exactly this name, or None."""
    return _BY_NAME.get(name)


def select(patterns: Iterable[str]) -> tuple[Scenario, ...]:
    """Return the scenarios that the patterns choose, in the order of the catalogue.

    A pattern is a glob of names, or `@TAG`. A pattern after `!` removes scenarios. Without a positive pattern
    the selection starts with all scenarios.
    """
    return _selected(tuple(patterns))


@functools.cache
def _selected(patterns: tuple[str, ...]) -> tuple[Scenario, ...]:
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return tuple(s for s in CATALOGUE if _matches(s, wanted) and not _matches(s, unwanted))


def unknown(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns that match no scenario, so that a misspelled one can be reported."""
    return tuple(p for p in patterns if not any(_matches(s, [p.removeprefix("!")]) for s in CATALOGUE))


def _matches(scenario: Scenario, patterns: Iterable[str]) -> bool:
    return any(
        pattern[1:] in scenario.tags if pattern.startswith("@") else fnmatchcase(scenario.name, pattern)
        for pattern in patterns
    )
