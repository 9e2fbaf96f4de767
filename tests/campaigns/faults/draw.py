"""A random run: a fault, a moment and a load, drawn from a seed."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from harness.run.cell import MAX_MACHINES
from tests.campaigns.faults.kinds import BY_NAME, KINDS, PHASES, Kind

# Seconds that a phase takes on an idle host before one was measured; a moment is a fraction of it.
USUAL_S = {"boot": 2.5, "deploy": 0.8, "load": 6.0, "test": 1.0, "between": 0.0, "close": 2.0}


class Draw(NamedTuple):
    """One random run. `fraction` of its phase passes before the fault strikes.

    `tries` is how many machines the cell may lose to the host; `cold` boots the machine and restores none.
    `lies` is how many answers of a lying agent are false.
    """

    kind: str
    phase: str
    fraction: float
    busy: bool
    tries: int = 1
    cold: bool = False
    lies: int = 1

    @property
    def fault(self) -> Kind | None:
        """Return the fault; None for a healthy run."""
        return BY_NAME.get(self.kind)

    @property
    def group(self) -> str:
        """Return the row of the confusion matrix."""
        return self.fault.group if self.fault else "none"


HEALTHY = "none"
BUSY_SHARE = 0.3  # of the runs; one on a busy host takes as long as three others

# Classes are equally likely, but for those that only a deadline ends: they take four times as long.
SHARES = [
    group
    for group in dict.fromkeys(kind.group for kind in KINDS)
    for _ in range(1 if group.endswith("hangs") else 2)
]


def drawn(seed: int, number: int) -> Draw:
    """Return random run `number` of a seed: equal at each call."""
    dice = random.Random(f"{seed}:{number}")
    group = dice.choice(SHARES)
    kind = dice.choice([kind for kind in KINDS if kind.group == group])
    phase = dice.choice(kind.phases)
    return Draw(
        kind=kind.name,
        phase=phase,
        fraction=round(dice.random(), 3),
        busy=dice.random() < BUSY_SHARE,
        tries=dice.choice((1, 1, 2)),
        cold=phase == "boot" and dice.random() < 0.5,
        lies=dice.choice((1, 99)),
    )


def healthy(seed: int, number: int) -> Draw:
    """Return a run without a fault, at a random load, with as many attempts as a user's run."""
    busy = random.Random(f"healthy {seed}:{number}").random() < BUSY_SHARE
    return Draw(HEALTHY, "after", 0.0, busy=busy, tries=MAX_MACHINES)


def loaded(data: dict[str, Any]) -> Draw:
    """Return a draw from JSON; raises ValueError for a fault or phase that does not exist."""
    draw = Draw(**data)
    if draw.kind != HEALTHY and not (draw.fault and draw.phase in PHASES):
        raise ValueError(f"no such fault: {draw.kind} in {draw.phase}")
    return draw
