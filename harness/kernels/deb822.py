"""The format that Debian writes its indexes and its newer apt sources in."""

from __future__ import annotations

from collections.abc import Iterator


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a deb822 text: field names in lower case, continuation lines joined by newlines."""
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
