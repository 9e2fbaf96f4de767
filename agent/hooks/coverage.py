"""How much of each event type is seen, in lines for people: the first thing that a running agent says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_LEVELS = ("full", "degraded", "none")


def lines(coverage: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    """One line of event types by level, then one for each thing that cannot be seen, in words."""
    kinds = {level: [kind for kind, found in coverage.items() if found == level] for level in _LEVELS}
    told = [f"{level} {_names(names, len(coverage))}" for level, names in kinds.items() if names]
    yield f"coverage: {'; '.join(told) or 'none'}"
    for words in dict.fromkeys(limits.values()):
        kinds_of = [kind for kind, found in limits.items() if found == words]
        yield f"{_names(kinds_of, len(coverage))}: {words}"


def _names(kinds: list[str], everything: int) -> str:
    return "all event types" if len(kinds) == everything else ", ".join(kinds)
