"""Words from a guest made safe to show: a guest may print anything, and a file may be called anything."""

from __future__ import annotations

import re

# Everything that a terminal, an XML file or a reader's eye could take for something else: control characters,
# surrogates, non-characters, and the marks that turn the direction of text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]"
)
# Underscores within a word emphasise nothing. Addresses become links by themselves, so they are broken up.
_MARKDOWN = re.compile(r"[\\`*{}\[\]()<>#|~!&@]|(?<!\w)_+|_+(?!\w)|(?<=:)/(?=/)|(?i:(?<=www))\.")


def visible(text: str) -> str:
    """`text` with what cannot be seen, or acts on a terminal, written as an escape."""
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str, limit: int = 200) -> str:
    """`text` as one visible line of at most `limit` characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def markdown(text: str, limit: int = 300) -> str:
    """`text` as one line that Markdown shows as it is: no links, no mentions, no cells, no HTML."""
    shown = _MARKDOWN.sub(lambda found: "".join(f"\\{sign}" for sign in found[0]), one_line(text, limit))
    return shown.replace("\\<", "&lt;").replace("\\&", "&amp;")
