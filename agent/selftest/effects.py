"""What the agent must see of each call in a script: the generator's side of the ledger, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from agent.events import EventType
from agent.selftest.workload import LineReport

_ONE_EVENT: dict[str, EventType] = {
    "open": EventType.OPEN,
    "openat": EventType.OPEN,
    "openat2": EventType.OPEN,
    "creat": EventType.OPEN,
    "unlink": EventType.UNLINK,
    "rename": EventType.RENAME,
    "renameat": EventType.RENAME,
    "renameat2": EventType.RENAME,
}


def generated(reports: Iterable[LineReport]) -> Counter[EventType]:
    """Events by type: a call that the kernel refused is an event like one that it granted."""
    total: Counter[EventType] = Counter()
    for report in reports:
        if report.call in _ONE_EVENT:
            total[_ONE_EVENT[report.call]] += report.ok + report.failed
    return total
