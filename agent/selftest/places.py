"""File systems for scenarios, made and mounted by the agent and gone at the end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.selftest.evidence import CannotTellError

IMAGE_BYTES = {
    "ext4": 8 << 20,
    "xfs": 320 << 20,
    "btrfs": 128 << 20,
}  # not much more than the least each takes
_QUIETLY = {"ext4": ("-q", "-O", "^has_journal"), "xfs": ("-q",), "btrfs": ("-q",)}


@contextmanager
def mounted(place: Path, kind: str, options: str = "") -> Iterator[str]:
    """A file system of that kind at a new directory.

    Raises CannotTellError with what this host says where it cannot be had.
    """
    place.mkdir()
    image = place.with_name(f"{place.name}.image")
    words = ["mount", "-t", kind, *(("-o", options) if options else ())]
    try:
        if kind in IMAGE_BYTES:
            _make(image, kind)
            subprocess.run(["modprobe", "-q", "loop"], check=False)  # mount finds no device to ask for else
            words += ["-o", "loop", str(image)]
        else:
            words.append(kind)
        _run(kind, *words, str(place))
        try:
            yield str(place)
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    finally:
        with suppress(FileNotFoundError):
            image.unlink()


def _make(image: Path, kind: str) -> None:
    with image.open("xb") as file:
        file.truncate(IMAGE_BYTES[kind])
    _run(kind, f"mkfs.{kind}", *_QUIETLY[kind], str(image))


def _run(kind: str, *words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotTellError(f"no {kind} here: there is no {words[0]}") from error
    if done.returncode:
        raise CannotTellError(f"no {kind} here: {done.stderr.strip() or words[0]}")
