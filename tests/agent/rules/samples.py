"""Events and contexts for the tests of rules."""

from __future__ import annotations

from agent.events.actors import Container, Context, Process
from agent.events.model import Event, EventType, File, FileFlags
from agent.rules.engine import Ruleset
from agent.rules.load import link

SHELL = Process(
    pid=7, ppid=1, tid=7, comm=b"sh", exe=b"/usr/bin/dash", args=(b"sh", b"-c", b"ls"), user=b"root"
)
INIT = Process(pid=1, comm=b"systemd", exe=b"/usr/lib/systemd/systemd", args=(b"/sbin/init",), uid=0)
LS = Process(
    pid=42,
    ppid=7,
    tid=43,
    comm=b"ls",
    exe=b"/usr/bin/ls",
    args=(b"ls", b"-ln", b"--sort=size", b"-T", b"8", b"--all", b"/tmp"),
    uid=1000,
    user=b"anna",
    group=b"users",
    ancestors=(SHELL, INIT),
)
CONTEXT = Context(process=LS, container=Container(b"c0ffee", b"podman"))


def opened(path: bytes = b"/etc/passwd", flags: int = 0, **other: object) -> Event:
    """An open by the process `LS`."""
    file = File(path=path, inode=5, mode=0o100644, nlink=1, flags=FileFlags.LOWER)
    event = Event(
        EventType.OPEN, pid=42, tid=43, ppid=7, uid=1000, auid=1000, comm=b"ls", flags=flags, file=file
    )
    for name, value in other.items():
        setattr(event, name, value)
    return event


def ruleset(*expressions: str, head: str = "") -> Ruleset:
    """A rule set; the rules are called r0, r1 and so on. No expression holds a single quote."""
    entries = "".join(f"  - id: r{at}\n    expression: '{text}'\n" for at, text in enumerate(expressions))
    return link([("rules.yaml", f"{head}rules:\n{entries}".encode())])


def holds(expression: str, event: Event, context: Context = CONTEXT) -> bool:
    """Whether one expression matches."""
    return ruleset(expression).evaluate(event, context) == ["r0"]
