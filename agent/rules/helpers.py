"""Functions that the sources in the table of fields call."""

from __future__ import annotations

from collections.abc import Sequence

from agent.events.actors import NOBODY, Context, Process
from agent.events.model import File

NO_FILE = File()


def parent(context: Context) -> Process:
    """The process that started this one, as far as it is known."""
    ancestors = context.process.ancestors
    return ancestors[0] if ancestors else NOBODY


def extension(name: bytes) -> bytes:
    """From the last dot of a base name on: `.so` of `a.so`, nothing for `.profile`."""
    stem, dot, rest = name.rpartition(b".")
    return dot + rest if stem else b""


def exit_number(status: int) -> int:
    """Exit status of a process, or the signal that ended it, from the kernel's word."""
    return status & 0x7F or status >> 8 & 0xFF


def exit_cause(status: int) -> int:
    """0 for an exit, 1 for a core dump, 2 for a signal, from the kernel's word."""
    if not status & 0x7F:
        return 0
    return 1 if status & 0x80 else 2


def args_flags(args: Sequence[bytes]) -> list[bytes]:
    """Options that take no value: single letters of `-ln`, and `version` of `--version`."""
    found: list[bytes] = []
    for arg in args[1:]:
        if arg.startswith(b"--"):
            found += [arg[2:]] if len(arg) > 2 and b"=" not in arg else []
        elif arg.startswith(b"-") and b"=" not in arg:
            found += [arg[1:]] if len(arg) > 2 else []
            found += [arg[at : at + 1] for at in range(1, len(arg)) if arg[at : at + 1].isalpha()]
    return found


def args_options(args: Sequence[bytes]) -> list[bytes]:
    """Options with their value, as `name=value`: from `--name=value`, `--name value` and `-n value`."""
    found: list[bytes] = []
    for arg, following in zip(args[1:], [*args[2:], b"-"], strict=False):
        name = arg.lstrip(b"-")
        if not arg.startswith(b"-") or not name:
            continue
        if b"=" in name:
            found.append(name)
        elif not following.startswith(b"-"):
            found.append(name + b"=" + following)
    return found
