"""Reads release, architecture, configuration and BTF out of a kernel image without booting it.

The header of a bzImage locates its payload (Documentation/arch/x86/boot.rst, fields `payload_offset` and
`payload_length`, from boot protocol 2.08), and the payload begins with the magic number of its compression.
Images of other architectures are uncompressed, gzip, or a PE file with a compressed payload (EFI zboot).
An image may be hostile: every offset is checked and every decompression has a limit.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import files

MAX_IMAGE = 512 << 20  # bytes of an image file
MAX_KERNEL = 1 << 30  # bytes of an uncompressed kernel

_BOOT_MAGIC = b"HdrS"
_BOOT_MAGIC_AT = 0x202
_SETUP_SECTS_AT = 0x1F1
_VERSION_AT = 0x20E
_LOAD_FLAGS_AT = 0x236
_64_BIT = 1  # in the load flags
_PAYLOAD_AT = 0x248
_SECTOR = 512
_ARM64 = b"ARM\x64"
_ARM64_AT = 0x38
_BTF_HEADER = (
    b"\x9f\xeb\x01\x00\x18\x00\x00\x00"  # magic, version, flags, length of the header, little endian
)
_ZBOOT = b"zimg"
_ZBOOT_AT = 4
_PE_AT = 0x3C
_ELF64 = b"\x7fELF\x02\x01"
_MACHINES = {0x3E: "amd64", 0xB7: "arm64", 0x8664: "amd64", 0xAA64: "arm64"}  # of ELF and of PE
_SECTION = struct.Struct("<2I4Q2I2Q")
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)
_BANNER = re.compile(rb"Linux version ([A-Za-z0-9][A-Za-z0-9._+~-]{0,63}) ")
_IKCONFIG = b"IKCFG_ST"
_MAX_CONFIG = 4 << 20
_ZSTD_STEP = 16 << 10  # bytes of input at once; four bytes become at most 128 KiB

Buffer = bytes | mmap.mmap


@dataclass(frozen=True)
class Image:
    """What an image contains; `config` and `btf` are empty if it does not hold them."""

    arch: str
    release: str
    config: str
    btf: bytes


def read(path: Path) -> Image:
    """Read an image. Raises InfrastructureError for a file that is no kernel image."""
    try:
        data = files.read_regular(path, MAX_IMAGE)
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from error
    if not (arch := _architecture(data)):
        raise InfrastructureError(
            f"{path}: not a kernel image",
            hint="name vmlinuz, bzImage (amd64) or Image (arm64); vmlinux is not bootable",
        )
    try:
        kernel = decompressed(data)
    except InfrastructureError as error:
        hint = error.hint or "build it or copy it again"
        raise InfrastructureError(f"{path}: {error.message}", hint=hint) from error
    release = _release(data, kernel)
    if not release:
        raise InfrastructureError(f"{path}: the kernel image names no release")
    return Image(arch, release, _configuration(kernel), _type_information(kernel))


def is_vmlinux(path: Path) -> bool:
    """Whether a file is the ELF file of a kernel, which holds BTF and does not boot. Raises OSError."""
    with files.open_regular(path) as file:
        if file.read(len(_ELF64)) != _ELF64:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return mapped.find(b"Linux version ") >= 0


def type_information(image: Path) -> bytes:
    """The BTF of an image, of a vmlinux, or of a file of BTF. Raises InfrastructureError without any."""
    with files.open_regular(image) as file:
        magic = file.read(len(_ELF64))
        if magic == _ELF64:
            # A vmlinux with debugging information may have a gigabyte, of which one section is read.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                found = _section(mapped, b".BTF")
        else:
            file.seek(0)
            found = b""
            kernel = decompressed(file.read(MAX_IMAGE))
    if found := found or (b"" if magic == _ELF64 else _type_information(kernel)):
        return found
    raise InfrastructureError(
        f"{image}: the kernel image has no BTF", hint="build the kernel with CONFIG_DEBUG_INFO_BTF"
    )


def _type_information(kernel: bytes) -> bytes:
    if section := _section(kernel, b".BTF"):
        return section
    at = kernel.find(_BTF_HEADER)
    if at < 0 or at + 24 > len(kernel):
        return b""
    _, _, _, text_at, text_size = struct.unpack_from("<5I", kernel, at + 4)
    return kernel[at : at + len(_BTF_HEADER) + 16 + text_at + text_size]


def decompressed(image: bytes) -> bytes:
    """The kernel in an image, or the image itself if it is not compressed. Raises InfrastructureError."""
    payload = _payload(image)
    for magic, unpack in _COMPRESSORS.items():
        if payload.startswith(magic):
            try:
                kernel = unpack(payload)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, RuntimeError) as error:
                raise InfrastructureError(f"the kernel image is damaged: {error}") from error
            if len(kernel) > MAX_KERNEL:
                raise InfrastructureError(f"the kernel has more than {MAX_KERNEL >> 20} MiB uncompressed")
            return kernel
    return payload


def _architecture(image: bytes) -> str:
    """The architecture of an image by its header, "" if it is none."""
    if image[_BOOT_MAGIC_AT : _BOOT_MAGIC_AT + 4] == _BOOT_MAGIC and len(image) > _PAYLOAD_AT + 8:
        (flags,) = struct.unpack_from("<H", image, _LOAD_FLAGS_AT)
        return "amd64" if flags & _64_BIT else "i386"
    if image[_ARM64_AT : _ARM64_AT + 4] == _ARM64:
        return "arm64"
    if image[_ZBOOT_AT : _ZBOOT_AT + 4] == _ZBOOT and len(image) > _PE_AT + 4:
        (pe,) = struct.unpack_from("<I", image, _PE_AT)
        if image[pe : pe + 4] == b"PE\0\0" and len(image) >= pe + 6:
            return _MACHINES.get(struct.unpack_from("<H", image, pe + 4)[0], "")
    if image.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            return "arm64" if head.decompress(image, 64)[_ARM64_AT : _ARM64_AT + 4] == _ARM64 else ""
        except zlib.error:
            return ""
    return ""


def _release(image: bytes, kernel: bytes) -> str:
    """The release, from the header of a bzImage or else from the kernel's own banner."""
    if image[_BOOT_MAGIC_AT : _BOOT_MAGIC_AT + 4] == _BOOT_MAGIC:
        (at,) = struct.unpack_from("<H", image, _VERSION_AT)
        text = image[at + _SECTOR : at + _SECTOR + 128].split(b"\0")[0].decode("ascii", "replace")
        match = RELEASE.match(text) if at else None
        if match and text[match.end() : match.end() + 1] in ("", " "):
            return match[0]
    banner = _BANNER.search(kernel)
    return banner[1].decode() if banner else ""


def _configuration(kernel: bytes) -> str:
    """The text that CONFIG_IKCONFIG puts into a kernel, "" without it."""
    at = kernel.find(_IKCONFIG + b"\x1f\x8b")
    if at < 0:
        return ""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        return unzip.decompress(kernel[at + len(_IKCONFIG) :], _MAX_CONFIG).decode("utf-8", "replace")
    except zlib.error:
        return ""


def _payload(image: bytes) -> bytes:
    if image[_BOOT_MAGIC_AT : _BOOT_MAGIC_AT + 4] == _BOOT_MAGIC and len(image) >= _PAYLOAD_AT + 8:
        sectors = image[_SETUP_SECTS_AT] or 4
        offset, length = struct.unpack_from("<2I", image, _PAYLOAD_AT)
        start = (sectors + 1) * _SECTOR + offset
        if start + length > len(image):
            raise InfrastructureError("the kernel image is damaged: it is shorter than its header says")
        return image[start : start + length]
    if image[_ZBOOT_AT : _ZBOOT_AT + 4] == _ZBOOT and len(image) >= _ZBOOT_AT + 12:
        offset, length = struct.unpack_from("<2I", image, _ZBOOT_AT + 4)
        return image[offset : offset + length]
    return image


# The kernel build appends the uncompressed length, four bytes that no decompressor below may read as data.
def _lz4(payload: bytes) -> bytes:
    """Decompress the legacy frame: blocks of a length and that many bytes, each up to 8 MiB uncompressed."""
    import lz4.block  # kernels are rarely read, and most use another compressor

    pieces: list[bytes] = []
    at = size_so_far = 4
    while at + 4 <= len(payload) and size_so_far <= MAX_KERNEL:
        (size,) = struct.unpack_from("<I", payload, at)
        at += 4
        if not size or at + size > len(payload):
            break  # the appended length
        pieces.append(lz4.block.decompress(payload[at : at + size], uncompressed_size=8 << 20))
        size_so_far += len(pieces[-1])
        at += size
    return b"".join(pieces)


def _zstd(payload: bytes) -> bytes:
    import zstandard  # kernels are rarely read, and most use another compressor

    pieces: list[bytes] = []
    left = MAX_KERNEL
    try:
        unpack = zstandard.ZstdDecompressor(max_window_size=1 << 30).decompressobj()
        for at in range(0, len(payload), _ZSTD_STEP):
            if left < 0 or unpack.eof:
                break
            pieces.append(unpack.decompress(payload[at : at + _ZSTD_STEP]))
            left -= len(pieces[-1])
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return b"".join(pieces)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload, MAX_KERNEL + 1)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(payload, MAX_KERNEL + 1)


def _bzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, MAX_KERNEL + 1)


def _lzo(_payload: bytes) -> bytes:
    raise ValueError("LZO is not supported: build it with CONFIG_KERNEL_ZSTD or CONFIG_KERNEL_GZIP")


_COMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x02\x21\x4c\x18": _lz4,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\xfd7zXZ\x00": _xz,
    b"\x5d\x00\x00": _xz,  # LZMA's own format, which the same decompressor knows
    b"\x1f\x8b": _gzip,
    b"BZh": _bzip2,
    b"\x89LZO": _lzo,
}


def _section(elf: Buffer, name: bytes) -> bytes:
    """The content of a section of a 64-bit ELF file, empty if the file has none or is damaged."""
    if elf[: len(_ELF64)] != _ELF64:
        return b""
    try:
        (table,) = struct.unpack_from("<Q", elf, 0x28)
        size, number, names = struct.unpack_from("<3H", elf, 0x3A)
        rows = [_SECTION.unpack_from(elf, table + size * index) for index in range(number)]
        texts = rows[names][4]
        for row in rows:
            if elf[texts + row[0] : texts + row[0] + len(name) + 1] == name + b"\0":
                return bytes(elf[row[4] : row[4] + row[5]])
    except (struct.error, IndexError, OverflowError):
        pass
    return b""
