"""Changes files: the same calls each time, in the same order. Runs in a guest, below `/w/churn`.

What is random comes from a seed. Most calls go to a few busy directories. Now and then files are only read,
twice: discarders are learned, and once the agent has read all events, which a line on stdin reports, they are
used; then renames, links and moves put them to the test. Prints how many calls were made and how many were
refused.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random

BASE = "/w/churn"
SPELL, READS = 1500, 60
NAMES = ("plain", "secret", "passwd", "a.conf", "b.log", "c.tmp")
FOLDERS = ("etc", "etc/app", "srv", "srv/deep/er", "var/log", "noise", "noise/one", "noise/two/three")


def path(choose: Random) -> str:
    return f"{BASE}/{choose.choice(FOLDERS)}/{choose.choice(NAMES)}"


def touch(choose: Random) -> None:
    os.close(
        os.open(path(choose), choose.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)) | choose.choice(FLAGS))
    )


def move_folder(choose: Random) -> None:
    """Move a file away and back, and access it in between."""
    one, other = choose.sample(("noise/one", "noise/two", "etc/app", "srv/deep"), 2)
    aside = f"{BASE}/{other}/moved"
    os.rename(f"{BASE}/{one}", aside)
    try:
        touch(choose)
        os.close(os.open(f"{aside}/secret", os.O_WRONLY | os.O_CREAT))
    finally:
        os.rename(aside, f"{BASE}/{one}")


FLAGS = (0, os.O_CREAT, os.O_CREAT, os.O_TRUNC, os.O_CREAT | os.O_EXCL)
CALLS: tuple[Callable[[Random], object], ...] = (
    *(touch,) * 12,
    move_folder,
    lambda choose: os.rename(path(choose), path(choose)),
    lambda choose: os.link(path(choose), path(choose)),
    lambda choose: os.symlink(path(choose), path(choose)),
    lambda choose: os.unlink(path(choose)),
    lambda choose: os.unlink(path(choose)),
    lambda choose: os.chmod(path(choose), choose.choice((0o644, 0o4755, 0o600))),
    lambda choose: os.chown(path(choose), choose.choice((0, 12)), 0),
    lambda choose: os.utime(path(choose), (1, 2)),
    lambda choose: os.truncate(path(choose), 3),
    lambda choose: os.mkdir(path(choose)),
    lambda choose: os.rmdir(path(choose)),
    lambda choose: os.mknod(path(choose), 0o100600),
    lambda choose: os.setxattr(path(choose), "trusted.x", b"1"),
    lambda choose: os.removexattr(path(choose), "trusted.x"),
)


def read(choose: Random) -> None:
    """Make many events that few rules match, and wait until the agent has read them."""
    files = [path(choose) for _ in range(READS)]
    for file in files:
        with suppress(OSError):
            os.close(os.open(file, os.O_RDONLY))
    sys.stdout.write("read\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for file in files:
        with suppress(OSError):
            os.close(os.open(file, os.O_RDONLY))


def churn(seed: int, calls: int) -> int:
    choose = Random(seed)
    refused = 0
    for number in range(calls):
        if number % SPELL == SPELL // 2:
            read(choose)
        call = choose.choice(CALLS)
        try:
            call(choose)
        except OSError:
            refused += 1
    return refused


if __name__ == "__main__":
    calls, users = int(sys.argv[1]), (0, 1000)
    refused = 0
    for folder in FOLDERS:
        os.makedirs(f"{BASE}/{folder}")
    os.chmod(f"{BASE}/noise", 0o777)
    for user in users:
        os.setresuid(user, user, 0)
        refused += churn(user, calls // len(users))
        os.setresuid(0, 0, 0)
    sys.stdout.write(f"{calls} {refused}\n")
