"""Takes a kernel's files out of tar archives, Debian packages and RPM packages that a user names.

The archives may be hostile. Nothing in them is run, no link is followed or made, and only files whose path is
one of a kernel are written, below the given folder: image, configuration and modules. Sizes are bounded.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

import zstandard
from debian.arfile import ArError, ArFile

from harness.errors import ConfigError
from harness.host import background, files, tars
from harness.text import one_line

MAX_FILE = 1 << 30  # bytes of one file
MAX_BYTES = 8 << 30  # of all files that an archive holds, taken or not
MAX_FILES = 200_000

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")

# What a kernel's package or `make tar-pkg` installs; the modules of a release are below a folder of its name.
_WANTED = re.compile(
    r"(?:usr/)?(?:boot/(?:vmlinuz|vmlinux|config|Image)[^/]*"
    r"|lib/modules/[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}/(?:vmlinuz|config|modules\.[^/]+|.+\.ko(?:\.(?:gz|xz|zst))?))"
)
_DAMAGED = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    ArError,
    EOFError,
    ValueError,
    OSError,
    RecursionError,
)
_STEP = 1 << 20
_ROOT = Path(__file__).parents[2]


class _Taken:
    """Writes the wanted files of archives below `folder`; ValueError means that a limit was exceeded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self._bytes = 0
        self._files = 0

    def wants(self, name: str, size: int) -> str:
        """The path to write, "" for a file that no kernel needs; counts every file."""
        self._files += 1
        self._bytes += size
        if self._files > MAX_FILES or self._bytes > MAX_BYTES or size > MAX_FILE:
            raise ValueError(
                f"more than {MAX_FILES} files, {MAX_BYTES >> 30} GiB or {MAX_FILE >> 30} GiB a file"
            )
        parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
        path = "/".join(parts)
        return path if ".." not in parts and "\0" not in path and _WANTED.fullmatch(path) else ""

    def write(self, path: str, size: int, source: IO[bytes]) -> None:
        """Write `size` bytes of `source`, or raise EOFError."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            while size:
                data = source.read(min(size, _STEP))
                if not data:
                    raise EOFError("it ends in the middle of a file")
                file.write(data)
                size -= len(data)
        self.names.append(path)


def unpack(path: Path, folder: Path) -> list[str]:
    """Write the kernel's files of an archive below `folder`; return their paths.

    Raises ConfigError for an archive that is damaged, truncated, of an unknown kind, or holds no such file.
    """
    taken = _Taken(folder)
    unpacker = _rpm if path.suffix == ".rpm" else _deb if path.suffix == ".deb" else _tar_file
    try:
        unpacker(path, taken)
    except _DAMAGED as error:
        # The library for packages appends all bytes of a header that it does not know.
        words = one_line(str(error).partition(" - whole input")[0] or type(error).__name__)
        raise ConfigError(
            f"{path}: damaged or truncated archive: {words}", hint="make it again, or copy it again"
        ) from error
    return taken.names


def _tar_file(path: Path, taken: _Taken) -> None:
    with files.open_regular(path) as file:
        _tar(file, taken)


def _deb(path: Path, taken: _Taken) -> None:
    with files.open_regular(path) as file:
        data = [member for member in ArFile(fileobj=file) if str(member.name).startswith("data.tar")]
        if not data:
            raise ValueError("no Debian package")
        _tar(data[0], taken)


def _rpm(path: Path, taken: _Taken) -> None:
    argv = [sys.executable, "-m", "harness.kernels.rpm", str(path)]
    with tempfile.TemporaryFile() as errors:
        with background.child(argv, stdout=subprocess.PIPE, stderr=errors, cwd=_ROOT) as child:
            assert child.stdout
            try:
                _members(child.stdout, taken)
            except _DAMAGED:
                child.kill()
                if child.wait() in (0, -signal.SIGKILL):  # else its own error is the cause
                    raise
        if child.returncode:
            errors.seek(0)
            raise ValueError(errors.read(_STEP).decode(errors="replace").strip().rpartition("\n")[2])


def _tar(file: Any, taken: _Taken) -> None:
    with decompressed(file) as plain:
        _members(plain, taken)


def _members(plain: Any, taken: _Taken) -> None:
    with tarfile.open(fileobj=plain, mode="r|", tarinfo=tars.members()) as tar:
        for member in tar:
            wanted = taken.wants(member.name, member.size if member.isreg() else 0)
            source = tar.extractfile(member) if wanted and member.isreg() else None
            if source:
                taken.write(wanted, member.size, source)


def _zstd(file: BinaryIO) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 30).stream_reader(file)


_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _zstd,
}


@contextlib.contextmanager
def decompressed(file: Any) -> Iterator[Any]:
    """A reader of the plain bytes of a file that may be compressed."""
    magic = file.read(6)
    file.seek(0)
    for start, opener in _OPENERS.items():
        if magic.startswith(start):
            with opener(fileobj=file) if opener is gzip.GzipFile else opener(file) as plain:
                yield plain
            return
    yield file
