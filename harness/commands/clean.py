"""Remove machines of dead runs, and cached kernels, images and package indexes."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from pathlib import Path

from harness.commands.booted import print_stderr
from harness.errors import ConfigError
from harness.plan import quantities
from harness.run.options import typed

DAY_S = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--machines", action="store_true", help="end only machines, also kept ones")
    parser.add_argument(
        "--keep", type=typed(quantities.space), metavar="SIZE", help="keep this much of the cache"
    )
    parser.add_argument(
        "--older-than",
        type=typed(quantities.days),
        metavar="DAYS",
        help="keep files used within this time",
    )


def execute(arguments: argparse.Namespace) -> int:
    """End machines of dead runs, then shrink the cache; without a limit only files in use stay.

    Raises ConfigError for --machines with a limit of the cache.
    """
    if arguments.machines and (arguments.keep, arguments.older_than) != (None, None):
        raise ConfigError(
            "--machines leaves the whole cache, so --keep and --older-than have no effect",
            hint="use --machines alone, or leave it out",
        )
    from harness.host.cache import Cache
    from harness.lab.lab import VmBench
    from harness.vm import ownership

    for line in VmBench().reap(also_kept=True):
        print_stderr(line)
    if arguments.machines:
        return 0
    store = Cache()
    keep_mib, days = arguments.keep or 0, arguments.older_than or 0.0
    freed = store.clean(keep_bytes=keep_mib << 20, older_than_s=days * DAY_S)
    if not (keep_mib or days):
        if running := [path.name for path in ownership.living()]:
            print_stderr(
                f"a run is active ({', '.join(running)}): the files that it may use stay in the cache"
            )
        else:
            freed += forget(store.root)
    print_stderr(f"freed {freed >> 20} MiB")
    return 0


def forget(root: Path) -> int:
    """Remove package indexes and remembered facts about this host; return the bytes freed."""
    freed = sum(_remove_index(path) for path in root.glob("apt/*/*") if path.is_dir())
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


def _remove_index(index: Path) -> int:
    """Remove one suite's indexes unless they are in use; return the bytes freed."""
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
