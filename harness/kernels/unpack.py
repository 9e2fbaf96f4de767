"""Taking a kernel out of its unpacked packages, whichever way they were laid out.

vmlinuz and config lie in /boot, or beside the modules from 7.3 on; modules lie in /lib, or in /usr/lib from
6.16 on, as .ko, .ko.xz or .ko.zst.
"""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import zstandard

from harness.errors import InfrastructureError
from harness.host.programs import run

_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def take(tree: Path, release: str, folder: Path, kept: Iterable[str] = ("kernel",)) -> None:
    """Moves what matters of unpacked packages into `folder`, and puts the modules in order.

    `kept` are globs below the folder of modules: the modules that matter.

    Both layouts are known: vmlinuz and config in /boot or beside the modules, modules in /lib or /usr/lib.
    Raises InfrastructureError if there is no kernel or no module.
    """
    modules = _first(tree / "usr/lib/modules" / release, tree / "lib/modules" / release)
    vmlinuz = _first(tree / f"boot/vmlinuz-{release}", modules / "vmlinuz", tree / f"boot/vmlinux-{release}")
    config = [path for path in (tree / f"boot/config-{release}", modules / "config") if path.exists()]
    shutil.move(vmlinuz, folder / "vmlinuz")
    for path in config[:1]:
        shutil.move(path, folder / "config")
    target = folder / "lib/modules" / release
    for path in [*modules.glob("modules.*"), *(found for glob in kept for found in modules.glob(glob))]:
        place = target / path.relative_to(modules)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    decompress(target)
    run(["depmod", "-b", folder, release], package="kmod")


def decompress(modules: Path) -> None:
    """Decompresses all modules, once and here: an emulated guest takes seconds for a large one."""
    for path in sorted(modules.rglob("*.ko.*")):
        decompressor = _DECOMPRESSORS.get(path.suffix)
        if decompressor is None:
            raise InfrastructureError(f"module {path.name} is compressed in a way that is not known")
        path.with_suffix("").write_bytes(decompressor(path.read_bytes()))
        path.unlink()


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    names = " or ".join("/".join(path.parts[-3:]) for path in paths)
    raise InfrastructureError(f"the packages hold no {names}", hint="has Debian's packaging changed?")
