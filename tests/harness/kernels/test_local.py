"""Kernels of the user: images, trees and archives give the same record; an error is one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import silent
from harness.kernels import FetchedKernel, named, sources
from harness.kernels.model import ResolvedKernel
from harness.plan.matrix import Kernel, Matrix
from tests.harness.kernels import trees
from tests.harness.kernels.test_inspect import made
from tests.harness.kernels.trees import CONFIG, RELEASE, bzimage, module, write

pytestmark = pytest.mark.skipif(shutil.which("depmod") is None, reason="the package kmod is not installed")


def resolve(folder: Path, kernel: Kernel, arch: str = "amd64") -> ResolvedKernel:
    sources.check(kernel, arch)
    store = Cache(folder / "cache")
    return sources.resolve(kernel.below(folder), arch, lock=None, store=store, progress=silent)


def fetch(folder: Path, kernel: Kernel) -> FetchedKernel:
    return sources.fetch(resolve(folder, kernel), Cache(folder / "cache"), silent)


def modules_of(kernel: FetchedKernel) -> set[str]:
    return {path.name for path in kernel.modules.rglob("*.ko")}


IMAGE = Kernel(name="own", image="bzImage")
WITH_MODULES = Kernel(name="own", image="bzImage", modules="mods", config="config")
BUILD = Kernel(name="own", build="linux")
PACKAGES = Kernel(name="own", packages=("p",))


def put(folder: Path) -> Path:
    """Every form of the same kernel."""
    write(folder, {"bzImage": bzimage(), "config": CONFIG})
    write(folder / "mods", trees.installed())
    write(folder / "linux", trees.tree())
    write(folder / "root", trees.installed())
    write(
        folder / "debs", {"linux-image.deb": trees.deb(trees.installed()), "linux-headers.deb": "no package"}
    )
    modules = {name: data for name, data in trees.installed().items() if name.endswith(".ko")}
    core = {name: data for name, data in trees.installed().items() if name not in modules}
    write(folder / "rpms", {"kernel-core.rpm": trees.rpm(core), "kernel-modules.rpm": trees.rpm(modules)})
    return write(folder, {"kernel.tar.gz": trees.tar(trees.installed())})


@pytest.mark.parametrize(
    "kernel",
    [
        WITH_MODULES,
        Kernel(name="own", image="bzImage", modules="kernel.tar.gz", config="config"),
        Kernel(name="own", image="bzImage", modules=f"mods/lib/modules/{RELEASE}", config="config"),
        BUILD,
        Kernel(name="own", build="root"),
        Kernel(name="own", build="kernel.tar.gz"),
        Kernel(name="own", packages=("debs",)),
        Kernel(name="own", packages=("debs/linux-image.deb",)),
        Kernel(name="own", packages=("rpms",)),
    ],
    ids=lambda kernel: kernel.requested,
)
def test_every_form_gives_the_same_record(tmp_path: Path, kernel: Kernel) -> None:
    """Release, configuration, BTF and the modules that guests need, with a list that depmod made."""
    found = fetch(put(tmp_path), kernel)
    assert (found.name, found.release, found.arch) == ("own", RELEASE, "amd64")
    assert found.vmlinuz.read_bytes() == bzimage()
    assert found.config
    assert found.config.read_text() == CONFIG
    assert modules_of(found) == {"virtio_net.ko"}
    assert "virtio_net" in (found.modules / "modules.dep").read_text()
    assert "ext4" in (found.modules / "modules.builtin").read_text()


def test_an_image_by_itself(tmp_path: Path) -> None:
    """It has its own configuration, and no modules."""
    write(tmp_path, {"bzImage": bzimage(config="CONFIG_EXT4_FS=y\n")})
    found = fetch(tmp_path, IMAGE)
    assert found.config
    assert found.config.read_text() == "CONFIG_EXT4_FS=y\n"
    assert modules_of(found) == set()
    assert found.btf is None  # it is in the image


def test_type_information_of_a_vmlinux(tmp_path: Path) -> None:
    """It is stored beside an image without BTF; the vmlinux of another build is refused."""
    data = made({"g": ()})
    write(tmp_path, {"bzImage": bzimage(btf=b""), "vmlinux": f"Linux version {RELEASE} \0".encode() + data})
    found = fetch(tmp_path, Kernel(name="own", image="bzImage", vmlinux="vmlinux"))
    assert found.btf
    assert found.btf.read_bytes() == data
    write(tmp_path, {"vmlinux": b"Linux version 6.1.0 \0" + data})
    with pytest.raises(ConfigError, match=f"not the vmlinux of {RELEASE}"):
        resolve(tmp_path, Kernel(name="own", image="bzImage", vmlinux="vmlinux"))


def test_a_kernel_that_was_built_again_is_another(tmp_path: Path) -> None:
    """Its digest changes with the image, and with a module."""
    first = resolve(put(tmp_path), BUILD)
    assert resolve(tmp_path, BUILD) == first
    write(tmp_path / "linux", {"arch/x86/boot/bzImage": bzimage(more=b"changed")})
    second = resolve(tmp_path, BUILD)
    write(tmp_path / "linux", {"drivers/net/virtio_net.ko": module() + b"changed"})
    assert len({one.digest for one in (first, second, resolve(tmp_path, BUILD))}) == 3


def test_a_kernel_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not cached under its earlier digest."""
    put(tmp_path)
    monkeypatch.setattr(
        "harness.kernels.local.take",
        lambda *_: write(tmp_path / "linux", {"arch/x86/boot/bzImage": bzimage(more=b"changed")}),
    )
    with pytest.raises(ConfigError, match="changed while it was read"):
        resolve(tmp_path, BUILD)
    assert not list((tmp_path / "cache/kernels").glob("*/content"))


ARM64 = bytearray(bzimage())
ARM64[0x202:0x206] = bytes(4)
ARM64[0x38:0x3C] = b"ARM\x64"
ARM64 += f"Linux version {RELEASE} ".encode()


@pytest.mark.parametrize(
    ("files", "kernel", "words"),
    [
        ({}, IMAGE, "bzImage: no such file"),
        ({"bzImage": "no kernel"}, IMAGE, "bzImage: not a kernel image"),
        ({"bzImage": b"\x7fELF\x02\x01" + bytes(100)}, IMAGE, "bzImage: not a kernel image"),
        ({"bzImage": bytes(ARM64)}, IMAGE, "a kernel for arm64, and the cell is for amd64"),
        ({"bzImage": bzimage()[:-20]}, IMAGE, "damaged: it is shorter than its header says"),
        ({"bzImage": bzimage(), "mods/x": ""}, WITH_MODULES, "mods: not a folder of kernel modules"),
        (
            {"bzImage": bzimage(), "mods/lib/modules/6.1/x": ""},
            WITH_MODULES,
            f"has modules of 6.1 and not of {RELEASE}",
        ),
        (
            {"bzImage": bzimage(), "config": CONFIG, "mods/kernel/fs/a.ko": module("6.1")},
            WITH_MODULES,
            f"a.ko: a module of 6.1, and the image is {RELEASE}",
        ),
        (
            {
                "bzImage": bzimage(),
                "config": CONFIG,
                "mods/kernel/fs/a.ko": module(),
                "mods/kernel/fs/b.ko": module("6.1"),
            },
            WITH_MODULES,
            f"b.ko: a module of 6.1, and the image is {RELEASE}",
        ),
        (
            {"bzImage": bzimage(), "config": "nothing", "mods/kernel/fs/a.ko": module()},
            WITH_MODULES,
            "config: not a kernel configuration",
        ),
        (
            {
                "bzImage": bzimage(),
                "config": f"# Linux/x86 6.1.9 Kernel Configuration\n{CONFIG}",
                "mods/kernel/fs/a.ko": module(),
            },
            WITH_MODULES,
            f"config: the configuration of a 6.1, and the image is {RELEASE}",
        ),
        (
            {"bzImage": bzimage(), "config": CONFIG, "mods": trees.tar(trees.installed())[:-40]},
            WITH_MODULES,
            "mods: damaged or truncated archive",
        ),
        (
            {"bzImage": bzimage(), "config": CONFIG, "mods": trees.tar({"etc/passwd": "x"})},
            WITH_MODULES,
            "mods: no kernel modules in it",
        ),
        ({}, BUILD, "linux: no such file"),
        ({"linux/x": ""}, BUILD, "linux: neither a kernel tree nor an installed kernel"),
        ({"linux/.config/app/settings": ""}, BUILD, "linux: neither a kernel tree nor an installed kernel"),
        ({"linux/Kbuild": ""}, BUILD, r"linux: a kernel tree without \.config"),
        ({"linux/.config": CONFIG}, BUILD, "linux: not built yet: no arch/x86/boot/bzImage"),
        (
            {f"linux/{name}": data for name, data in trees.tree().items() if "virtio" not in name},
            BUILD,
            r"virtio_net\.ko: listed in modules\.order, but not built",
        ),
        (
            {"linux/boot/vmlinuz-1": bzimage("1"), "linux/boot/vmlinuz-2": bzimage("2")},
            BUILD,
            "holds 2 kernels: vmlinuz-1, vmlinuz-2",
        ),
        (
            {f"linux/{name}": data for name, data in trees.installed(modules="6.1").items()},
            BUILD,
            f"has modules of 6.1 and not of {RELEASE}",
        ),
        ({"p/a.deb": trees.deb(trees.installed())[:-99]}, PACKAGES, r"a\.deb: damaged or truncated archive"),
        ({"p/a.deb": "no package"}, PACKAGES, r"a\.deb: damaged or truncated archive"),
        ({"p/a.rpm": trees.rpm(trees.installed())[:-99]}, PACKAGES, r"a\.rpm: damaged or truncated archive"),
        ({"p/a.rpm": b"\xed\xab\xee\xdb" + bytes(200)}, PACKAGES, r"a\.rpm: damaged or truncated archive"),
        ({"p/a.rpm": bytes(range(256)) * 400}, PACKAGES, r"a\.rpm: damaged or truncated archive: .{1,200}$"),
        ({"p/a.deb": trees.deb({"etc/x": "x"})}, PACKAGES, r"no kernel image in a\.deb"),
        (
            {f"p/{name}.deb": trees.deb(trees.installed()) for name in "ab"},
            PACKAGES,
            r"a\.deb and b\.deb both hold boot/vmlinuz",
        ),
        (
            {f"p/{name}.deb": trees.deb(trees.installed(name)) for name in ("6.1", "6.2")},
            PACKAGES,
            r"holds 2 kernels: vmlinuz-6\.1, vmlinuz-6\.2",
        ),
        ({"p/linux-headers-1.deb": "x"}, PACKAGES, "p: no package of a kernel in it"),
        ({}, PACKAGES, "p: neither a .deb nor a .rpm file"),
    ],
)
def test_an_invalid_kernel_is_one_line_with_a_remedy(
    tmp_path: Path, files: dict[str, bytes | str], kernel: Kernel, words: str
) -> None:
    """The command exits 2, and nothing is left in the cache."""
    write(tmp_path, files)
    with pytest.raises(ConfigError, match=words) as caught:
        resolve(tmp_path, kernel)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert not list((tmp_path / "cache").glob("*/*/content"))
    assert not list((tmp_path / "cache").glob("*/*.partial"))


def test_an_archive_writes_nothing_else(tmp_path: Path) -> None:
    """Names that lead out of the folder, and files of other purposes, are left out."""
    hostile = {"../lib/modules/6.1/kernel/a.ko": "x", "/boot/../boot/vmlinuz-6.1": "x", "etc/shadow": "x"}
    write(tmp_path, {"own.tar": trees.tar({**hostile, **trees.installed()})})
    fetch(tmp_path, Kernel(name="own", build="own.tar"))
    assert {path.name for path in tmp_path.iterdir()} == {"own.tar", "cache"}


def test_an_archive_of_headers_is_damaged(tmp_path: Path) -> None:
    """Headers that would fill the memory, or the stack of the reader, are one line with a remedy."""
    huge, long = tarfile.TarInfo("x"), tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 6 << 30
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1
    nested = 3000 * (long.tobuf(tarfile.GNU_FORMAT) + b"x" + bytes(511))
    for data in (huge.tobuf(tarfile.GNU_FORMAT), nested):
        (tmp_path / "own.tar").write_bytes(data + bytes(1024))
        with pytest.raises(ConfigError, match=r"own\.tar: damaged or truncated archive"):
            resolve(tmp_path, Kernel(name="own", build="own.tar"))


def test_an_image_where_distributions_install_it(tmp_path: Path) -> None:
    """Brings its configuration and modules; the image in a kernel's tree stands for the tree."""
    put(tmp_path)
    image = named.from_path(tmp_path / f"root/boot/vmlinuz-{RELEASE}")
    assert (image.source, image.config) == ("image", str(tmp_path / f"root/boot/config-{RELEASE}"))
    assert modules_of(fetch(tmp_path, image)) == {"virtio_net.ko"}
    tree = named.from_path(tmp_path / "linux/arch/x86/boot/bzImage")
    assert (tree.name, tree.build) == ("linux", str(tmp_path / "linux"))


@pytest.mark.skipif(shutil.which("x86_64-linux-gnu-gcc") is None, reason="no compiler for amd64")
def test_modules_of_a_tree_lose_their_debugging_information(tmp_path: Path) -> None:
    """But for a signed one, which the kernel would no longer trust; its type information stays."""
    put(tmp_path)
    source = 'int x; __attribute__((section(".BTF"))) char types[] = "types of the module";'
    (tmp_path / "a.c").write_text(source)
    built = tmp_path / "linux/drivers/net/virtio_net.ko"
    argv = ["x86_64-linux-gnu-gcc", "-g", "-c", "-o", str(built), str(tmp_path / "a.c")]
    subprocess.run(argv, check=True)
    module = next(fetch(tmp_path, BUILD).modules.rglob("*.ko")).read_bytes()
    assert b".debug_info" not in module
    assert b"types of the module" in module
    signed = built.read_bytes() + b"~Module signature appended~\n"
    built.write_bytes(signed)
    assert next(fetch(tmp_path, BUILD).modules.rglob("*.ko")).read_bytes() == signed


def test_a_pipe_among_the_modules_is_left_out(tmp_path: Path) -> None:
    """Reading it would wait for ever; a link may lead anywhere."""
    put(tmp_path)
    folder = tmp_path / f"root/lib/modules/{RELEASE}/kernel/net"
    folder.mkdir()
    os.mkfifo(folder / "pipe.ko")
    (folder / "link.ko").symlink_to("/etc/passwd")
    assert modules_of(fetch(tmp_path, Kernel(name="own", build="root"))) == {"virtio_net.ko"}


def test_debians_kernel_of_a_series_by_name(tmp_path: Path) -> None:
    """Also if the matrix has it already, and without a matrix's entry."""
    matrix = Matrix(kernels=(Kernel(name="6.12", series="6.12"),))
    found, names = named.added(matrix, ["series:6.16", "series:6.12", "6.*"])
    assert [(one.name, one.series) for one in found.kernels[1:]] == [("6.16", "6.16"), ("6.12-2", "6.12")]
    assert names == ("6.16", "6.12-2", "6.*")
    with pytest.raises(ConfigError, match="not a series"):
        named.added(matrix, ["series:../x"])


def test_a_path_on_the_command_line(tmp_path: Path) -> None:
    """It is a kernel of the source that can read it, named by its last component."""
    put(tmp_path)
    kinds = {path.name: named.from_path(path).source for path in tmp_path.iterdir() if path.name != "config"}
    assert kinds == {
        "bzImage": "image",
        "mods": "build",
        "linux": "build",
        "root": "build",
        "debs": "packages",
        "rpms": "packages",
        "kernel.tar.gz": "build",
    }
    taken = named.from_path(tmp_path / "linux", {"linux"})
    assert (taken.name, taken.build) == ("linux-2", str(tmp_path / "linux"))
    with pytest.raises(ConfigError, match="no such file or folder"):
        named.from_path(tmp_path / "gone")
