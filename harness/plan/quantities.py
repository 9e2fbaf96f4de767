"""Parses durations, sizes and counts that users write."""

from __future__ import annotations

import re

MAX_PROCESSORS = 64  # of a guest
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_DAYS = re.compile(r"\d{1,6}(?:\.\d{1,3})?", re.ASCII)
_SIZE = re.compile(r"(\d{1,6})([MG]?)", re.ASCII)
_MIB = {"": 1, "M": 1, "G": 1024}


def seconds(word: str) -> float:
    """The seconds of a duration such as 90, 1.5s, 15m or 2h. Raises ValueError."""
    match = _DURATION.fullmatch(word)
    if not match or not float(match[1]):
        raise ValueError(f"invalid duration {word!r} (use 90, 15m or 2h)")
    return float(match[1]) * _SECONDS[match[2]]


def mebibytes(word: str) -> int:
    """The MiB of a size such as 512, 512M or 2G. Raises ValueError."""
    match = _SIZE.fullmatch(word)
    if not match or not int(match[1]):
        raise ValueError(f"invalid size {word!r} (use 512M or 2G)")
    return int(match[1]) * _MIB[match[2]]


def space(word: str) -> int:
    """The MiB of a size on the disk, which may be 0. Raises ValueError."""
    return 0 if word == "0" else mebibytes(word)


def days(word: str) -> float:
    """A number of days such as 7 or 0.5. Raises ValueError."""
    if not _DAYS.fullmatch(word):
        raise ValueError(f"invalid number of days {word!r} (use 7 or 0.5)")
    return float(word)


def processors(word: str) -> int:
    """A number of processors of a guest. Raises ValueError."""
    if (number := count(word)) > MAX_PROCESSORS:
        raise ValueError(f"{word!r} is more than {MAX_PROCESSORS}")
    return number


def count(word: str) -> int:
    """A whole number above 0. Raises ValueError."""
    if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word)):
        raise ValueError(f"invalid number {word!r} (use 1, 2, 3 ...)")
    return int(word)
