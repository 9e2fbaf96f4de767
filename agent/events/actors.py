"""Defines the process and container of an event, which the context finds out and rules and sinks read.

Strings are bytes, as the kernel and files give them; only the output converts them to text. An empty value
means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NO_USER = 0xFFFFFFFF  # (uid_t) -1: the auid of a process without a login session, or an unknown user


@dataclass(slots=True)
class Process:
    """One process at the time of an event.

    `exe` is the absolute path of its program, `args` its arguments (`args[0]` included; without the last ones
    if `args_truncated`), `ancestors` its ancestors, nearest first, with the programs that they had when they
    forked. Ancestors have no ancestors of their own and no thread (`tid` equals `pid`). The users of an
    unknown process are NO_USER, so that no rule takes it for root. `package_manager` is the one on whose
    behalf a process of the host works, see `agent/context/packages.py`; ancestors have none. `incomplete`
    means that the agent did not see how the process came about, so that program, arguments or ancestors are
    unknown, or are what `/proc` showed later. `login` is the `auid` if root was seen to set it: a process
    that has none may choose any (`audit_set_loginuid()` in kernel/audit.c).
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
    args_truncated: bool = False
    package_manager: bytes = b""
    incomplete: bool = False
    login: int = NO_USER

    @property
    def name(self) -> bytes:
        """The program's base name."""
        return self.exe.rsplit(b"/", 1)[-1]


@dataclass(slots=True, frozen=True)
class Container:
    """The container of a process; all fields are empty for the host.

    `runtime` is docker, containerd, cri-o, podman, lxc or systemd-nspawn. `rootless_id` is an id from a
    cgroup that an unprivileged user named: a rootless container or a forgery. `id` and `runtime` are then
    empty.
    """

    id: bytes = b""
    runtime: bytes = b""
    rootless_id: bytes = b""


HOST = Container()


@dataclass(slots=True, frozen=True)
class Live:
    """What `/proc` shows of a process when its event is handled; unknown if it has exited by then.

    `tty` is the kernel's name of its terminal, such as `pts0`, and b"" without one. An unknown session is 0.
    """

    cwd: bytes = b""
    euid: int = NO_USER
    egid: int = NO_USER
    session: int = 0
    tty: bytes = b""


NOT_LIVE = Live()


@dataclass(slots=True)
class Context:
    """What rules can test in addition to the event, and the process's root directory for the output."""

    process: Process = field(default_factory=Process)
    container: Container = HOST
    root: bytes = b""
    live: Live = NOT_LIVE


UNKNOWN_PROCESS = Process()
NOTHING = Context(UNKNOWN_PROCESS)
