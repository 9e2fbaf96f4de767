"""Words of the kernel's command line that the kernel refused, by what it printed about them.

Kernels before 5.14 print nothing about a name that they do not know. No kernel does about a name with a dot,
which may be a parameter of a module that is loaded later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.console.signatures import stamped

# Since 5.15, in 5.14, and what parse_args() and early parameters print about a value.
_UNKNOWN = (
    re.compile(r'^Unknown kernel command line parameters "(.*)", will be passed to user space'),
    re.compile(r"^Unknown command line parameters: (.*)"),
)
_WRONG = (
    re.compile(r"^[^:]+: `.*' (?:invalid|too large) for parameter `([^']+)'"),
    re.compile(r"^[^:]+: Unknown parameter `([^']+)'"),
    re.compile(r"^Malformed early option '([^']+)'"),
)


def refused(lines: Iterable[bytes], args: str) -> list[str]:
    """Return those words of `args` that a kernel whose console has these `lines` refused, in their order."""
    unknown: set[str] = set()
    wrong: set[str] = set()
    for line in lines:
        text = (stamped(line) or b"").decode("utf-8", "backslashreplace").rstrip()
        unknown.update(word for words in _found(_UNKNOWN, text) for word in words.split())
        wrong.update(_same(name) for name in _found(_WRONG, text))
    words = args.replace('"', "").split()
    return [word for word in words if word in unknown or _same(word.partition("=")[0]) in wrong]


def _found(patterns: Iterable[re.Pattern[str]], text: str) -> Iterator[str]:
    return (match[1] for match in (pattern.search(text) for pattern in patterns) if match)


def _same(name: str) -> str:
    """The kernel takes `-` and `_` in names for the same."""
    return name.replace("-", "_")
