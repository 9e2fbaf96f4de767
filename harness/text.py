"""Makes hostile text, such as guest output and file names, safe to show in a terminal, XML and Markdown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Characters that act on a terminal, are forbidden in XML, or deceive a reader: control characters,
# surrogates, non-characters, and marks that change the direction of text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]"
)
# Underscores within a word are not markup. Addresses become links without markup, so they are broken up.
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
_MARKDOWN = re.compile(r"[\\`*{}\[\]()<>#|~!&@]|(?<!\w)_+|_+(?!\w)|(?<=:)/(?=/)|(?i:(?<=www))\.")


def visible(text: str) -> str:
    """`text` with each unsafe character as an escape; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text  # as most texts of a report are; the search takes three times as long
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def is_utf8(text: str) -> bool:
    """Whether `text` has no lone surrogate, which stands for a byte of a name that is not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def one_line(text: str, limit: int = 200) -> str:
    """`text` as one visible line of at most `limit` characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return `1 test`, `0 tests` or `1,000 tests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(word: str, known: Iterable[str], count: int = 1) -> str:
    """`did you mean 'x'?` with up to `count` of the `known` words that are similar, or "" if none is."""
    close = difflib.get_close_matches(word, list(known), n=count, cutoff=0.6 if count == 1 else 0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def markdown(text: str, limit: int = 300) -> str:
    """`text` as one line that Markdown shows literally: without links, mentions, table cells or HTML."""
    return _MARKDOWN.sub(
        lambda match: "".join(_ENTITIES.get(sign, f"\\{sign}") for sign in match[0]), one_line(text, limit)
    )
