"""Loads of another user beside the programs, as scripts of the generator.

They may slow others down but must hide nothing of theirs. Each reports that it runs by a line `comm`, and
goes on until it is killed. All of them are user `UID`.
"""

from __future__ import annotations

UID = 4242
FOREVER = 1_000_000_000
HOME = "/w/neighbour"
GROUP = "/sys/fs/cgroup/law/a"

_BEGIN = f"mkdir /w 0755\nmkdir {HOME} 0777\nrlimit RLIMIT_NOFILE 4096\nsetgid {UID}\nsetuid {UID}\n"


def _endless(*lines: str) -> str:
    return "\n".join((f"{_BEGIN}comm neighbour", f"repeat {FOREVER}", *lines, "end", ""))


def _sleepers(count: int) -> str:
    """As many processes that sleep in an open of a FIFO that has no name any more."""
    return (
        f"{_BEGIN}mknod {HOME}/fifo S_IFIFO|0666\nopen {HOME}/fifo O_PATH -> $0\nunlink {HOME}/fifo\n"
        f"repeat {count}\nfork\nopen /proc/self/fd/%{{0}} O_WRONLY\nend\nend\n"
        f"comm neighbour\nrate 1/s for {FOREVER}s\ncomm neighbour\nend\n"
    )


NEIGHBOURS = {
    "sleepers": _sleepers(300),
    "refusals": _endless(
        "mkdir /tmp 0755", "open /etc/shadow O_RDWR", "unlink /etc/passwd", "rename /w/tmp /w/x"
    ),
    # Names that rules and approvers know, in a directory that no rule means.
    "approved": _endless(
        f"open {HOME}/passwd O_WRONLY|O_CREAT 0644 -> $0", "close $0", f"chmod {HOME}/passwd 0600",
        f"rename {HOME}/passwd {HOME}/shadow", f"link {HOME}/shadow {HOME}/app.conf",
        f"unlink {HOME}/shadow", f"unlink {HOME}/app.conf",
    ),
    "renames": _endless(
        f"mkdir {HOME}/a 0755", f"mkdir {HOME}/a/etc 0755",
        f"open {HOME}/a/etc/passwd O_WRONLY|O_CREAT 0644 -> $0", "close $0", f"rename {HOME}/a {HOME}/b",
        f"rename {HOME}/b/etc {HOME}/a", f"rename {HOME}/a {HOME}/b/etc", f"rename {HOME}/b {HOME}/a",
    ),
    "mounts": (
        f"{_BEGIN}prctl PR_SET_DUMPABLE 1\nunshare CLONE_NEWUSER|CLONE_NEWNS\n"
        f"mkdir {HOME}/m 0755\nmkdir {HOME}/n 0755\ncomm neighbour\nrepeat {FOREVER}\n"
        f"mount none {HOME}/m tmpfs\nmkdir {HOME}/m/etc 0755\nmount {HOME}/m {HOME}/n none MS_BIND\n"
        f"umount {HOME}/n MNT_DETACH\numount {HOME}/m MNT_DETACH\nend\n"
    ),
    "cgroups": _endless(
        f"mkdir {GROUP}/x%d 0755", f"open {GROUP}/x%d/cgroup.procs O_WRONLY -> $0", "write $0 0", "close $0",
        "fork -> $1", "comm moved", "end", "wait $1",
        f"open {GROUP}/cgroup.procs O_WRONLY -> $0", "write $0 0", "close $0", f"rmdir {GROUP}/x%d",
    ),
    "pids": (
        f"rlimit RLIMIT_NPROC 400\n{_BEGIN}comm neighbour\nrepeat {FOREVER}\nfork\n"
        f"open /etc/passwd O_RDONLY\nopen /etc/shadow O_RDONLY\nrate 1/s for 2s\ncomm asleep\nend\nend\nend\n"
    ),
}  # fmt: skip
