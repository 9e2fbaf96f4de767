"""What evaluation reads beside the event: shapes, not classes, so that rules know nothing of who fills them.

Texts are bytes, as the kernel and the files gave them. `agent.context.types` has the classes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Process(Protocol):
    """One process at the time of an event.

    `ancestors` nearest first, `args` with the program's name in front.
    """

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def ppid(self) -> int: ...  # noqa: D102
    @property
    def tid(self) -> int: ...  # noqa: D102
    @property
    def comm(self) -> bytes: ...  # noqa: D102
    @property
    def exe(self) -> bytes: ...  # noqa: D102
    @property
    def args(self) -> tuple[bytes, ...]: ...  # noqa: D102
    @property
    def uid(self) -> int: ...  # noqa: D102
    @property
    def gid(self) -> int: ...  # noqa: D102
    @property
    def auid(self) -> int: ...  # noqa: D102
    @property
    def user(self) -> bytes: ...  # noqa: D102
    @property
    def group(self) -> bytes: ...  # noqa: D102
    @property
    def ancestors(self) -> tuple[Process, ...]: ...  # noqa: D102


class Container(Protocol):
    """A container; `id` is empty on the host."""

    @property
    def id(self) -> bytes: ...  # noqa: D102
    @property
    def runtime(self) -> bytes: ...  # noqa: D102


class Context(Protocol):
    """What is known about who did it."""

    @property
    def process(self) -> Process: ...  # noqa: D102
    @property
    def container(self) -> Container: ...  # noqa: D102


class NoProcess(NamedTuple):
    """A process of which nothing is known; its users are no one's, so that no rule takes it for root."""

    pid: int = 0
    ppid: int = 0
    tid: int = 0
    comm: bytes = b""
    exe: bytes = b""
    args: tuple[bytes, ...] = ()
    uid: int = 0xFFFFFFFF
    gid: int = 0xFFFFFFFF
    auid: int = 0xFFFFFFFF
    user: bytes = b""
    group: bytes = b""
    ancestors: tuple[Process, ...] = ()


class NoContainer(NamedTuple):
    """The host."""

    id: bytes = b""
    runtime: bytes = b""


class NoContext(NamedTuple):
    """Nothing known."""

    process: Process = NoProcess()
    container: Container = NoContainer()


NOTHING = NoContext()
