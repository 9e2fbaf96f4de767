"""Converts the tokens of literals to values."""

from __future__ import annotations

import re

_SIMPLE = {
    "n": b"\n",
    "t": b"\t",
    "r": b"\r",
    '"': b'"',
    "\\": b"\\",
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "v": b"\v",
    "0": b"\0",
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_DURATION_PART = re.compile(r"([0-9]+)(ns|us|ms|s|m|h|d)")
_MAX_DIGITS = 64  # more than enough for 64 bits, so that converting takes no time
MAX_NUMBER = (1 << 64) - 1


class BadLiteralError(ValueError):
    """An invalid literal; `at` is the offset of the fault in its token."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.at = at


def encode(text: str) -> bytes:
    """Encode a text as a file name; lone surrogates stand for bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def string(token: str) -> bytes:
    r"""Return the value of `"..."`; `\xff` is one byte, because file names are bytes.

    Raises BadLiteralError for an escape that the language does not have.
    """
    body = token[1:-1]
    parts: list[bytes] = []
    start = 0
    for match in _ESCAPE.finditer(body):
        parts += (encode(body[start : match.start()]), _escape(match))
        start = match.end()
    parts.append(encode(body[start:]))
    return b"".join(parts)


def _escape(match: re.Match[str]) -> bytes:
    code = match.group(1)
    if code[0] == "x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code[0] in "uU" and len(code) > 1:
        point = int(code[1:], 16)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise BadLiteralError(f"\\{code} is not a character", match.start() + 1)
        return chr(point).encode()
    if code not in _SIMPLE:
        raise BadLiteralError(f"unknown escape \\{code}; write a backslash as \\\\", match.start() + 1)
    return _SIMPLE[code]


def pattern(token: str) -> bytes:
    r"""Return the value of `~"..."` or `r"..."`, in which only `\"` is an escape."""
    return encode(token[2:-1].replace('\\"', '"'))


def integer(token: str) -> int:
    """Return the value of `42`, `0x2a`, `0o52` or `052`. Raises BadLiteralError for more than 64 bits."""
    if token[:2].lower() == "0x":
        return _in_range(token[2:], 16)
    if token[0] == "0" and len(token) > 1:
        return _in_range(token[1:].lstrip("oO") or "0", 8)
    return decimal(token)


def decimal(digits: str) -> int:
    """Return the value of decimal digits. Raises BadLiteralError for more than 64 bits."""
    return _in_range(digits, 10)


def duration(token: str) -> int:
    """Return `10s` or `1h30m` in nanoseconds; 0 for a text that is not a duration.

    Raises BadLiteralError for more than 64 bits.
    """
    if not re.fullmatch(f"({_DURATION_PART.pattern})+", token):
        return 0
    parts = _DURATION_PART.findall(token)
    return _limited(sum(_in_range(count, 10) * _NANOSECONDS[unit] for count, unit in parts))


def _in_range(digits: str, base: int) -> int:
    digits = digits.lstrip("0")
    return _limited(int(digits or "0", base) if len(digits) <= _MAX_DIGITS else MAX_NUMBER + 1)


def _limited(number: int) -> int:
    if number > MAX_NUMBER:
        raise BadLiteralError("a number has at most 64 bits")
    return number
