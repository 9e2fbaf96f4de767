"""The source `apt`: a signed archive gives a kernel; each fault is one line, and nothing is cached."""

from __future__ import annotations

import gzip
import os
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

PROGRAMS = ("apt-get", "apt-config", "gpg", "gpgconf", "depmod")
pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="apt, gpg or kmod is not installed"),
]


@pytest.fixture
def archive(tmp_path: Path, keys: Keys) -> Iterator[Kernel]:
    """A kernel of a served archive; its folder is `tmp_path`/web."""
    signed.apt_archive(tmp_path / "web", keys)
    (tmp_path / "key").write_bytes(keys.public())
    with signed.served(tmp_path / "web") as url:
        yield Kernel(
            name="own", apt=url, suite="stable", key=str(tmp_path / "key"), package="linux-image-*-own"
        )


def test_the_newest_kernel_of_a_signed_archive(archive: Kernel, tmp_path: Path, keys: Keys) -> None:
    """The image and the modules on which it depends; an armoured key gives the same."""
    found = fetch(archive)
    assert (found.name, found.release) == ("own", RELEASE)
    assert found.vmlinuz.read_bytes() == bzimage()
    assert {path.name for path in found.modules.rglob("*.ko")} == {"virtio_net.ko"}
    assert {one.name for one in found.packages} == {f"linux-image-{RELEASE}", f"linux-modules-{RELEASE}"}
    (tmp_path / "key").write_bytes(keys.public("good", "--armor"))
    assert fetch(archive).digest == found.digest


def test_a_lock_has_the_packages_and_a_cached_kernel_needs_no_archive(
    archive: Kernel, tmp_path: Path
) -> None:
    """Also if the archive has a newer kernel, or is gone."""
    needs_no_archive_once_cached(archive, tmp_path / "web", tmp_path / "matrix.lock")


def _unsigned(web: Path, keys: Keys) -> None:
    del keys
    inrelease = web / "dists/stable/InRelease"
    text = inrelease.read_text().partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0]
    inrelease.with_name("Release").write_text(text)
    inrelease.unlink()


def _altered_index(web: Path, _keys: Keys) -> None:
    path = web / "dists/stable/main/binary-amd64/Packages.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"2-1", b"9-1"), mtime=0))


def _altered_release(web: Path, _keys: Keys) -> None:
    path = web / "dists/stable/InRelease"
    path.write_text(path.read_text().replace("Origin: test", "Origin: evil"))
    os.utime(path, (2e9, 2e9))  # else apt may take it as not modified


def _altered_package(web: Path, _keys: Keys) -> None:
    path = web / f"pool/main/l/linux-modules-{RELEASE}_2-1_amd64.deb"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _truncated_package(web: Path, _keys: Keys) -> None:
    path = web / f"pool/main/l/linux-modules-{RELEASE}_2-1_amd64.deb"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_unsigned, "is not signed"),
        (lambda web, keys: signed.apt_archive(web, keys, "other"), "is not signed|NO_PUBKEY"),
        (_altered_release, "BADSIG|signature|is not signed"),
        (_altered_index, "Hash Sum mismatch|unexpected size"),
        (_altered_package, "Hash Sum mismatch"),
        (_truncated_package, "unexpected size|Hash Sum mismatch"),
        (lambda web, _keys: shutil.rmtree(web / "dists"), "does not have a Release file|404"),
    ],
    ids=("unsigned", "wrong key", "release", "index", "package", "truncated", "absent"),
)
def test_an_archive_that_cannot_be_trusted(
    archive: Kernel, tmp_path: Path, keys: Keys, harm: Callable[[Path, Keys], None], words: str
) -> None:
    """It is refused with the remedy, and nothing is cached."""
    harm(tmp_path / "web", keys)
    refused(archive, ConfigError, words)


def test_an_index_that_loses_its_signature_is_not_used(
    archive: Kernel, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if an older index with a good signature is here."""
    sources.ARCHIVES["apt"].listed(archive, "amd64", silent)
    monkeypatch.setattr("harness.kernels.apt.Apt._age", lambda _apt: 1e6)
    _altered_release(tmp_path / "web", keys)
    with pytest.raises(ConfigError, match="signature"):
        sources.ARCHIVES["apt"].listed(archive, "amd64", silent)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"package": "linux-image-*-absent"},
            ConfigError,
            "depends on linux-modules-6.13.0-own or .*not in the",
        ),
        ({"package": "linux-none"}, ConfigError, "no such package"),
        ({"package": "linux-modules-*"}, ConfigError, "neither a kernel tree nor an installed kernel"),
        ({"apt": "http://127.0.0.1:9"}, InfrastructureError, "onnect"),
        ({"key": "/etc/hostname"}, ConfigError, "not a file of OpenPGP public keys"),
        ({"key": "/none"}, ConfigError, "/none: no such file"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_entry_that_no_archive_satisfies(
    archive: Kernel, tmp_path: Path, change: dict[str, str], error: type[HarnessError], words: str
) -> None:
    """It is one line, and nothing is cached."""
    refused(archive.model_copy(update=change), error, words)


def test_a_package_that_left_the_archive_is_a_fault_of_the_network(archive: Kernel, tmp_path: Path) -> None:
    """The index names it, and the server answers 404."""
    (tmp_path / f"web/pool/main/l/linux-modules-{RELEASE}_2-1_amd64.deb").unlink()
    with pytest.raises(InfrastructureError, match="404"):
        fetch(archive)
    assert not cached()
