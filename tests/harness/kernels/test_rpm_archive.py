"""The source `rpm`: a signed repository gives a kernel; each fault is one line, and nothing is cached."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import ConfigError, HarnessError, InfrastructureError
from harness.host.progress import silent
from harness.kernels import sources
from harness.plan.matrix import Kernel
from tests.harness.kernels import signed
from tests.harness.kernels.signed import RELEASE, Keys, cached, fetch, needs_no_archive_once_cached, refused
from tests.harness.kernels.trees import bzimage

PROGRAMS = ("gpg", "gpgconf", "gpgv", "depmod")
pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="gpg or kmod is not installed"),
]


@pytest.fixture(scope="module")
def good(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a repository without a fault: the library takes a second to make its packages."""
    folder = tmp_path_factory.mktemp("repository")
    signed.rpm_repository(folder, keys)
    return folder


@pytest.fixture
def repository(tmp_path: Path, keys: Keys, good: Path) -> Iterator[Kernel]:
    """A kernel of a served repository; its folder is `tmp_path`/web/9/x86_64."""
    shutil.copytree(good, tmp_path / "web/9/x86_64")
    (tmp_path / "key").write_bytes(keys.public())
    with signed.served(tmp_path / "web") as url:
        yield Kernel(
            name="own", rpm=f"{url}/$releasever/$basearch/", releasever="9", key=str(tmp_path / "key")
        )


@pytest.mark.parametrize("package", ["", "kernel-core", "kernel-c*"])
def test_the_newest_kernel_of_a_signed_repository(repository: Kernel, package: str) -> None:
    """The image, and the modules that it requires."""
    found = fetch(repository.model_copy(update={"package": package}))
    assert (found.name, found.release) == ("own", RELEASE)
    assert found.vmlinuz.read_bytes() == bzimage()
    assert {path.name for path in found.modules.rglob("*.ko")} == {"virtio_net.ko"}
    versions = {(one.name, one.version) for one in found.packages}
    assert versions - {("kernel", "6.12.0-10")} == {
        ("kernel-core", "6.12.0-10"),
        ("kernel-modules-core", "6.12.0-10"),
    }


def test_a_list_of_mirrors(repository: Kernel, tmp_path: Path, keys: Keys) -> None:
    """The first mirror that answers is used; an armoured key gives the same kernel."""
    first = fetch(repository)
    (tmp_path / "key").write_bytes(keys.public("good", "--armor"))
    url = repository.rpm.partition("/$")[0]
    (tmp_path / "web/list-9").write_text(f"# mirrors\n{url}/gone\n{url}/9/x86_64/\n")
    update = {"rpm": f"{url}/list-$releasever", "mirrorlist": True}
    mirrored = repository.model_copy(update=update)
    assert sources.ARCHIVES["rpm"].listed(mirrored, "amd64", silent) == first.packages
    shutil.rmtree(tmp_path / "cache")
    assert fetch(mirrored).digest == first.digest


def test_a_lock_has_the_packages_and_a_cached_kernel_needs_no_repository(
    repository: Kernel, tmp_path: Path
) -> None:
    needs_no_archive_once_cached(repository, tmp_path / "web", tmp_path / "matrix.lock")


def _alter(web: Path, name: str, old: bytes, new: bytes) -> None:
    path = web / name
    path.write_bytes(path.read_bytes().replace(old, new))


def _redirect(web: Path, name: str, to: str) -> None:
    path = web / name
    path.unlink()
    path.with_name(f"{path.name}.redirect").write_text(to)


CORE = "Packages/kernel-core-6.12.0-10.x86_64.rpm"
MODULES = "Packages/kernel-modules-core-6.12.0-10.x86_64.rpm"
SIGNATURE = "repodata/repomd.xml.asc"


def _packed(web: Path, _keys: Keys) -> None:
    path = web / "repodata/primary.xml.gz"
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain.replace(b"6.12.0", b"6.13.0"), mtime=0))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda web, _keys: (web / SIGNATURE).unlink(), "the metadata are not signed"),
        (lambda web, keys: signed.rpm_repository(web, keys, "other"), "wrong signature of repomd.xml"),
        (lambda web, _keys: (web / SIGNATURE).write_text("no signature"), "wrong signature of repomd.xml"),
        (lambda web, _keys: _alter(web, "repodata/repomd.xml", b">1<", b">2<"), "wrong signature of repomd"),
        (_packed, "larger than|not the file that repomd.xml names"),
        (
            lambda web, keys: signed.rpm_repository(web, keys, packager="other"),
            "is not signed with a key of [^:]+: un",
        ),
        (
            lambda web, keys: signed.rpm_repository(web, keys, packager=""),
            "is not signed with a key of [^:]+: sig",
        ),
        (
            lambda web, _keys: _alter(web, MODULES, b"\0\0\0", b"\0\0\1"),
            "not the one that the archive's index",
        ),
        (lambda web, _keys: (web / CORE).write_bytes((web / CORE).read_bytes()[:-9]), "not the one that the"),
        (lambda web, _keys: (web / CORE).write_bytes((web / CORE).read_bytes() + b"x"), "larger than"),
        (lambda web, _keys: _redirect(web, CORE, "http://localhost:9/"), "redirects to another host"),
        (lambda web, _keys: _redirect(web, "repodata/repomd.xml", "http://localhost:9/"), "redirects to"),
        (lambda web, _keys: _redirect(web, "repodata/repomd.xml", "file:///etc/passwd"), "redirects to"),
    ],
    ids=(
        *("unsigned", "wrong key", "no signature", "repomd", "list", "packager", "unsigned package", "bytes"),
        *("short", "long", "redirected package", "redirected metadata", "redirected to a file"),
    ),
)
def test_a_repository_that_cannot_be_trusted(
    repository: Kernel, tmp_path: Path, keys: Keys, harm: Callable[[Path, Keys], object], words: str
) -> None:
    """It is refused with the remedy, and nothing is cached."""
    harm(tmp_path / "web/9/x86_64", keys)
    refused(repository, ConfigError, words)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"package": "kernel-absent"},
            ConfigError,
            "requires kernel-modules-none-uname-r 6.12.0-10, which is",
        ),
        ({"package": "none"}, ConfigError, "no such package"),
        ({"package": "kernel-modules-core"}, ConfigError, "neither a kernel tree nor an installed kernel"),
        ({"releasever": "8"}, InfrastructureError, r"repomd.xml: not found \(404\)"),
        ({"rpm": "http://127.0.0.1:9"}, InfrastructureError, "cannot be fetched: .*refused"),
        ({"key": "/etc/hostname"}, ConfigError, "not a file of OpenPGP public keys"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_entry_that_no_repository_satisfies(
    repository: Kernel, tmp_path: Path, change: dict[str, str], error: type[HarnessError], words: str
) -> None:
    """It is one line, and nothing is cached."""
    refused(repository.model_copy(update=change), error, words)


def test_metadata_that_an_expired_key_signed(repository: Kernel, tmp_path: Path, keys: Keys) -> None:
    """They are refused, though gpgv takes them."""
    web = tmp_path / "web/9/x86_64/repodata"
    (web / "repomd.xml.asc").write_bytes(
        keys.sign((web / "repomd.xml").read_bytes(), "--detach-sign", "expired")
    )
    (tmp_path / "key").write_bytes(keys.public() + keys.public("expired"))
    with pytest.raises(ConfigError, match=r"the key that signed repomd.xml has expired"):
        fetch(repository)
    assert not cached()


def test_a_package_that_left_the_repository_is_a_fault_of_the_network(
    repository: Kernel, tmp_path: Path
) -> None:
    """The metadata name it, and the server answers 404."""
    (tmp_path / "web/9/x86_64" / MODULES).unlink()
    with pytest.raises(InfrastructureError, match="404"):
        fetch(repository)
    assert not cached()
