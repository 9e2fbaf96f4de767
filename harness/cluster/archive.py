"""Packs the output folder of a part, and extracts it on the client, with bounds and without trusting it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import zstandard

from harness.errors import InfrastructureError
from harness.host import tars
from harness.results import results_file
from harness.results.folder import CELLS, TRACEBACK
from harness.results.shard_folders import MAX_EVIDENCE

MAX_BYTES = 512 << 20  # of the uncompressed archive
MAX_FILES = 20_000
_MAX_NAME = 255  # bytes of a part of a path
NAMES = ("plan.json", results_file.FILE, TRACEBACK)


def pack(folder: Path, max_bytes: int = MAX_BYTES) -> tuple[bytes, list[str]]:
    """Return the plan, the results and the evidence of a folder, compressed, and the names that are left out.

    Evidence is left out where it would exceed a bound. Raises OSError.
    """
    stream, left_out, size = io.BytesIO(), [], 0
    with (
        zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for number, path in enumerate(_members(folder)):
            name, length = path.relative_to(folder).as_posix(), path.stat().st_size
            needed = name in NAMES
            size += length
            if not needed and (length > MAX_EVIDENCE or size > max_bytes or number >= MAX_FILES):
                left_out.append(name)
                size -= length
                continue
            entry = tarfile.TarInfo(name)
            data = path.read_bytes()
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue(), left_out


def _members(folder: Path) -> Iterator[Path]:
    """Yield the regular files of a run's folder that a client needs; links are left out."""
    top = (folder / name for name in NAMES)
    cells = sorted((folder / CELLS).glob("*/*")) if (folder / CELLS).is_dir() else []
    yield from (path for path in (*top, *cells) if path.is_file() and not path.is_symlink())


def extract(data: bytes, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Extract an archive of `pack` into a new folder.

    Raises InfrastructureError for an archive with any other kind of member, or that exceeds a bound, and
    OSError.
    """
    try:
        with (
            zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=tars.members()) as tar,
        ):
            left = max_bytes + (1 << 20)
            for number, entry in enumerate(tar):
                left -= entry.size
                if left < 0 or number >= MAX_FILES:
                    raise InfrastructureError("the output of a worker is larger than its bounds")
                _extract(tar, entry, folder)
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, RecursionError) as error:
        raise InfrastructureError(f"the output of a worker is not a valid archive: {error}") from error


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    parts = PurePosixPath(entry.name).parts
    plain = entry.isreg() and not {"\\", "\0"} & {*entry.name} and ".." not in parts
    evidence = len(parts) == 3 and parts[0] == CELLS
    short = all(len(os.fsencode(part)) <= _MAX_NAME for part in parts)
    target = folder.joinpath(*parts)
    if not (plain and short and (evidence or entry.name in NAMES)) or target.exists():
        raise InfrastructureError(f"the output of a worker has an unexpected member {entry.name!r}")
    source = tar.extractfile(entry)
    assert source
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while chunk := source.read(1 << 20):
            file.write(chunk)
