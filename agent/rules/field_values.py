"""Computes the values of fields that an event does not hold as they are."""

from __future__ import annotations

from collections.abc import Sequence

from agent.events.actors import UNKNOWN_PROCESS, Context, Process
from agent.events.model import File

NO_FILE = File()


def parent(context: Context) -> Process:
    """Return the parent process, or an empty one if it is not known."""
    ancestors = context.process.ancestors
    return ancestors[0] if ancestors else UNKNOWN_PROCESS


def extension(name: bytes) -> bytes:
    """Return the part of a base name from its last dot on: `.so` of `a.so`, b"" for `.profile`."""
    stem, dot, rest = name.rpartition(b".")
    return dot + rest if stem else b""


def exit_number(status: int) -> int:
    """Return the exit status, or the signal that ended the process, from the kernel's exit code."""
    return status & 0x7F or status >> 8 & 0xFF


def exit_cause(status: int) -> int:
    """Return 0 for an exit, 1 for a core dump, 2 for a signal, from the kernel's exit code."""
    if not status & 0x7F:
        return 0
    return 1 if status & 0x80 else 2


def args_flags(args: Sequence[bytes]) -> list[bytes]:
    """Return options without a value: the letters of `-ln`, and `version` of `--version`."""
    flags: list[bytes] = []
    for arg in args[1:]:
        if arg.startswith(b"--"):
            flags += [arg[2:]] if len(arg) > 2 and b"=" not in arg else []
        elif arg.startswith(b"-") and b"=" not in arg:
            flags += [arg[1:]] if len(arg) > 2 else []
            flags += [arg[at : at + 1] for at in range(1, len(arg)) if arg[at : at + 1].isalpha()]
    return flags


def args_options(args: Sequence[bytes]) -> list[bytes]:
    """Return options as `name=value`, from `--name=value`, `--name value` and `-n value`."""
    options: list[bytes] = []
    for arg, following in zip(args[1:], [*args[2:], b"-"], strict=False):
        name = arg.lstrip(b"-")
        if not arg.startswith(b"-") or not name:
            continue
        if b"=" in name:
            options.append(name)
        elif not following.startswith(b"-"):
            options.append(name + b"=" + following)
    return options
