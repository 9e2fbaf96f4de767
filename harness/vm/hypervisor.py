"""What the harness needs of a hypervisor, whoever provides it: `connection`, or `fake` for tests."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.errors import InfrastructureError


class LifeEvent(enum.Enum):
    """The end of a domain, as its hypervisor tells it."""

    PANICKED = "the guest's kernel panicked"
    SHUT_DOWN = "the guest powered off"
    FAILED = "QEMU ended by itself"
    STOPPED = "QEMU was stopped by a signal"
    DESTROYED = "the harness destroyed it"


class Vitality(enum.Enum):
    """How the emulator of a domain is, by the host's word and not by its own."""

    RUNNING = "running"
    STOPPED = "stopped by a signal"
    GONE = "gone"


class StartError(InfrastructureError):
    """A domain did not start; `message` is what the hypervisor said."""


class PortTakenError(StartError):
    """None of the ports that were tried could be had: nothing is wrong with what was to start."""


class Domain(Protocol):
    """One domain that was started."""

    def destroy(self) -> None:
        """Ends it at once; does nothing if it has ended."""

    def is_active(self) -> bool:
        """Whether it runs."""

    def limit_files(self, size: int) -> None:
        """Let the emulator write no file beyond `size` bytes, if it runs on this host: trying ends it."""

    def vitality(self) -> Vitality:
        """How its emulator is; cheap enough to be asked many times a second."""

    def save(self, memory: Path) -> None:
        """Writes its memory and devices to a new file, and lets it go on. Raises InfrastructureError."""


class Hypervisor(Protocol):
    """Starts domains and says when they end."""

    @property
    def token(self) -> str:
        """The prefix of every domain's name, by which a reaper knows it."""

    @property
    def qemu_user(self) -> str:
        """Whom QEMU is to run as, "+UID:+GID", or "" if that needs no saying."""

    def start(self, name: str, xml: str, on_event: Callable[[LifeEvent], None]) -> Domain:
        """Starts a domain.

        `on_event` is called from another thread, at most once an event. Raises StartError.
        """

    def restore(self, name: str, xml: str, memory: Path, on_event: Callable[[LifeEvent], None]) -> Domain:
        """Like `start`, but the domain goes on where one of the same shape was saved. Raises StartError."""

    @property
    def identity(self) -> str:
        """Stands for what a saved domain can be restored with; "" where none can be."""

    def spare(self, name: str) -> None:
        """Lets a domain outlive us. Raises InfrastructureError where it cannot."""

    def private_dir(self, name: str) -> Path:
        """A new directory for a domain's secrets, which is gone when the hypervisor is closed."""
