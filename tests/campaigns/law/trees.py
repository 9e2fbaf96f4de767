"""The tree that programs find below each place, and the names that they use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.campaigns.law.steps import Step, line, word

FOLDERS = (
    ("etc", "0755"),
    ("keep", "0755"),
    ("keep/conf", "0755"),
    ("keep/conf/deep", "0755"),
    ("tmp", "0777"),
    ("priv", "0700"),
    ("bin", "0755"),
    ("d1", "0755"),
    ("d1/etc", "0755"),
)
FILES = (
    ("etc/passwd", "0644"),
    ("etc/shadow", "0600"),
    ("etc/app.conf", "0644"),
    ("keep/conf/a", "0644"),
    ("keep/conf/b.log", "0666"),
    ("keep/conf/deep/a", "0644"),
    ("tmp/x", "0666"),
    ("tmp/app.conf", "0666"),
    ("priv/key", "0600"),
    ("bin/noexec", "0644"),
    ("bin/junk", "0755"),
    ("d1/etc/a", "0644"),
    ("d1/x", "0644"),
)
LINKS = (
    ("keep/shadow", "../etc/shadow"),
    ("tmp/passwd", "{root}/etc/passwd"),
    ("dl", "keep"),
    ("etc/dc", "{root}/keep/conf"),
    ("tmp/loop", "loop"),
    ("tmp/gone", "{root}/tmp/nothing"),
)
# Names that nothing else uses: hostile ones, and those that differ from others by a byte.
ODD = (
    "new\nline",
    'quo"te',
    "back\\slash",
    "a\udcff\udcfe",
    "%d",
    " ",
    "\x1b[31m",
    "é",
    "n" * 255,
    "...",
    "a b",
    "*",
    "passwd ",
)
MEMFDS = ("law", "runme", "x")
NEW = ("n1", "n2", "x", "a", "app.conf", "shadow", "passwd")

# The other spellings of a path: a link of the tree, and what it stands for.
ALIASES = (("dl", "keep"), ("etc/dc", "keep/conf"))


@dataclass(frozen=True)
class Tree:
    """The objects of one place by their absolute paths."""

    root: str

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"{self.root}/{name}" for name, _ in FILES)

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(f"{self.root}/{name}" for name, _ in FOLDERS)

    def made(self, rng: random.Random) -> Iterator[Step]:
        """What makes the tree, and mends it where it exists in part; in an order of its own."""
        for name, mode in sorted(rng.sample(FOLDERS, len(FOLDERS)), key=lambda one: one[0].count("/")):
            yield line("mkdir", word(f"{self.root}/{name}"), mode)
        for name, mode in rng.sample(FILES, len(FILES)):
            yield line("mknod", word(f"{self.root}/{name}"), f"S_IFREG|{mode}")
        for name, target in LINKS:
            yield line("symlink", word(target.format(root=self.root)), word(f"{self.root}/{name}"))


def respell(path: str, roots: tuple[str, ...]) -> str | None:
    """Return the path by a link of its tree; None if no link leads there."""
    for root in roots:
        for link, target in ALIASES:
            if path.startswith(f"{root}/{target}/"):
                return f"{root}/{link}/{path.removeprefix(f'{root}/{target}/')}"
    return None
