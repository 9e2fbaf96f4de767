"""Remove what runs left: machines of dead runs, and cached kernels, images and package indexes."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from pathlib import Path

from harness.commands.booted import say

DAY_S = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--machines", action="store_true", help="only machines, also those that were kept")
    parser.add_argument("--keep", type=int, default=0, metavar="MIB", help="keep so much of the cache")
    parser.add_argument(
        "--older-than", type=float, default=0.0, metavar="DAYS", help="keep what was used since"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Reap, then shrink the cache; without a bound nothing stays that no running process uses."""
    from harness.host.cache import Cache
    from harness.lab.lab import VmBench
    from harness.vm import ownership

    for line in VmBench().reap(also_kept=True):
        say(f"reaped what a dead run left: {line}")
    if arguments.machines:
        return 0
    store = Cache()
    freed = store.clean(keep_bytes=arguments.keep << 20, older_than_s=arguments.older_than * DAY_S)
    if not (arguments.keep or arguments.older_than):
        if running := [path.name for path in ownership.living()]:
            say(f"a run goes on ({', '.join(running)}): what it may use of the cache stays")
        else:
            freed += forget(store.root)
    say(f"freed {freed >> 20} MiB")
    return 0


def forget(root: Path) -> int:
    """Removes what was learnt of repositories and of this host, all of which is asked again; bytes freed."""
    freed = sum(_without(path) for path in root.glob("apt/*/*") if path.is_dir())
    for name in ("acceleration", "libvirt"):
        freed += _size(root / name)
        shutil.rmtree(root / name, ignore_errors=True)
    folders = (
        path for path in root.glob("*/**/") if path != root and "run" not in path.relative_to(root).parts
    )
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
    return freed


def _without(index: Path) -> int:
    """Removes one suite's indexes unless they are being asked; returns the bytes freed."""
    from harness.host import locks

    lock = index.with_name(f"{index.name}.lock")
    with locks.locked(lock, wait=False) as free:
        if not free:
            return 0
        size = _size(index)
        shutil.rmtree(index)
        lock.unlink()
        return size


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
