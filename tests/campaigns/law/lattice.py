"""A lattice: a few directories and files with few names, on which a play works again and again.

It has one to three roots that may share inode numbers, two directories below each, and one or two below
those. Rules name some of these paths; programs use all of them and move them onto each other's names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.campaigns.law.steps import Step, line, word
from tests.campaigns.law.trees import Tree

_TOPS = ("etc", "tmp", "keep", "d1")
_INNER = ("etc", "conf", "tmp", "k2")
_NAMES = ("passwd", "app.conf", "a", "x", "n1")


@dataclass(frozen=True)
class Lattice:
    """The paths that a play works on most."""

    roots: tuple[str, ...]
    tops: tuple[str, ...]
    inner: tuple[str, ...]
    names: tuple[str, ...]
    moves: float  # how often programs move, link, cover: a multiple

    @property
    def upper(self) -> tuple[str, ...]:
        """The directories below the roots."""
        return tuple(f"{root}/{top}" for root in self.roots for top in self.tops)

    @property
    def lower(self) -> tuple[str, ...]:
        """The directories below those."""
        return tuple(f"{folder}/{name}" for folder in self.upper for name in self.inner)

    @property
    def folders(self) -> tuple[str, ...]:
        """All of its directories."""
        return (*self.upper, *self.lower)

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files."""
        return tuple(f"{folder}/{name}" for folder in self.folders for name in self.names)

    def made(self, rng: random.Random) -> Iterator[Step]:
        """What makes it, in any order, so that inode numbers mean something else in each root."""
        for some in (rng.sample(self.upper, len(self.upper)), rng.sample(self.lower, len(self.lower))):
            for folder in some:
                yield line("mkdir", word(folder), "0755")
        for path in rng.sample(self.files, len(self.files)):
            yield line("mknod", word(path), "S_IFREG|0666")


def lattice(rng: random.Random, trees: tuple[Tree, ...], same: tuple[Tree, ...] = ()) -> Lattice:
    """A random one in one to three trees, often in those of them that show the `same` files."""
    roots = tuple(dict.fromkeys(tree.root for tree in trees))
    chosen = rng.sample(roots, min(len(roots), rng.choice((1, 1, 2, 2, 3))))
    if same and rng.random() < 0.5:
        chosen = [tree.root for tree in same[:3]]
    return Lattice(
        tuple(chosen),
        tuple(rng.sample(_TOPS, 2)),
        tuple(rng.sample(_INNER, rng.choice((1, 1, 2)))),
        tuple(rng.sample(_NAMES, 2)),
        rng.choice((0.05, 0.2, 0.6)),
    )
