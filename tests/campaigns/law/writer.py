"""The scene that programs and rules of a play share, and the writer of one program."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.campaigns.law.lattice import Lattice, lattice
from tests.campaigns.law.steps import Step, line, word
from tests.campaigns.law.trees import NEW, ODD, Tree, respell
from tests.campaigns.law.world import Place, World

HEATED = 0.65  # part of the plays


@dataclass(frozen=True)
class Scene:
    """The common parts of the programs and rules of one batch."""

    world: World
    places: tuple[Place, ...]
    hot: tuple[str, ...]  # files that rules name more often than others
    lattice: Lattice
    heated: bool = False  # rules and programs are mostly about the lattice
    focus: frozenset[str] = frozenset()  # types of events that rules are about: programs make more of them

    @property
    def tool(self) -> str:
        """Return a copy of the generator: programs may do anything to it."""
        return f"{self.places[0].path}/bin/tool"

    @property
    def trees(self) -> tuple[Tree, ...]:
        return tuple(Tree(place.path) for place in self.places)


def scene(rng: random.Random, world: World, kinds: Sequence[str] = ()) -> Scene:
    """Return one or two of the world's places, often with one that shows the same files."""
    usable = [place for place in world.places if not kinds or place.kind in kinds]
    places = rng.sample(usable, min(len(usable), rng.choice((1, 1, 2))))
    shown = {path for place in places for path in (place.path, place.facts.get("of"))}
    related = [
        place
        for place in usable
        if place not in places and (place.path in shown or place.facts.get("of") in shown)
    ]
    more = rng.sample(related, min(len(related), rng.choice((1, 1, 2))))
    same = [(one, other) for one in more for other in places if _shows(one, other) or _shows(other, one)]
    places += more
    trees = tuple(Tree(place.path) for place in places)
    worked = lattice(rng, trees, tuple(Tree(place.path) for place in rng.choice(same or [()])))
    heated = rng.random() < HEATED
    files = [path for tree in trees for path in (*tree.files, *tree.folders)]
    hot = rng.sample(files, rng.randint(1, 2) if heated else rng.randint(3, 8))
    hot += rng.sample((*worked.files, *worked.folders), rng.randint(3, 5) if heated else 2)
    return Scene(world, tuple(places), tuple(hot), worked, heated)


def _shows(one: Place, other: Place) -> bool:
    """Return whether a place shows the files of another one, or a copy of them."""
    return one.facts.get("of") == other.path


@dataclass
class Writer:
    """Writes one program."""

    rng: random.Random
    scene: Scene
    folders: tuple[str, ...]  # where this program works
    steps: list[Step] = field(default_factory=list)
    known: list[str] = field(default_factory=list)  # names that it made
    undo: list[Step] = field(default_factory=list)
    vars: int = 0
    cwd: str = ""
    depth: int = 0

    def var(self) -> int:
        """Return a fresh variable; the last ones are reused."""
        self.vars += 1
        return min(self.vars, 29)

    def add(self, *words: str | int, into: int | None = None, body: Sequence[Step] = ()) -> None:
        self.steps.append(line(*words, into=into, body=body))

    def target(self) -> str:
        """Return an object: more often one of a rule, or one beside it, than any."""
        rng = self.rng
        trees = self.scene.trees
        if self.known and rng.random() < 0.25:
            return rng.choice(self.known)
        if rng.random() < 0.45:
            return rng.choice(self.scene.hot)
        if rng.random() < 0.6:
            folder = rng.choice(self.folders)
            beside = [path for tree in trees for path in tree.files if path.rsplit("/", 1)[0] == folder]
            if beside:
                return rng.choice(beside)
        return rng.choice(rng.choice(trees).files)

    def folder(self) -> str:
        """Return a directory."""
        return self.rng.choice(
            self.folders if self.rng.random() < 0.7 else self.rng.choice(self.scene.trees).folders
        )

    def fresh(self) -> str:
        """Return a name that mostly does not exist."""
        name = self.rng.choice(ODD) if self.rng.random() < 0.2 else self.rng.choice(NEW)
        path = f"{self.folder()}/{name}"
        self.known.append(path)
        return path

    def any(self) -> str:
        """Return an object, or a name that does not exist."""
        return self.fresh() if self.rng.random() < 0.15 else self.target()

    def spelled(self, path: str) -> str:
        """Return the path as a word, in one of its spellings."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.62:
            return word(path)
        if choice < 0.72:
            return word(respell(path, tuple(tree.root for tree in self.scene.trees)) or path)
        if choice < 0.78:
            return word(f"/proc/self/root{path}")
        head, _, last = path.rpartition("/")
        if choice < 0.82:
            return word(f"{head}/../{head.rpartition('/')[2]}/{last}")
        if choice < 0.86:
            return word(f"{head}//./{last}")
        if choice < 0.90 and self.cwd and path.startswith(f"{self.cwd}/"):
            return word(f"/proc/self/cwd/{path.removeprefix(f'{self.cwd}/')}")
        if self.cwd and path.startswith(f"{self.cwd}/"):
            return word(path.removeprefix(f"{self.cwd}/"))
        return word(path)

    def linked(self, path: str) -> str:
        """Return a new link to the path; half of the time by a link of the tree."""
        link = self.fresh()
        self.add("symlink", word(path), word(link))
        return link

    def at(self, path: str) -> tuple[str, str]:
        """Return a descriptor of a directory and a path below it, as two words."""
        head, _, last = path.rpartition("/")
        if self.rng.random() < 0.5 or not head:
            return "AT_FDCWD", self.spelled(path)
        fd = self.var()
        self.add("open", word(head), "O_PATH|O_DIRECTORY", into=fd)
        return f"${fd}", word(last)
