"""Takes the kernel image, configuration and modules out of unpacked packages of any known layout.

vmlinuz and config are in /boot, or from 7.3 on beside the modules; modules are in /lib, or from 6.16 on in
/usr/lib, as .ko, .ko.xz or .ko.zst.
"""

from __future__ import annotations

import lzma
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import zstandard

from harness.errors import InfrastructureError
from harness.host.programs import run

_MAX_MODULE = 512 << 20  # bytes, decompressed


def _zstd(data: bytes) -> bytes:
    # A frame of a compressed file says how large its content is, and the decompressor writes no more.
    size = zstandard.frame_content_size(data)
    if size > _MAX_MODULE:
        raise ValueError(_TOO_LARGE)
    if size >= 0:
        return zstandard.ZstdDecompressor().decompress(data)
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_MODULE)


_TOO_LARGE = f"more than {_MAX_MODULE >> 20} MiB when decompressed"
_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data, _MAX_MODULE + 1),
    ".xz": lambda data: lzma.LZMADecompressor().decompress(data, _MAX_MODULE + 1),
    ".zst": _zstd,
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
        try:
            data = decompressor(path.read_bytes())
            if len(data) > _MAX_MODULE:
                raise ValueError(_TOO_LARGE)
        except (ValueError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
            raise InfrastructureError(f"module {path.name} is damaged: {error}") from error
        path.with_suffix("").write_bytes(data)
        path.unlink()


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    names = " or ".join("/".join(path.parts[-3:]) for path in paths)
    raise InfrastructureError(
        f"the packages hold no {names}", hint="Debian's packaging may have changed: please report it"
    )
