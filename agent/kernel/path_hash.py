"""Computes the same hash of names and paths as the BPF programs (`bpf/hash.h`); a test compares both."""

from __future__ import annotations

from collections.abc import Iterable

SEED = 0x9E3779B97F4A7C15
_PRIME = 0xFF51AFD7ED558CCD
_MASK = (1 << 64) - 1


def _mix(value: int, word: int) -> int:
    value = (value ^ word) * _PRIME & _MASK
    return value ^ value >> 32


def component(name: bytes) -> int:
    """Return the 64-bit hash of one path component."""
    value = _mix(SEED, len(name))
    for start in range(0, len(name), 8):
        value = _mix(value, int.from_bytes(name[start : start + 8], "little"))
    return value


def path(path: bytes) -> int:
    """Return the 64-bit hash of a path by its components; that of `/` and of an empty path is the seed."""
    return _fold(part for part in path.split(b"/") if part)


def _fold(parts: Iterable[bytes]) -> int:
    value = SEED
    for part in parts:
        value = _mix(value, component(part))
    return value
