"""Takes the kernel image, configuration and modules out of unpacked packages of any known layout.

vmlinuz and config are in /boot, or from 7.3 on beside the modules; modules are in /lib, or from 6.16 on in
/usr/lib, as .ko, .ko.xz or .ko.zst.
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
    """Move the image, the configuration and the needed modules into `folder`, and run depmod there.

    `kept` are globs of the needed modules, below the folder of modules.
    Raises InfrastructureError if the packages have no kernel image or no modules.
    """
    modules = _first(tree / "usr/lib/modules" / release, tree / "lib/modules" / release)
    vmlinuz = _first(tree / f"boot/vmlinuz-{release}", modules / "vmlinuz", tree / f"boot/vmlinux-{release}")
    config = [path for path in (tree / f"boot/config-{release}", modules / "config") if path.exists()]
    shutil.move(vmlinuz, folder / "vmlinuz")
    for path in config[:1]:
        shutil.move(path, folder / "config")
    target = folder / "lib/modules" / release
    for path in [*modules.glob("modules.*"), *(path for glob in kept for path in modules.glob(glob))]:
        place = target / path.relative_to(modules)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    decompress(target)
    run(["depmod", "-b", folder, release], package="kmod")


def decompress(modules: Path) -> None:
    """Decompress all modules, because an emulated guest takes seconds to decompress a large one."""
    for path in sorted(modules.rglob("*.ko.*")):
        decompressor = _DECOMPRESSORS.get(path.suffix)
        if decompressor is None:
            known = ", ".join(_DECOMPRESSORS)
            raise InfrastructureError(f"module {path.name}: unknown compression (known: {known})")
        path.with_suffix("").write_bytes(decompressor(path.read_bytes()))
        path.unlink()


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    names = " or ".join("/".join(path.parts[-3:]) for path in paths)
    raise InfrastructureError(
        f"the packages hold no {names}", hint="Debian's packaging may have changed: please report it"
    )
