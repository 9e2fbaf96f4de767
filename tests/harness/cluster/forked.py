"""A program that forks as that of a worker, and whose children behave badly."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

from harness.cluster import forking


def _leave_a_program() -> None:
    """End while another program holds the standard output."""
    program = subprocess.Popen(["sleep", "600"])
    os.write(1, b"%d\n" % program.pid)


def _close_and_hang() -> None:
    os.close(1)
    time.sleep(600)


def _fill() -> None:
    """When it is not wanted any more, write more than a pipe holds before the end."""
    while os.read(0, 1):
        pass
    left = 1 << 20
    while left > 0:
        left -= os.write(1, b"x" * 65_536)


def _descriptors() -> None:
    names = [path.name for path in Path("/proc/self/fd").iterdir()]
    os.write(1, " ".join(sorted(names, key=int)).encode() + b"\n")


ACTS = {"leave": _leave_a_program, "hang": _close_and_hang, "fill": _fill, "descriptors": _descriptors}


def _limit(most: int) -> None:
    """Let only so many forks succeed, as a limit of processes does."""
    fork, left = os.fork, [most]

    def limited() -> int:
        if not left[0]:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        left[0] -= 1
        return fork()

    os.fork = limited


def main() -> int:
    if most := os.environ.get("FORKED_MOST"):
        _limit(int(most))
    words = forking.serve(0)
    if words is not None:
        ACTS[words[0]]()
        os._exit(7)
    return 0


if __name__ == "__main__":
    sys.exit(main())
