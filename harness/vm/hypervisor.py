"""The protocol of a hypervisor; `connection` implements it with libvirt."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.errors import InfrastructureError


class LifeEvent(enum.Enum):
    """An event that ends a domain."""

    PANICKED = "the guest's kernel panicked"
    SHUT_DOWN = "the guest powered off"
    FAILED = "QEMU ended by itself"
    STOPPED = "QEMU was stopped by a signal"
    DESTROYED = "the harness destroyed it"


class Vitality(enum.Enum):
    """The state of a QEMU process, from /proc."""

    RUNNING = "running"
    STOPPED = "stopped by a signal"
    GONE = "gone"


class StartError(InfrastructureError):
    """A domain did not start; `message` is the hypervisor's error."""


class PortTakenError(StartError):
    """All ports that were tried are taken; the machine itself is not at fault."""


class Domain(Protocol):
    """A domain that was started."""

    def destroy(self) -> None:
        """End the domain at once; does nothing if it has ended."""

    def is_active(self) -> bool:
        """Whether the domain runs."""

    def limit_files(self, size: int) -> None:
        """Limit the files that QEMU writes to `size` bytes; exceeding it ends QEMU. Only on this host."""

    def vitality(self) -> Vitality:
        """Return the state of QEMU; cheap enough for many calls a second."""

    def save(self, memory: Path) -> None:
        """Write memory and devices to a new file; the domain continues. Raises InfrastructureError."""


class Hypervisor(Protocol):
    """Starts domains and reports when they end."""

    @property
    def token(self) -> str:
        """The prefix of every domain's name, by which a reaper finds the domains."""

    @property
    def qemu_user(self) -> str:
        """The user that QEMU runs as, "+UID:+GID", or "" for the default."""

    def start(self, name: str, xml: str, on_event: Callable[[LifeEvent], None]) -> Domain:
        """Start a domain.

        `on_event` is called from another thread, at most once for each event. Raises StartError.
        """

    def restore(self, name: str, xml: str, memory: Path, on_event: Callable[[LifeEvent], None]) -> Domain:
        """Like `start`, but restore the domain from the saved memory of an equal one. Raises StartError."""

    @property
    def identity(self) -> str:
        """Identifies the software that can restore a saved domain; "" if no domain can be restored."""

    def spare(self, name: str) -> None:
        """Let a domain outlive this process. Raises InfrastructureError if it cannot."""

    def private_dir(self, name: str) -> Path:
        """Create a directory for a domain's secrets, which is removed when the hypervisor is closed."""
