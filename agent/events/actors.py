"""What is known about who did it: what the context finds out, and rules, output and sinks read.

Everything a rule compares with a string is bytes, as the kernel and the files gave it; only output turns
bytes into text. An empty value means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NO_USER = 0xFFFFFFFF  # (uid_t) -1: the auid of a process that no login started, and what is not known


@dataclass(slots=True)
class Process:
    """One process at the time of an event.

    `exe` is the absolute path of its program, `args` what it was started with (`args[0]` included),
    `ancestors` who started it, nearest first: the programs as they were when they forked, also after they
    have exited. Ancestors carry no ancestors of their own and no thread (`tid` equals `pid`). Of a process of
    which nothing is known the users are no one's, so that no rule takes it for root.
    """

    pid: int = 0
    ppid: int = 0
    tid: int = 0
    comm: bytes = b""
    exe: bytes = b""
    args: tuple[bytes, ...] = ()
    uid: int = NO_USER
    gid: int = NO_USER
    auid: int = NO_USER
    user: bytes = b""
    group: bytes = b""
    ancestors: tuple[Process, ...] = ()

    @property
    def name(self) -> bytes:
        """The program's base name."""
        return self.exe.rsplit(b"/", 1)[-1]


@dataclass(slots=True, frozen=True)
class Container:
    """The container of a process; all fields are empty for the host.

    `runtime` is docker, containerd, cri-o, podman, lxc or systemd-nspawn. `rootless_id` is an id from a
    control group that an unprivileged user named: it may be a rootless container or a forgery, so `id` and
    `runtime` are empty then.
    """

    id: bytes = b""
    runtime: bytes = b""
    rootless_id: bytes = b""


HOST = Container()


@dataclass(slots=True)
class Context:
    """What rules see beside the event itself, and the process's root directory, which matches tell."""

    process: Process = field(default_factory=Process)
    container: Container = HOST
    root: bytes = b""


NOBODY = Process()
NOTHING = Context(NOBODY)
