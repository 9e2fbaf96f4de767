"""Kernels for tests: images, modules, and the trees that builds and packages make."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.harness.kernels.test_inspect import made

RELEASE = "6.12.0-own"
CONFIG = "CONFIG_MODULES=y\nCONFIG_VIRTIO_NET=m\n"


def bzimage(
    release: str = RELEASE, config: str = "", btf: bytes = made({"f": ("a",)}), more: bytes = b""
) -> bytes:
    """An image for amd64; with `config` it holds its configuration."""
    kernel = f"Linux version {release} (me@here)\0".encode() + btf
    kernel += b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED" if config else b""
    body = gzip.compress(kernel + more, mtime=0)
    head = bytearray(1024 + 512)
    head[0x1F1] = 2
    head[0x202:0x206] = b"HdrS"
    text = f"{release} (me@here) #1 SMP".encode()
    struct.pack_into("<H", head, 0x20E, 0x400 - 0x200)
    struct.pack_into("<H", head, 0x236, 1)
    struct.pack_into("<2I", head, 0x248, 0, len(body))
    head[0x400 : 0x400 + len(text)] = text
    return bytes(head) + body


def module(release: str = RELEASE) -> bytes:
    """A module as far as the harness reads one."""
    return b"\x7fELF" + b"\0license=GPL\0vermagic=" + release.encode() + b" SMP mod_unload \0"


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files below a folder; return it."""
    for name, data in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def installed(release: str = RELEASE, modules: str = "") -> dict[str, bytes | str]:
    """What `make tar-pkg` puts into an archive; `modules` is their release, if another."""
    return {
        f"boot/vmlinuz-{release}": bzimage(release),
        f"boot/config-{release}": CONFIG,
        f"lib/modules/{modules or release}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
        f"lib/modules/{modules or release}/kernel/drivers/net/virtio_net.ko": module(modules or release),
        f"lib/modules/{modules or release}/kernel/sound/card.ko": module(modules or release),
    }


def tree() -> dict[str, bytes | str]:
    """A kernel's tree after `make`."""
    return {
        "Kbuild": "",
        ".config": CONFIG,
        "arch/x86/boot/bzImage": bzimage(),
        "modules.order": "drivers/net/virtio_net.o\nsound/card.o\n",
        "modules.builtin": "kernel/fs/ext4/ext4.ko\n",
        "drivers/net/virtio_net.ko": module(),
        "sound/card.ko": module(),
    }


def tar(files: Mapping[str, bytes | str], mode: str = "w:gz") -> bytes:
    """An archive of these files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as packed:  # type: ignore[call-overload]  # any mode
        for name, data in files.items():
            content = data if isinstance(data, bytes) else data.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def deb(files: Mapping[str, bytes | str]) -> bytes:
    """A Debian package of these files."""

    def member(name: str, data: bytes) -> bytes:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        return head + data + b"\n" * (len(data) % 2)

    parts = (("debian-binary", b"2.0\n"), ("control.tar.gz", tar({})), ("data.tar.xz", tar(files, "w:xz")))
    return b"!<arch>\n" + b"".join(member(name, data) for name, data in parts)


def rpm(files: Mapping[str, bytes | str], secret: bytes = b"") -> bytes:
    """An RPM package of these files, signed with the secret key if one is given."""
    import rpm_rs  # only these tests need it

    package = rpm_rs.PackageBuilder("kernel-core", "6.12.0", "GPL-2.0", "x86_64", "a kernel")
    for name, data in files.items():
        content = data if isinstance(data, bytes) else data.encode()
        package.with_file_contents(content, rpm_rs.FileOptions.new(f"/{name}"))
    built = package.build_and_sign(rpm_rs.Signer(secret)) if secret else package.build()
    return bytes(built.to_bytes())
