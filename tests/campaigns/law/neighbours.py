"""Loads of another user beside the programs, as scripts of the generator.

They may slow others down but must hide nothing of theirs. Each makes the directory `READY` once it runs, and
goes on until it is killed. All of them are user `UID`.
"""

from __future__ import annotations

UID = 4242
FOREVER = 1_000_000_000
HOME = "/w/neighbour"
GROUP = "/sys/fs/cgroup/law/a"

READY = f"{HOME}/ready"
RELOADS = "reloads"  # not a script: the operator reloads the rules all the time

_ROOT = f"mkdir /w 0755\nmkdir {HOME} 0777\nrlimit RLIMIT_NPROC 500\n"
_USER = f"setgid {UID}\nsetuid {UID}\n"
_READY = f"mkdir {READY} 0755\n"
_IDLE = f"rate 1/s for {FOREVER}s\nclose 90\nend\n"


FLOODERS = 4  # processes, so that the agents have the smaller part of one CPU


def _endless(*lines: str) -> str:
    flood = (f"repeat {FLOODERS}", "fork", f"repeat {FOREVER}", *lines, "end", "end", "end")
    return "\n".join((f"{_ROOT}{_USER}", *flood, f"{_READY}{_IDLE}"))


def _sleepers(count: int) -> str:
    """Make processes that sleep in the open of a FIFO that has no name any more."""
    return (
        f"{_ROOT}{_USER}mknod {HOME}/fifo S_IFIFO|0666\nopen {HOME}/fifo O_PATH -> $0\nunlink {HOME}/fifo\n"
        f"repeat {count}\nfork\nopen /proc/self/fd/%{{0}} O_WRONLY\nend\nend\n"
        f"{_READY}{_IDLE}"
    )


def _written(path: str, text: str) -> str:
    return f"open {path} O_WRONLY -> $0\nwrite $0 {text}\nclose $0"


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
    # In a user namespace, whose only user is root there.
    "mounts": "\n".join((
        f"{_ROOT}{_USER}prctl PR_SET_DUMPABLE 1", f"mkdir {HOME}/m 0755", f"mkdir {HOME}/n 0755",
        "unshare CLONE_NEWUSER|CLONE_NEWNS", _written("/proc/self/setgroups", "deny"),
        _written("/proc/self/uid_map", f"0\\x20{UID}\\x201"),
        _written("/proc/self/gid_map", f"0\\x20{UID}\\x201"),
        f"{_READY}repeat {FOREVER}", f"mount none {HOME}/m tmpfs", f"mkdir {HOME}/m/etc 0755",
        f"mount {HOME}/m {HOME}/n none MS_BIND", f"umount {HOME}/n MNT_DETACH",
        f"umount {HOME}/m MNT_DETACH", "end", "",
    )),
    # The group and its list of processes belong to the user, who comes from within it.
    "cgroups": "\n".join((
        f"{_ROOT}{_written(f'{GROUP}/cgroup.procs', '0')}", f"{_USER}{_READY}repeat {FOREVER}",
        f"mkdir {GROUP}/x%d 0755", _written(f"{GROUP}/x%d/cgroup.procs", "0"), "fork -> $1", "close 90",
        "end", "wait $1", _written(f"{GROUP}/cgroup.procs", "0"), f"rmdir {GROUP}/x%d", "end", "",
    )),
    # As many processes as the user may have, and then attempts to have more.
    "pids": (
        f"{_ROOT}{_USER}{_READY}repeat {FOREVER}\nfork\nopen /etc/passwd O_RDONLY\n"
        f"open /etc/shadow O_RDONLY\nrate 1/s for {FOREVER}s\nclose 90\nend\nend\nend\n"
    ),
}  # fmt: skip
NAMES = (*NEIGHBOURS, RELOADS)
