"""Signed archives for tests: keys made here, and a server on the loopback device."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.host.cache import Cache
from harness.host.progress import silent
from harness.kernels import FetchedKernel, Lock, freshness, lock, sources
from harness.plan.matrix import Kernel, Matrix
from tests.harness.kernels import trees

RELEASE = trees.RELEASE


class Keys:
    """OpenPGP keys: `good` signs, `other` is unknown to the user, `expired` was good for a day."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("good", "other"):
            self._gpg("--quick-generate-key", "--passphrase", "", name, "rsa2048", "sign", "never")
        old = ("--faked-system-time", "20200101T000000", "--passphrase", "")
        self._gpg(*old, "--quick-generate-key", "expired", "rsa2048", "sign", "1d")

    def public(self, name: str = "good", *options: str) -> bytes:
        return self._gpg("--export", *options, name)

    def secret(self, name: str = "good") -> bytes:
        return self._gpg("--export-secret-keys", "--armor", name)

    def sign(self, data: bytes, how: str, name: str = "good") -> bytes:
        """Data with a signature (`--clearsign`), or a signature alone (`--detach-sign`)."""
        when = ("--faked-system-time", "20200101T010000") if name == "expired" else ()
        return self._gpg(*when, "--armor", how, "--local-user", name, data=data)

    def _gpg(self, *words: str, data: bytes = b"") -> bytes:
        argv = [
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
        ]
        return subprocess.run([*argv, *words], input=data, check=True, capture_output=True).stdout


@contextlib.contextmanager
def keys() -> Iterator[Keys]:
    """Keys in a folder whose path is short enough for the socket of the agent, which ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="k"))
    try:
        yield Keys(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)  # the agent removes its sockets meanwhile


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a file NAME.redirect has the address to which a request for NAME is redirected."""

    def __init__(self, *arguments: Any, gate: Callable[[str], object], **more: Any) -> None:
        self._gate = gate
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        self._gate(self.path)
        target = Path(self.translate_path(self.path) + ".redirect")
        if not target.exists():
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", target.read_text())
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Write nothing: the output of a test is for its failure."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print no traceback: a client that was ended closes its connection."""


@contextlib.contextmanager
def served(folder: Path, gate: Callable[[str], object] = lambda _path: None) -> Iterator[str]:
    """The URL of a server for the files of a folder; it calls `gate` with each path before it answers."""
    handler = functools.partial(_Handler, directory=str(folder), gate=gate)
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def parts() -> tuple[dict[str, bytes | str], dict[str, bytes | str]]:
    """The files of a kernel without its modules, and its modules."""
    files = trees.installed()
    modules = {name: data for name, data in files.items() if name.endswith(".ko")}
    return {name: data for name, data in files.items() if name not in modules}, modules


def apt_archive(root: Path, keys: Keys, signer: str = "good") -> None:
    """An archive with a kernel in two packages, an older one, and one whose modules are absent."""
    core, modules = parts()
    absent = "linux-modules-6.13.0-own"
    packages: dict[str, tuple[str, str, Mapping[str, bytes | str]]] = {
        f"linux-image-{RELEASE}": (
            "2-1",
            f"kmod, linux-modules-{RELEASE} (= 2-1), linux-base (>= 4.5)",
            core,
        ),
        f"linux-modules-{RELEASE}": ("2-1", "", modules),
        "linux-image-6.11.0-own": ("1-1", "", core),
        "linux-image-6.13.0-absent": ("3-1", f"{absent} | {absent}-extra", core),
    }
    index = ""
    for name, (version, depends, files) in packages.items():
        data = trees.deb(files)
        place = f"pool/main/l/{name}_{version}_amd64.deb"
        trees.write(root, {place: data})
        index += (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: me <me@here>\n"
            f"Depends: {depends or 'kmod'}\nFilename: {place}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\nDescription: a kernel\n\n"
        )
    packed = gzip.compress(index.encode(), mtime=0)
    place = "main/binary-amd64/Packages.gz"
    release = (
        "Origin: test\nSuite: stable\nCodename: stable\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"
        "Architectures: amd64\nComponents: main\nSHA256:\n"
        f" {hashlib.sha256(packed).hexdigest()} {len(packed)} {place}\n"
        f" {hashlib.sha256(index.encode()).hexdigest()} {len(index)} main/binary-amd64/Packages\n"
    )
    signed = keys.sign(release.encode(), "--clearsign", signer)
    trees.write(root / "dists/stable", {place: packed, "InRelease": signed})


_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_COMMON = 'xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"'


def _entry(name: str, version: str) -> str:
    if not version:
        return f'<rpm:entry name="{name}"/>'
    number, _, release = version.partition("-")
    return f'<rpm:entry name="{name}" flags="EQ" epoch="0" ver="{number}" rel="{release}"/>'


def _package(root: Path, name: str, version: str, requires: list[str], data: bytes) -> str:
    """Write a package; return what the metadata have of it."""
    place = f"Packages/{name}-{version}.x86_64.rpm"
    trees.write(root, {place: data})
    number, _, release = version.partition("-")
    needs = "".join(_entry(f"{one}-uname-r", version) for one in requires)
    return (
        f'<package type="rpm"><name>{name}</name><arch>x86_64</arch>'
        f'<version epoch="0" ver="{number}" rel="{release}"/>'
        f'<checksum type="sha256" pkgid="YES">{hashlib.sha256(data).hexdigest()}</checksum>'
        f'<size package="{len(data)}" installed="1" archive="1"/><location href="{place}"/><format>'
        f"<rpm:provides>{_entry(name, version)}{_entry(f'{name}-uname-r', version)}</rpm:provides>"
        f'<rpm:requires><rpm:entry name="dracut"/>{needs}</rpm:requires></format></package>'
    )


def rpm_repository(root: Path, keys: Keys, signer: str = "good", packager: str = "good") -> None:
    """A repository with a kernel in three packages, an older one, and one whose modules are absent."""
    core, modules = parts()
    packages: list[tuple[str, str, list[str], Mapping[str, bytes | str]]] = [
        ("kernel", "6.12.0-10", ["kernel-core", "kernel-modules-core"], {}),
        ("kernel-core", "6.12.0-10", ["kernel-modules-core"], core),
        ("kernel-modules-core", "6.12.0-10", [], modules),
        ("kernel-core", "6.12.0-9", ["kernel-modules-core"], core),
        ("kernel-absent", "6.12.0-10", ["kernel-modules-none"], core),
    ]
    rows = [
        _package(root, name, version, requires, trees.rpm(files, keys.secret(packager) if packager else b""))
        for name, version, requires, files in packages
    ]
    primary = gzip.compress(f"{_XML}<metadata {_COMMON}>{''.join(rows)}</metadata>".encode(), mtime=0)
    repomd = (
        f'{_XML}<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>'
        f'<data type="primary"><checksum type="sha256">{hashlib.sha256(primary).hexdigest()}</checksum>'
        f'<location href="repodata/primary.xml.gz"/><size>{len(primary)}</size></data></repomd>'
    ).encode()
    signature = keys.sign(repomd, "--detach-sign", signer)
    files = {"repomd.xml": repomd, "repomd.xml.asc": signature, "primary.xml.gz": primary}
    trees.write(root / "repodata", files)


def fetch(kernel: Kernel, locked: Lock | None = None) -> FetchedKernel:
    sources.check(kernel, "amd64")
    store = Cache()
    resolved = sources.resolve(kernel, "amd64", lock=locked, store=store, progress=silent)
    return sources.fetch(resolved, store, silent)


def cached() -> list[Path]:
    return list(Cache().root.glob("kernels/*/content"))


def refused(kernel: Kernel, error: type[HarnessError], words: str) -> None:
    """Fail unless the kernel is refused in one line with a remedy, and nothing is cached."""
    with pytest.raises(error, match=words) as caught:
        fetch(kernel)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert not cached()


def needs_no_archive_once_cached(kernel: Kernel, web: Path, file: Path) -> None:
    """Fail unless a kernel that was locked in `file` and fetched is found again without its archive `web`."""
    made, errors = freshness.make(Matrix(kernels=(kernel,)), None, update=False)
    assert not errors
    assert not cached()
    lock.store(file, made)
    read = lock.load(file)
    assert read
    assert read == made
    first = fetch(kernel, read)
    shutil.rmtree(web)
    assert fetch(kernel, read) == first
