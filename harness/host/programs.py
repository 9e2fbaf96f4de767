"""Runs other programs of the host; an error is one line, and its hint a command to paste."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import background
from harness.host.signals import held_back


class ProgramError(InfrastructureError):
    """A program ended with a status other than 0; `stderr` is all that it printed there."""

    def __init__(self, message: str, *, hint: str, status: int, stderr: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.stderr = stderr


def run(
    argv: Sequence[str | Path],
    *,
    package: str = "",
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    inherit: Mapping[int, str] | None = None,
) -> str:
    """Run a program to its end and return its standard output as text.

    `package` names the Debian package of the program, for the hint if it is not installed. `environment` is
    added to ours; the locale is C, so that the output can be parsed. `inherit` maps file descriptors that the
    program inherits to the argument that names each; the command to paste leaves them out. Raises
    ProgramError, or InfrastructureError if the program cannot be started.
    """
    words = [str(word) for word in argv]
    # depmod and others are in folders that the PATH of an ordinary user does not contain.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    settings = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **(environment or {})}
    try:
        with background.child(
            [*words, *(inherit or {}).values()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=settings,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            pass_fds=tuple(inherit or ()),
        ) as process:
            output, errors = process.communicate()
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"{words[0]} is not installed", hint=f"install the package {package}" if package else ""
        ) from error
    if process.returncode != 0:
        raise _failure(words, process.returncode, errors.decode(errors="replace"), environment or {})
    return str(output.decode(errors="replace"))


@contextlib.contextmanager
def line_reader(receive: Callable[[str], None]) -> Iterator[int]:
    """Yield a file descriptor to inherit; a thread calls `receive` with each line that is written to it.

    When the block ends, `receive` has been called for all lines.
    """
    read_end, write_end = os.pipe()

    def read() -> None:
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                receive(line.rstrip("\n"))

    thread = threading.Thread(target=read, name="line-reader", daemon=True)
    with held_back():
        thread.start()
    try:
        yield write_end
    finally:
        os.close(write_end)
        thread.join()


def _failure(words: list[str], status: int, stderr: str, environment: Mapping[str, str]) -> ProgramError:
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    line = " ".join([*settings, shlex.join(words)])
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return ProgramError(
        f"{Path(words[0]).name} {ended}: {_cause(stderr)}",
        hint=f"to see all of its output: {line}",
        status=status,
        stderr=stderr,
    )


def _cause(stderr: str) -> str:
    """Return the line that likely names the cause: Debian's tools begin it with E:, others print it last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("E: ")]
    return (marked or lines or ["it printed no error"])[0 if marked else -1]
