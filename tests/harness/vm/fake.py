"""A hypervisor without QEMU, for tests: the test decides what its domains print and how they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import unescape

from harness.vm.hypervisor import LifeEvent, Vitality

Play = Callable[["FakeDomain"], None]

_CONSOLE = re.compile(r'<source path="([^"]+)" append="(?:on|off)"/>')


class FakeDomain:
    """A `hypervisor.Domain`; `say` prints on its console, `end` ends it."""

    def __init__(self, name: str, xml: str, on_event: Callable[[LifeEvent], None]) -> None:
        self.name = name
        self.xml = xml
        self.active = True
        self.shows = Vitality.RUNNING
        self._on_event = on_event
        match = _CONSOLE.search(xml)
        assert match, "a domain without a console"
        self._console = Path(unescape(match[1], {"&#34;": '"', "&#39;": "'"}))

    def say(self, *lines: str) -> None:
        """Print lines on the console."""
        with self._console.open("a") as console:
            console.writelines(f"{line}\n" for line in lines)

    def end(self, event: LifeEvent) -> None:
        """End the domain with an event."""
        if self.active:
            self.active = False
            self._on_event(event)

    def destroy(self) -> None:
        """End the domain."""
        self.end(LifeEvent.DESTROYED)

    def limit_files(self, size: int) -> None:
        """Do nothing."""

    def is_active(self) -> bool:
        """Whether the domain has not ended."""
        return self.active

    def vitality(self) -> Vitality:
        """Return the state that the test set, GONE after the end."""
        return self.shows if self.active else Vitality.GONE

    def save(self, memory: Path) -> None:
        """Write the name of the domain."""
        memory.write_text(self.name)


class FakeHypervisor:
    """A `hypervisor.Hypervisor` that passes each domain that it starts to `play`.

    `directory` is for private files.
    """

    def __init__(self, directory: Path, play: Play) -> None:
        self.domains: list[FakeDomain] = []
        self.spared: list[str] = []
        self.restored: list[str] = []
        self._directory = directory
        self._play = play

    @property
    def token(self) -> str:
        """A token in the format of real ones."""
        return "fim-0000000000"

    @property
    def qemu_user(self) -> str:
        """The default user."""
        return ""

    def spare(self, name: str) -> None:
        """Record the domain."""
        self.spared.append(name)

    def private_dir(self, name: str) -> Path:
        """Make a directory."""
        path = self._directory / f"private-{name}"
        path.mkdir()
        return path

    def start(self, name: str, xml: str, on_event: Callable[[LifeEvent], None]) -> FakeDomain:
        """Start a domain and pass it to `play`; a StartError of `play` passes through."""
        domain = FakeDomain(name, xml, on_event)
        self.domains.append(domain)
        self._play(domain)
        return domain

    def restore(self, name: str, xml: str, memory: Path, on_event: Callable[[LifeEvent], None]) -> FakeDomain:
        """Start a domain, and record the content of its saved memory."""
        self.restored.append(memory.read_text())
        return self.start(name, xml, on_event)

    @property
    def identity(self) -> str:
        """An identity that no real software has."""
        return "fake"
