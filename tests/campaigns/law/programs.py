"""Random programs over a world: a few operations by a few processes, as data."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.campaigns.law import heat
from tests.campaigns.law.acts import TABLE
from tests.campaigns.law.steps import Step, line, word
from tests.campaigns.law.writer import Scene, Writer

SETUP = "setup"
ON_LATTICE = 0.75  # part of the programs of a heated scene
HEAL = 25  # programs between two that mend the tree


@dataclass(frozen=True)
class Program:
    """A program by name; its steps run in a process of their own."""

    name: str
    steps: tuple[Step, ...]

    @property
    def makes(self) -> bool:
        """Return whether it only makes the trees that others use."""
        return self.name.startswith(SETUP)

    def step(self) -> Step:
        """Return it as a block of a script."""
        return line("program", self.name, body=self.steps)


def program(rng: random.Random, made_in: Scene, name: str) -> Program:
    """Return a random program."""
    trees = made_in.trees
    folders = tuple(rng.choice(rng.choice(trees).folders) for _ in range(rng.choice((1, 2, 2, 3))))
    hot = tuple(path.rsplit("/", 1)[0] for path in made_in.hot)
    writer = Writer(rng, made_in, (*folders, rng.choice(hot)))
    probed = rng.sample(made_in.hot, min(2, len(made_in.hot))) if rng.random() < 0.5 else []
    _probe(writer, probed)
    if made_in.heated and rng.random() < ON_LATTICE:
        heat.program(writer)
    else:
        weights = [often * (4 if made_in.focus & set(types.split()) else 1) for often, _, types in TABLE]
        for _, act, _ in rng.choices(TABLE, weights, k=rng.choice((1, 1, 2, 2, 3, 4))):
            act(writer)
    _probe(writer, probed)
    return Program(name, (*writer.steps, *reversed(writer.undo)))


def _probe(w: Writer, paths: Sequence[str]) -> None:
    """Return the steps that read the state of files by calls that are no events."""
    for path in paths:
        w.add("look", word(path))


def setup(rng: random.Random, made_in: Scene, name: str = SETUP) -> Program:
    """What makes, or mends, the trees of the scene; the first also copies the generator."""
    steps = [step for tree in made_in.trees for step in tree.made(rng)]
    steps += made_in.lattice.made(rng)
    if name == SETUP:
        steps += [
            line("open", word(made_in.world.generator), "O_RDONLY", into=30),
            line("open", word(made_in.tool), "O_CREAT|O_WRONLY", "0755", into=31),
            line("sendfile", "$31", "$30", "0", "8000000"),
            line("close", "$31"),
        ]
    return Program(name, tuple(steps))


def batch(rng: random.Random, made_in: Scene, count: int) -> Iterator[Program]:
    """A set-up, then programs, with mending between them."""
    yield setup(rng, made_in)
    for number in range(count):
        if number and number % HEAL == 0:
            yield setup(rng, made_in, f"{SETUP}{number}")
        yield program(rng, made_in, f"p{number}")
