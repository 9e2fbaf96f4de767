"""Runs `agent` without filters in the kernel: all event types are forwarded, and nothing is discarded."""

import sys

from agent import cli, pipeline
from agent.events.model import EventType
from agent.filters.approvers import Approvers, Mode
from agent.filters.discarders import Discard
from agent.rules.engine import Ruleset


def forward_all(_rules: Ruleset) -> dict[EventType, Approvers]:
    """Replaces the approvers of the rules."""
    return {kind: Approvers(Mode.FORWARD_ALL) for kind in EventType}


def nothing(*_: object) -> Discard | None:
    """Replaces the discarders of an event."""
    return None


if __name__ == "__main__":
    vars(pipeline).update(derive=forward_all, best=nothing)
    sys.exit(cli.main())
