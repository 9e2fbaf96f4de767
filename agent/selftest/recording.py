"""Converts the system calls that strace recorded into a script of the generator, to replay them.

    strace -xx -e trace=%file,%desc -o recorded PROGRAM

Each finished call of `CALLS` becomes a line of the script; other lines are left out. All paths are moved
below one folder. Descriptors become variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# One letter for each argument: f a descriptor or AT_FDCWD, p a path, t a text, n names of constants.
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
_IGNORED_FLAGS = {"O_CLOEXEC", "O_LARGEFILE", "O_NOCTTY"}  # without effect on the file
_VARIABLES = range(30)  # the player of the script uses the last ones


def script(recorded: Iterable[str], below: str) -> str:
    """Return the script of one process's calls, with paths below a folder, which is quoted for the script."""
    return "".join(f"{line}\n" for line in _Recording(below).lines(recorded))


class _Recording:
    def __init__(self, below: str) -> None:
        self._below = below
        self._open: dict[str, int] = {}  # descriptor -> variable

    def lines(self, recorded: Iterable[str]) -> Iterator[str]:
        for text in recorded:
            match = _LINE.match(text)
            if match and match[1] in CALLS:
                call, arguments, result = match.groups()
                words = self._words(CALLS[call], arguments.split(", ") if arguments else [])
                if words is not None:
                    yield " ".join((call, *words, *self._assignment(call, arguments, result)))

    def _words(self, letters: str, arguments: list[str]) -> list[str] | None:
        """Return the words of a call; None if it uses an unknown descriptor."""
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
            return "|".join(name for name in argument.split("|") if name not in _IGNORED_FLAGS) or "0"
        text = argument.strip('"')
        absolute = text.startswith(("/", "\\x2f"))
        if letter != "p" or (at_descriptor and not absolute):
            return text
        return f"{self._below}{text}" if absolute else f"{self._below}/{text}"

    def _assignment(self, call: str, arguments: str, result: str) -> list[str]:
        """Return the words that assign the descriptor of a successful open to a variable."""
        if call == "close":
            self._open.pop(arguments, None)
        if not call.startswith(("open", "creat")) or result.startswith("-"):
            return []
        free = next(number for number in _VARIABLES if number not in self._open.values())
        self._open[result] = free
        return ["->", f"${free}"]
