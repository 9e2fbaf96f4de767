"""A machine's life: its states, what may follow what, and how a death is told.

    DEFINED --start--> BOOTING --a command ran--> READY
       |                  |                         |
       +------------------+----- any cause ---------+--> DEAD

`judge` decides from what the hypervisor said and what the console shows. It is a function of both, so that a
recorded console with an event is a test of it.
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
    """Where a machine is in its life."""

    DEFINED = "defined"
    BOOTING = "booting"
    READY = "ready"
    DEAD = "dead"


FOLLOWS = {
    State.DEFINED: {State.BOOTING, State.DEAD},
    State.BOOTING: {State.READY, State.DEAD},
    State.READY: {State.DEAD},
    State.DEAD: set[State](),
}


class Death(enum.Enum):
    """Why a machine ended. `blames_guest` separates what runs in it from trouble of the harness."""

    PANIC = "panic"
    INIT = "init"
    POWERED_OFF = "powered off"
    FLOOD = "console flood"
    BOOT_TIMEOUT = "boot timeout"
    QEMU = "qemu"
    SSH = "ssh"
    DESTROYED = "destroyed"

    @property
    def blames_guest(self) -> bool:
        """Whether kernel or guest are at fault, not the harness's own machinery."""
        return self in (
            Death.PANIC,
            Death.INIT,
            Death.POWERED_OFF,
            Death.FLOOD,
            Death.BOOT_TIMEOUT,
        )


@dataclass(frozen=True)
class DeathCause:
    """Why a machine ended: `detail` is one line, `console` the lines that show it.

    `trouble` names what the kernel complained of first (an oops that became a panic is an oops), if it did.
    """

    kind: Death
    detail: str
    console: tuple[bytes, ...] = ()
    trouble: Trouble | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}"


class MachineDiedError(InfrastructureError):
    """The machine is dead; `cause` tells of what."""

    def __init__(self, cause: DeathCause) -> None:
        super().__init__(str(cause))
        self.cause = cause


def judge(event: LifeEvent | None, console: ConsoleLog, *, settled: bool) -> DeathCause | None:
    """The cause of death, or None while the machine lives.

    `settled`: the console has been quiet for long enough to hold the whole trace of a panic.
    """
    if event is LifeEvent.DESTROYED:
        return DeathCause(Death.DESTROYED, "the harness destroyed it", console.tail())
    if console.fatal and (event or settled or console.panic_ended):
        return _crash(console)
    if event is None:
        return None
    return _ended(event, console)


def _crash(console: ConsoleLog) -> DeathCause:
    fatal = console.fatal
    assert fatal
    # The first trouble of the same crash says more than the panic it became.
    first = next(sighting for sighting in console.sightings if _leads_to(sighting.number, fatal.number))
    lines = console.around(first)
    detail = _text(fatal.line) if first is fatal else _crash_in_words(first, fatal, lines)
    return DeathCause(Death.PANIC, detail, lines, first.trouble)


def _crash_in_words(first: Sighting, fatal: Sighting, lines: Sequence[bytes]) -> str:
    """What happened first, the instruction it happened at, and the panic that it became."""
    after = lines[lines.index(first.line) :]
    instruction = next((match[0] for line in after if (match := _INSTRUCTION.search(line))), b"")
    return "; ".join(_text(part) for part in (first.line, instruction, fatal.line) if part)


def _leads_to(number: int, fatal: int) -> bool:
    return fatal - 200 <= number <= fatal


def _ended(event: LifeEvent, console: ConsoleLog) -> DeathCause:
    tail = console.tail()
    if event is LifeEvent.PANICKED:
        return DeathCause(Death.PANIC, "the kernel panicked and printed nothing", tail, Trouble.PANIC)
    if console.init_failure:
        return DeathCause(Death.INIT, _text(console.init_failure), tail)
    if event is LifeEvent.SHUT_DOWN:
        return DeathCause(Death.POWERED_OFF, _after("the guest powered off", console), tail)
    what = LifeEvent.STOPPED.value if event is LifeEvent.STOPPED else "QEMU ended"
    return DeathCause(Death.QEMU, _after(what, console), tail)


def flooded(console: ConsoleLog) -> DeathCause:
    """The cause when a guest printed more than a console may hold; a panic before that says more."""
    if console.fatal:
        return _crash(console)
    what = f"the guest printed more than {MAX_BYTES >> 20} MiB on its console and was ended"
    return DeathCause(Death.FLOOD, _after(what, console), console.tail())


def boot_timeout(seconds: float, console: ConsoleLog) -> DeathCause:
    """The cause when a boot did not end in time."""
    stage = console.stage.name.lower()
    detail = _after(f"not ready after {seconds:.0f} s, came as far as {stage}", console)
    return DeathCause(Death.BOOT_TIMEOUT, detail, console.tail())


def _after(what: str, console: ConsoleLog) -> str:
    last = console.last_line
    return f"{what}; last line: {_text(last)}" if last else f"{what}; the console is empty"


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").strip()
