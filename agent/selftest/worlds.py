"""The worlds in which scenarios can run: file systems, a user namespace, a hostile neighbour.

A world changes where the generator works or what works beside it, and nothing of the agent.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import UsageError
from agent.selftest import filesystems
from agent.selftest.evidence import CannotTellError

_NOBODY = "65534"
# Reports that it runs; then opens, forks, executes and is refused, as fast as it can.
_HOSTILE = "echo; while :; do : < /etc/passwd; mkdir /tmp; cat /etc/shadow; done 2> /dev/null > /dev/null"


class World(NamedTuple):
    """Where scenarios create their folders, and the words before the command of the generator.

    `ended` returns why the world is no longer what it was, "" while it is.
    """

    where: Path
    prefix: tuple[str, ...] = ()
    ended: Callable[[], str] = str


def _on_disk(base: Path, kind: str, stack: ExitStack) -> World:
    top = base / kind
    top.mkdir()
    stack.callback(top.rmdir)
    stack.enter_context(filesystems.on_image(top, kind))
    top.chmod(0o755)
    return World(top)


def _btrfs(base: Path, stack: ExitStack) -> World:
    """A subvolume beside another one that has the same inode numbers."""
    top = _on_disk(base, "btrfs", stack).where
    for name in ("twin", "subvolume"):
        filesystems.subvolume(top / name)
    return World(top / "subvolume")


def _xfs(base: Path, stack: ExitStack) -> World:
    return _on_disk(base, "xfs", stack)


def _vfat(base: Path, stack: ExitStack) -> World:
    """A file system without owners, modes and stable inode numbers, where names have several spellings."""
    return _on_disk(base, "vfat", stack)


def _overlay(base: Path, stack: ExitStack) -> World:
    """An overlay whose layers lie on one tmpfs, with inode numbers that are those of the layers."""
    top = base / "layers"
    top.mkdir()
    stack.callback(top.rmdir)
    _mount(stack, top, "-t", "tmpfs", "world", str(top))
    lower, upper, work, merged = (top / name for name in ("lower", "upper", "work", "merged"))
    for folder in (lower, upper, work, merged):
        folder.mkdir(mode=0o755)
    options = f"lowerdir={lower},upperdir={upper},workdir={work},xino=off"
    _mount(stack, merged, "-t", "overlay", "-o", options, "world", str(merged))
    return World(merged)


def _mount(stack: ExitStack, target: Path, *words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotTellError(done.stderr.strip() or f"cannot mount {target}")
    stack.callback(lambda: subprocess.run(["umount", "-l", target], check=True))


def _user_namespace(base: Path, _stack: ExitStack) -> World:
    return World(base, ("unshare", "--user", "--map-root-user"))


def _neighbour(base: Path, stack: ExitStack) -> World:
    # It ends with this process: a later cell on the machine must not have it.
    words = ["setpriv", "--reuid", _NOBODY, "--clear-groups", "--pdeathsig", "KILL", "sh", "-c", _HOSTILE]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    stack.enter_context(process)
    stack.callback(process.kill)
    assert process.stdout
    if not process.stdout.readline():
        raise CannotTellError(f"the neighbour ended with status {process.wait()}")

    def ended() -> str:
        return "" if process.poll() is None else f"the neighbour ended with status {process.returncode}"

    return World(base, ended=ended)


WORLDS: dict[str, Callable[[Path, ExitStack], World]] = {
    "btrfs": _btrfs,
    "xfs": _xfs,
    "vfat": _vfat,
    "overlay": _overlay,
    "user_namespace": _user_namespace,
    "neighbour": _neighbour,
}


@contextmanager
def entered(name: str, base: Path) -> Iterator[World]:
    """Enter a world below a folder; leave it at the end. `""` is the folder itself.

    Raises UsageError for an unknown world, and for one that this host cannot make.
    """
    if name and name not in WORLDS:
        raise UsageError(f"unknown world {name!r}", hint=f"use one of {', '.join(WORLDS)}")
    with ExitStack() as stack:
        if name:
            base = base / f"fim-world-{name}"
            base.mkdir(mode=0o755)
            stack.callback(base.rmdir)
        try:
            yield WORLDS[name](base, stack) if name else World(base)
        except CannotTellError as error:
            raise UsageError(
                f"world {name}: {error}", hint="run the self-tests without this world"
            ) from error
