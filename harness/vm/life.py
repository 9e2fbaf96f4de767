"""Defines the states of a machine, and finds the cause when a machine ends.

    DEFINED --start--> BOOTING --a command ran--> READY
       |                  ^--- the guest reboots ---|
       |                  |                         |
       +------------------+----- any cause ---------+--> DEAD

`judge` is a function of the hypervisor's event and of the console alone, so that recorded consoles can
test it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.console.signatures import Trouble
from harness.errors import InfrastructureError
from harness.vm.console import MAX_BYTES, ConsoleLog, Sighting
from harness.vm.hypervisor import LifeEvent

# Where a kernel oopsed, on amd64 and arm64.
_INSTRUCTION = re.compile(rb"(?:RIP: \d{4}:|pc : )[\w.]+\+0x[0-9a-f]+")


class State(enum.Enum):
    """The state of a machine."""

    DEFINED = "defined"
    BOOTING = "booting"
    READY = "ready"
    DEAD = "dead"


FOLLOWS = {
    State.DEFINED: {State.BOOTING, State.DEAD},
    State.BOOTING: {State.READY, State.DEAD},
    State.READY: {State.BOOTING, State.DEAD},
    State.DEAD: set[State](),
}


class DeathCause(enum.Enum):
    """What ended a machine."""

    PANIC = "panic"
    INIT = "init"
    POWERED_OFF = "powered off"
    FLOOD = "console flood"
    BOOT_TIMEOUT = "boot timeout"
    QEMU = "qemu"
    SSH = "ssh"
    DESTROYED = "destroyed"


_BY_THE_GUEST = frozenset(
    {
        DeathCause.PANIC,
        DeathCause.INIT,
        DeathCause.POWERED_OFF,
        DeathCause.FLOOD,
        DeathCause.BOOT_TIMEOUT,
    }
)


@dataclass(frozen=True)
class Death:
    """The end of a machine: `detail` is one line, `console` the lines that show the cause.

    `trouble` is the first trouble that the kernel printed: an oops that became a panic is an oops.
    """

    cause: DeathCause
    detail: str
    console: tuple[bytes, ...] = ()
    trouble: Trouble | None = None

    @property
    def blames_guest(self) -> bool:
        """Whether the kernel or the guest ended the machine, and not the host around it."""
        return self.cause in _BY_THE_GUEST

    def __str__(self) -> str:
        return f"{self.cause.value}: {self.detail}"


class MachineDiedError(InfrastructureError):
    """The machine is dead; `death` holds the cause."""

    def __init__(self, death: Death) -> None:
        super().__init__(str(death))
        self.death = death


def judge(event: LifeEvent | None, console: ConsoleLog, *, settled: bool) -> Death | None:
    """Return the death of the machine, or None while it lives.

    `settled` is whether the console has been quiet for long enough to hold the whole trace of a panic.
    """
    if event is LifeEvent.DESTROYED:
        return Death(DeathCause.DESTROYED, "the harness destroyed it", console.tail())
    if console.fatal and (event or settled or console.panic_ended):
        return _crash(console)
    if event is None:
        return None
    return _ended(event, console)


def _crash(console: ConsoleLog) -> Death:
    fatal = console.fatal
    assert fatal
    # The first trouble of a crash is more specific than the panic that follows it.
    first = next(sighting for sighting in console.sightings if _leads_to(sighting.number, fatal.number))
    lines = console.around(first)
    detail = _text(fatal.line) if first is fatal else _crash_in_words(first, fatal, lines)
    return Death(DeathCause.PANIC, detail, lines, first.trouble)


def _crash_in_words(first: Sighting, fatal: Sighting, lines: Sequence[bytes]) -> str:
    """Return the first trouble, the instruction that caused it, and the panic that followed."""
    after = lines[lines.index(first.line) :]
    instruction = next((match[0] for line in after if (match := _INSTRUCTION.search(line))), b"")
    return "; ".join(_text(part) for part in (first.line, instruction, fatal.line) if part)


def _leads_to(number: int, fatal: int) -> bool:
    return fatal - 200 <= number <= fatal


def _ended(event: LifeEvent, console: ConsoleLog) -> Death:
    tail = console.tail()
    if event is LifeEvent.PANICKED:
        return Death(DeathCause.PANIC, "the kernel panicked and printed nothing", tail, Trouble.PANIC)
    if console.init_failure:
        return Death(DeathCause.INIT, _text(console.init_failure), tail)
    if event is LifeEvent.SHUT_DOWN:
        return Death(DeathCause.POWERED_OFF, _after("the guest powered off", console), tail)
    what = LifeEvent.STOPPED.value if event is LifeEvent.STOPPED else "QEMU ended"
    return Death(DeathCause.QEMU, _after(what, console), tail)


def flooded(console: ConsoleLog) -> Death:
    """Return the death of a guest that printed more than a console may hold, a panic if it had one before."""
    if console.fatal:
        return _crash(console)
    what = f"the guest printed more than {MAX_BYTES >> 20} MiB on its console and was ended"
    return Death(DeathCause.FLOOD, _after(what, console), console.tail())


def boot_timeout(seconds: float, console: ConsoleLog) -> Death:
    """Return the death of a guest that was not ready in time."""
    stage = console.stage.name.lower()
    detail = _after(f"not ready after {seconds:.0f} s, reached stage {stage}", console)
    return Death(DeathCause.BOOT_TIMEOUT, detail, console.tail())


def _after(what: str, console: ConsoleLog) -> str:
    last = console.last_line
    return f"{what}; last line: {_text(last)}" if last else f"{what}; the console is empty"


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").strip()
