"""File systems for scenarios, made where nobody watches, and gone at the end."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from agent.selftest.evidence import CannotTellError
from agent.selftest.workload import Outcome, WorkloadError, quote

# Not much more than the least that each takes. An xfs below 300 MiB has to be asked for, and is quickly made.
# An ext4 without a journal gives no inode away again for a minute: fs/ext4/ialloc.c, recently_deleted().
IMAGE_BYTES = {"ext4": 8 << 20, "xfs": 32 << 20, "btrfs": 128 << 20}
_SUBVOL_CREATE = 0x5000940E  # BTRFS_IOC_SUBVOL_CREATE
_OPTIONS = {"ext4": ("-q",), "xfs": ("-q", "--unsupported"), "btrfs": ("-q",)}


@contextmanager
def mounted(place: Path, kind: str, options: str, play: Callable[[str], Outcome]) -> Iterator[str]:
    """A file system of that kind at a new directory; `play` runs a script, which is quicker than programs.

    Raises CannotTellError with what this host says where it cannot be had.
    """
    place.mkdir()
    with _on_image(place, kind) if kind in IMAGE_BYTES else _plain(place, kind, options, play):
        yield str(place)


@contextmanager
def _plain(place: Path, kind: str, options: str, play: Callable[[str], Outcome]) -> Iterator[None]:
    where, data = quote(bytes(place)), quote(options.encode()) if options else ""
    made = play(f"mount {kind} {where} {kind} 0 {data}\n")
    if made.failures:
        raise CannotTellError(f"no {kind} here: {dict(made.failures)}")
    try:
        yield
    finally:
        try:
            play(f"umount {where} MNT_DETACH\n")
        except WorkloadError:  # which is what the scenario ends in; nothing is to stay behind for it
            subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def _on_image(place: Path, kind: str) -> Iterator[None]:
    """On a loop device, which the mount command knows how to get."""
    image = place.with_name(f"{place.name}.image")
    try:
        _make(image, kind)
        if not Path("/dev/loop-control").exists():  # mount finds no device to ask for else
            subprocess.run(["modprobe", "-q", "loop"], check=False)
        _run(kind, "mount", "-t", kind, "-o", "loop", str(image), str(place))
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    finally:
        with suppress(FileNotFoundError):
            image.unlink()


def subvolume(place: Path) -> None:
    """Create a btrfs subvolume, as `btrfs subvolume create` does."""
    parent = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(parent, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, os.fsencode(place.name))))
    finally:
        os.close(parent)


def _make(image: Path, kind: str) -> None:
    with image.open("xb") as file:
        file.truncate(IMAGE_BYTES[kind])
    _run(kind, f"mkfs.{kind}", *_OPTIONS[kind], str(image))


def _run(kind: str, *words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotTellError(f"no {kind} here: there is no {words[0]}") from error
    if done.returncode:
        raise CannotTellError(f"no {kind} here: {done.stderr.strip() or words[0]}")


CONTAINER_ID = "5eed" * 16
UNIFIED = Path("/sys/fs/cgroup")


class Container(NamedTuple):
    """A control group that is named as a container runtime names its own; scripts `enter` and `leave` it."""

    id: str
    enter: str
    leave: str


def _move(group: Path) -> str:
    return f"open {group}/cgroup.procs O_WRONLY -> $9\nwrite $9 0\nclose $9\n"


@contextmanager
def container(folder: Path, hierarchy: Path = UNIFIED) -> Iterator[Container]:
    """A container-like group in a hierarchy; whoever entered it must have ended by the end.

    Raises CannotTellError with what this host says where it cannot be had.
    """
    name = f"{folder.name}/docker/{CONTAINER_ID}"
    root = hierarchy / "unified" if (hierarchy / "unified").is_dir() else hierarchy
    group = root / name
    try:
        group.mkdir(parents=True)
    except OSError as error:
        raise CannotTellError(f"no control group here: {error}") from error
    try:
        yield Container(CONTAINER_ID, _move(group), _move(root))
    finally:
        for place in (group, *group.parents[:2]):
            place.rmdir()
