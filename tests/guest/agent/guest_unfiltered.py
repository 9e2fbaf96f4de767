"""`agent` with nothing stopped in the kernel: every event type forwarded, nothing discarded."""

import sys

from agent import cli, pipeline
from agent.events.model import EventType
from agent.filters.approvers import Approvers, Mode
from agent.filters.discarders import Discard
from agent.rules.engine import Ruleset


def forward_all(_rules: Ruleset) -> dict[EventType, Approvers]:
    """In the place of what the rules ask for."""
    return {kind: Approvers(Mode.FORWARD_ALL) for kind in EventType}


def nothing(*_: object) -> Discard | None:
    """In the place of what an event teaches."""
    return None


if __name__ == "__main__":
    vars(pipeline).update(derive=forward_all, best=nothing)
    sys.exit(cli.main())
