"""Running other programs: a failure is one line, and a command that can be pasted."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host.signals import left_to_main


class ProgramError(InfrastructureError):
    """A program ended with a status other than 0; `stderr` is all that it said."""

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
    """Runs a program to its end and returns its standard output as text.

    `package` names the Debian package that has the program, for the hint if it is not there. `environment` is
    added to ours; the locale is C, so that what programs say can be read by a program. `inherit` are file
    descriptors that the program gets under the same numbers, each with the word that tells it which; the line
    to paste is without them. Raises ProgramError, or InfrastructureError if the program cannot be started.
    """
    words = [str(word) for word in argv]
    # depmod and others lie where a plain user's PATH does not lead.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    settings = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **(environment or {})}
    try:
        done = subprocess.run(
            [*words, *(inherit or {}).values()],
            capture_output=True,
            env=settings,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            pass_fds=tuple(inherit or ()),
            check=False,
        )
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"{words[0]} is not installed", hint=f"install the package {package}" if package else ""
        ) from error
    if done.returncode != 0:
        raise _failure(words, done.returncode, done.stderr.decode(errors="replace"), environment or {})
    return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def line_reader(heard: Callable[[str], None]) -> Iterator[int]:
    """A file descriptor to inherit: `heard` gets each line that is written to it, in a thread.

    All lines were heard when the block ends.
    """
    read_end, write_end = os.pipe()

    def read() -> None:
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                heard(line.rstrip("\n"))

    thread = threading.Thread(target=read, name="line-reader", daemon=True)
    with left_to_main():
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
        f"{Path(words[0]).name} {ended}: {_telling(stderr)}",
        hint=f"to see all of it: {line}",
        status=status,
        stderr=stderr,
    )


def _telling(stderr: str) -> str:
    """The line that most likely says why: Debian's tools mark errors with E:, others put them last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("E: ")]
    return (marked or lines or ["it said nothing"])[0 if marked else -1]
