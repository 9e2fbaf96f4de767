"""Finds the parameters of the kernel's command line that the kernel refused, from its messages.

Kernels before 5.14 print nothing about an unknown name. No kernel prints anything about an unknown name with
a dot, because it may be a parameter of a module that is loaded later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.console.signatures import stamped

# The message since 5.15, the message of 5.14.
_UNKNOWN = (
    re.compile(r'^Unknown kernel command line parameters "(.*)", will be passed to user space'),
    re.compile(r"^Unknown command line parameters: (.*)"),
)
# The messages of parse_args() and of early parameters about a value.
_WRONG = (
    re.compile(r"^[^:]+: `.*' (?:invalid|too large) for parameter `([^']+)'"),
    re.compile(r"^[^:]+: Unknown parameter `([^']+)'"),
    re.compile(r"^Malformed early option '([^']+)'"),
)


def refused(lines: Iterable[bytes], args: str) -> list[str]:
    """Return the words of the command line `args` that the kernel refused, according to its console."""
    unknown: set[str] = set()
    wrong: set[str] = set()
    for line in lines:
        text = (stamped(line) or b"").decode("utf-8", "backslashreplace").rstrip()
        unknown.update(word for words in _matches(_UNKNOWN, text) for word in words.split())
        wrong.update(_canonical(name) for name in _matches(_WRONG, text))
    words = args.replace('"', "").split()
    return [word for word in words if word in unknown or _canonical(word.partition("=")[0]) in wrong]


def _matches(patterns: Iterable[re.Pattern[str]], text: str) -> Iterator[str]:
    return (match[1] for match in (pattern.search(text) for pattern in patterns) if match)


def _canonical(name: str) -> str:
    """The kernel treats `-` and `_` in names as equal."""
    return name.replace("-", "_")
