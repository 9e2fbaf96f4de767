"""A recorded workload as a script of the generator: what a program did to files, done again elsewhere.

    strace -xx -e trace=%file,%desc -o recorded PROGRAM

Each line that names a call of `CALLS` becomes a line of the script; others, and those that were not finished,
are left out. Paths lie below a folder then. Descriptors become variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Letters as the words come: f a descriptor or AT_FDCWD, p a path, t a text, n names of numbers.
CALLS = {
    "open": "pnn",
    "openat": "fpnn",
    "creat": "pn",
    "close": "f",
    "unlink": "p",
    "unlinkat": "fpn",
    "rename": "pp",
    "renameat": "fpfp",
    "renameat2": "fpfpn",
    "mkdir": "pn",
    "mkdirat": "fpn",
    "rmdir": "p",
    "link": "pp",
    "linkat": "fpfpn",
    "symlink": "tp",
    "symlinkat": "tfp",
    "truncate": "pn",
    "ftruncate": "fn",
    "chmod": "pn",
    "fchmod": "fn",
    "fchmodat": "fpn",
    "chown": "pnn",
    "fchown": "fnn",
}

_LINE = re.compile(r"^(?:\[pid +\d+\] +|\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_HERE = "AT_FDCWD"
_MEANINGLESS = {"O_CLOEXEC", "O_LARGEFILE", "O_NOCTTY"}  # to the file
_VARIABLES = range(30)  # the last ones belong to whoever plays the script


def script(recorded: Iterable[str], below: str) -> str:
    """The script of what one process did, with its paths below a folder, which is a word of the script."""
    return "".join(f"{line}\n" for line in _Recording(below).lines(recorded))


class _Recording:
    def __init__(self, below: str) -> None:
        self._below = below
        self._open: dict[str, int] = {}  # descriptor -> variable

    def lines(self, recorded: Iterable[str]) -> Iterator[str]:
        for text in recorded:
            found = _LINE.match(text)
            if found and found[1] in CALLS:
                words = self._words(CALLS[found[1]], found[2].split(", ") if found[2] else [])
                if words is not None:
                    yield " ".join((found[1], *words, *self._kept(found[1], found[2], found[3])))

    def _words(self, letters: str, arguments: list[str]) -> list[str] | None:
        """The words of a call; None where it is about a descriptor of which nothing is known."""
        words = []
        at_descriptor = False
        for letter, argument in zip(letters, arguments, strict=False):
            if letter == "f" and argument != _HERE:
                if argument not in self._open:
                    return None
                words.append(f"${self._open[argument]}")
            else:
                words.append(self._word(letter, argument, at_descriptor))
            at_descriptor = letter == "f" and argument != _HERE
        return words

    def _word(self, letter: str, argument: str, at_descriptor: bool) -> str:
        if letter == "n":
            return "|".join(name for name in argument.split("|") if name not in _MEANINGLESS) or "0"
        text = argument.strip('"')
        absolute = text.startswith(("/", "\\x2f"))
        if letter != "p" or (at_descriptor and not absolute):
            return text
        return f"{self._below}{text}" if absolute else f"{self._below}/{text}"

    def _kept(self, call: str, arguments: str, result: str) -> list[str]:
        """Where the result is kept: that of an open which the kernel granted."""
        if call == "close":
            self._open.pop(arguments, None)
        if not call.startswith(("open", "creat")) or result.startswith("-"):
            return []
        free = next(number for number in _VARIABLES if number not in self._open.values())
        self._open[result] = free
        return ["->", f"${free}"]
