"""An xdist scheduler that keeps all items of a machine on one worker, the longest machine first.

pytest 9.2 with xdist 3.8 ignores `xdist_group`, and xdist's other schedulers would spread a machine over
workers. When a worker dies, the item that it was running is lost; the other items of its machine go to
another worker, once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import pytest
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

MAX_DEATHS = 2  # of workers, per machine


class MachineScheduling:
    """Implements xdist's protocol `xdist.scheduler.protocol.Scheduling`.

    `machine_of` gives the machine that an item needs, and `order` the machines from first to last. A machine
    that is `ready` to boot comes before one that is not.
    """

    def __init__(
        self,
        config: pytest.Config,
        machine_of: Callable[[str], str],
        order: Sequence[str],
        ready: Callable[[str], bool] = lambda _machine: True,
    ) -> None:
        self.numnodes = len(config.option.tx)
        self.abandoned: list[str] = []  # items that no worker will run
        self._machine_of = machine_of
        self._order = list(order)
        self._ready = ready
        self._items: list[str] | None = None
        self._collections: dict[WorkerController, list[str]] = {}
        self._pending: dict[WorkerController, list[int]] = {}
        self._queue: deque[list[int]] = deque()
        self._deaths: Counter[str] = Counter()

    @property
    def nodes(self) -> list[WorkerController]:
        """The live workers."""
        return list(self._pending)

    @property
    def collection_is_completed(self) -> bool:
        """Whether all requested workers have reported their collection."""
        return self._items is not None or len(self._collections) >= self.numnodes

    @property
    def tests_finished(self) -> bool:
        """Whether every worker has its last item, so that none needs another message."""
        idle = all(len(items) < 2 for items in self._pending.values())
        return self.collection_is_completed and not self._queue and idle

    @property
    def has_pending(self) -> bool:
        """Whether any item has not run yet."""
        return bool(self._queue) or any(self._pending.values())

    def add_node(self, node: WorkerController) -> None:
        """Add a worker."""
        self._pending[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Store a worker's collection; all are equal, because all workers read the same plan."""
        self._collections[node] = list(collection)

    def schedule(self) -> None:
        """Start, or give items to a worker that replaces a dead one."""
        if self._items is None:
            self._items = next(iter(self._collections.values()))
            self._queue.extend(self._by_machine(range(len(self._items))))
            # First one machine for each worker: `_feed` would give two machines of one item to one worker.
            for node in self.nodes[: len(self._queue)]:
                self._give(node, self._next())
        for node in self.nodes:
            self._feed(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002 - xdist's
        """Remove a finished item, and give the worker more."""
        self._pending[node].remove(item_index)
        self._feed(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Remove a dead worker, queue its other items, and return the item that it was running."""
        pending = self._pending.pop(node)
        if not pending:
            return None
        assert self._items
        crashed, rest = pending[0], pending[1:]
        self._deaths[self._machine(crashed)] += 1
        for group in reversed(self._by_machine(rest)):
            if self._deaths[self._machine(group[0])] < MAX_DEATHS:
                self._queue.appendleft(group)
            else:
                self.abandoned += [self._items[index] for index in group]
        return self._items[crashed]

    def mark_test_pending(self, item: str) -> NoReturn:
        """Not used by this scheduler."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> NoReturn:
        """Not used by this scheduler: it never takes items back."""
        raise NotImplementedError

    def _feed(self, node: WorkerController) -> None:
        # A worker starts an item only when it has the next one, so it gets its next machine one item early.
        if node.shutting_down or len(self._pending[node]) >= 2 or node not in self._collections:
            return
        if not self._queue:
            node.shutdown()
            return
        self._give(node, self._next())
        self._feed(node)

    def _next(self) -> list[int]:
        """Take the first group whose machine can boot, or the first of all: its worker waits."""
        group = next((one for one in self._queue if self._ready(self._machine(one[0]))), self._queue[0])
        self._queue.remove(group)
        return group

    def _give(self, node: WorkerController, group: list[int]) -> None:
        self._pending[node] += group
        node.send_runtest_some(group)

    def _by_machine(self, indices: Iterable[int]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(self._machine(index), []).append(index)
        known = [name for name in self._order if name in groups]
        return [groups[name] for name in [*known, *(name for name in groups if name not in known)]]

    def _machine(self, index: int) -> str:
        assert self._items is not None
        return self._machine_of(self._items[index])
