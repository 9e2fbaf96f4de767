"""Creates file systems and cgroups for scenarios, without events, and removes them at the end."""

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

# Little more than the minimum of each. mkfs.xfs makes one below 300 MiB only with --unsupported, which is
# fast. An ext4 without a journal does not reuse an inode for a minute (fs/ext4/ialloc.c, recently_deleted()).
IMAGE_BYTES = {"ext4": 8 << 20, "xfs": 32 << 20, "btrfs": 128 << 20, "vfat": 16 << 20}
_SUBVOL_CREATE = 0x5000940E  # BTRFS_IOC_SUBVOL_CREATE
_FREEZE, _THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW of include/uapi/linux/fs.h
_OPTIONS = {"ext4": ("-q",), "xfs": ("-q", "--unsupported"), "btrfs": ("-q",)}
# An empty FAT16 of 16 MiB: sectors of 512 bytes, clusters of 4, two tables of 32 sectors, 512 top names. The
# guest's root has no mkfs.vfat: every root, and every saved machine, would change for this one image.
_FAT_BOOT = struct.pack(
    "<3s8sHBHBHHBHHHLLBBBL11s8s448s2s",
    b"\xeb\x3c\x90",
    b"fim",
    512,
    4,
    1,
    2,
    512,
    32768,
    0xF8,
    32,
    32,
    2,
    0,
    0,
    0x80,
    0,
    0x29,
    1,
    b"FIM        ",
    b"FAT16   ",
    b"",
    b"\x55\xaa",
)
_FAT_TABLE = b"\xf8\xff\xff\xff".ljust(32 * 512, b"\0")


@contextmanager
def mounted(target: Path, kind: str, options: str, play: Callable[[str], Outcome]) -> Iterator[str]:
    """Mount a file system of this type at a new directory, and yield its path.

    `play` runs a script of the generator, which is faster than a mount program. Raises CannotTellError, with
    the reason, on a host that cannot mount such a file system.
    """
    target.mkdir()
    with on_image(target, kind) if kind in IMAGE_BYTES else _without_image(target, kind, options, play):
        yield str(target)


@contextmanager
def _without_image(target: Path, kind: str, options: str, play: Callable[[str], Outcome]) -> Iterator[None]:
    path, data = quote(bytes(target)), quote(options.encode()) if options else ""
    outcome = play(f"mount {kind} {path} {kind} 0 {data}\n")
    if outcome.failures:
        raise CannotTellError(f"cannot mount a {kind} here: {dict(outcome.failures)}")
    try:
        yield
    finally:
        try:
            play(f"umount {path} MNT_DETACH\n")
        except WorkloadError:  # the scenario fails with it; unmount in any case
            subprocess.run(["umount", "-l", target], check=True)


@contextmanager
def on_image(target: Path, kind: str) -> Iterator[None]:
    """Mount a new file system at a directory, through a loop device. Raises CannotTellError."""
    image = target.with_name(f"{target.name}.image")
    try:
        _make(image, kind)
        if not Path("/dev/loop-control").exists():  # mount needs it to get a device
            subprocess.run(["modprobe", "-q", "loop"], check=False)
        _run(kind, "mount", "-t", kind, "-o", "loop", str(image), str(target))
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", target], check=True)
    finally:
        with suppress(FileNotFoundError):
            image.unlink()


@contextmanager
def frozen(path: str) -> Iterator[Callable[[], None]]:
    """Freeze a file system, so that all who write to it sleep until the function is called, or the end."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    waiting = [_THAW]

    def thaw() -> None:
        while waiting:
            fcntl.ioctl(top, waiting.pop(), 0)

    try:
        fcntl.ioctl(top, _FREEZE, 0)
        try:
            yield thaw
        finally:
            thaw()
    finally:
        os.close(top)


def subvolume(path: Path) -> None:
    """Create a btrfs subvolume, like `btrfs subvolume create`."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(parent, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, os.fsencode(path.name))))
    finally:
        os.close(parent)


def _make(image: Path, kind: str) -> None:
    with image.open("xb") as file:
        if kind == "vfat":
            file.write(_FAT_BOOT + 2 * _FAT_TABLE)
        file.truncate(IMAGE_BYTES[kind])
    if kind != "vfat":
        _run(kind, f"mkfs.{kind}", *_OPTIONS[kind], str(image))


def _run(kind: str, *words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotTellError(f"cannot make a {kind} here: {words[0]} is not installed") from error
    if done.returncode:
        raise CannotTellError(f"cannot make a {kind} here: {done.stderr.strip() or words[0]}")


CONTAINER_ID = "5eed" * 16
UNIFIED = Path("/sys/fs/cgroup")


class Container(NamedTuple):
    """A cgroup with a name as container runtimes use; the scripts `enter` and `leave` move a process."""

    id: str
    enter: str
    leave: str


def _move(group: Path) -> str:
    return f"open {group}/cgroup.procs O_WRONLY -> $9\nwrite $9 0\nclose $9\n"


@contextmanager
def container(folder: Path, hierarchy: Path = UNIFIED) -> Iterator[Container]:
    """Create a container's cgroup in a hierarchy. All processes that entered it must have ended at the end.

    Raises CannotTellError, with the reason, on a host that cannot create it.
    """
    name = f"{folder.name}/docker/{CONTAINER_ID}"
    root = hierarchy / "unified" if (hierarchy / "unified").is_dir() else hierarchy
    group = root / name
    try:
        group.mkdir(parents=True)
    except OSError as error:
        raise CannotTellError(f"cannot create a cgroup here: {error}") from error
    try:
        yield Container(CONTAINER_ID, _move(group), _move(root))
    finally:
        for directory in (group, *group.parents[:2]):
            directory.rmdir()
