"""Extracts the BTF from a compressed kernel image without booting it.

The header of a bzImage locates its payload (Documentation/arch/x86/boot.rst, fields `payload_offset` and
`payload_length`, from boot protocol 2.08), and the payload begins with the magic number of its compression.
Images of other architectures are uncompressed, gzip, or a PE file with a compressed payload (EFI zboot).
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from harness.errors import InfrastructureError

_BOOT_MAGIC = b"HdrS"
_BOOT_MAGIC_AT = 0x202
_SETUP_SECTS_AT = 0x1F1
_PAYLOAD_AT = 0x248
_SECTOR = 512
_BTF_HEADER = (
    b"\x9f\xeb\x01\x00\x18\x00\x00\x00"  # magic, version, flags, length of the header, little endian
)
_ZBOOT = b"zimg"
_ZBOOT_AT = 4


def type_information(image: Path) -> bytes:
    """The `.BTF` section of a kernel image. Raises InfrastructureError if the image has none."""
    kernel = decompressed(image.read_bytes())
    if kernel.startswith(b"\x7fELF"):
        section = _section(kernel, ".BTF")
        if section:
            return section
    at = kernel.find(_BTF_HEADER)
    if at < 0:
        raise InfrastructureError(
            f"{image}: the kernel image has no BTF", hint="build the kernel with CONFIG_DEBUG_INFO_BTF"
        )
    _, _, _, text_at, text_size = struct.unpack_from("<5I", kernel, at + 4)
    return kernel[at : at + len(_BTF_HEADER) + 16 + text_at + text_size]


def decompressed(image: bytes) -> bytes:
    """The kernel in an image, or the image itself if it is not compressed. Raises InfrastructureError."""
    payload = _payload(image)
    for magic, unpack in _COMPRESSORS.items():
        if payload.startswith(magic):
            try:
                return unpack(payload)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, RuntimeError) as error:
                raise InfrastructureError(f"the kernel image is damaged: {error}") from error
    return payload


def _payload(image: bytes) -> bytes:
    if image[_BOOT_MAGIC_AT : _BOOT_MAGIC_AT + 4] == _BOOT_MAGIC:
        sectors = image[_SETUP_SECTS_AT] or 4
        offset, length = struct.unpack_from("<2I", image, _PAYLOAD_AT)
        start = (sectors + 1) * _SECTOR + offset
        return image[start : start + length]
    if image[_ZBOOT_AT : _ZBOOT_AT + 4] == _ZBOOT:
        offset, length = struct.unpack_from("<2I", image, _ZBOOT_AT + 4)
        return image[offset : offset + length]
    return image


# The kernel build appends the uncompressed length, four bytes that no decompressor below may read as data.
def _lz4(payload: bytes) -> bytes:
    """Decompress the legacy frame: blocks of a length and that many bytes, each up to 8 MiB uncompressed."""
    import lz4.block  # kernels are rarely read, and most use another compressor

    pieces = []
    at = 4
    while at + 4 <= len(payload):
        (size,) = struct.unpack_from("<I", payload, at)
        at += 4
        if not size or at + size > len(payload):
            break  # the appended length
        pieces.append(lz4.block.decompress(payload[at : at + size], uncompressed_size=8 << 20))
        at += size
    return b"".join(pieces)


def _zstd(payload: bytes) -> bytes:
    import zstandard  # kernels are rarely read, and most use another compressor

    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(payload)


_COMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x02\x21\x4c\x18": _lz4,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\xfd7zXZ\x00": _xz,
    b"\x1f\x8b": _gzip,
}


def _section(kernel: bytes, name: str) -> bytes:
    from elftools.elf.elffile import ELFFile  # slow to import, and kernels are rarely read

    section = ELFFile(io.BytesIO(kernel)).get_section_by_name(name)
    return bytes(section.data()) if section else b""
