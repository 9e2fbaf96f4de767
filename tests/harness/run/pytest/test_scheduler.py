"""The scheduler for pytest-xdist: each test runs once, and a machine stays with one worker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.host.capacity import cpus, free_mib, workers_for
from harness.plan.cost import longest_first
from harness.plan.plan import Plan, Selectors, make
from harness.run.pytest.scheduler import MAX_DEATHS, MachineScheduling
from harness.run.times import read_times
from tests.harness.conftest import matrix_of


class Node:
    """A worker of xdist, as its scheduler uses it."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.items += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        """A worker starts an item when it knows the next one, or knows that it is the last."""
        return len(self.items) >= 2 or (bool(self.items) and self.shutting_down)


class World:
    """A scheduler with its workers; a worker that dies is replaced, as xdist does."""

    def __init__(self, items: list[str], workers: int, order: list[str]) -> None:
        config: Any = SimpleNamespace(option=SimpleNamespace(tx=["popen"] * workers))
        self.items = items
        self.sched = MachineScheduling(config, self.machine, order)
        self.ran: list[tuple[Node, str]] = []
        self.crashed: list[str] = []
        self.nodes = [self._join() for _ in range(workers)]
        self.sched.schedule()

    @staticmethod
    def machine(item: str) -> str:
        return item.split(":")[0]

    def step(self, number: int, *, die: bool) -> None:
        ready = [node for node in self.nodes if node.can_run]
        node = ready[number % len(ready)]
        if die:
            self._die(node)
        else:
            index = node.items.pop(0)
            self.ran.append((node, self.items[index]))
            self.sched.mark_test_complete(node, index)

    @property
    def busy(self) -> bool:
        return any(node.can_run for node in self.nodes)

    def _join(self) -> Node:
        node = Node()
        self.sched.add_node(node)
        self.sched.add_node_collection(node, self.items)
        return node

    def _die(self, node: Node) -> None:
        self.nodes.remove(node)
        item = self.sched.remove_node(node)
        if item:
            self.crashed.append(item)
        self.nodes.append(self._join())
        self.sched.schedule()


_items = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(
    lambda counts: [f"m{m}:{t}" for m, count in enumerate(counts) for t in range(count)]
)


@given(_items, st.integers(1, 4), st.permutations(["m0", "m1", "m2", "m3", "m4"]), st.data())
def test_each_item_is_run_or_lost_exactly_once(
    items: list[str], workers: int, order: list[str], data: st.DataObject
) -> None:
    world = World(items, workers, order)
    while world.busy:
        die = data.draw(st.sampled_from([False, False, False, True]))
        world.step(data.draw(st.integers(0, 3)), die=die)
    ended = [item for _, item in world.ran] + world.crashed + world.sched.abandoned
    assert Counter(ended) == Counter(items)
    assert world.sched.tests_finished
    assert not world.sched.has_pending
    deaths = Counter(World.machine(item) for item in world.crashed)
    assert all(deaths[World.machine(item)] >= MAX_DEATHS for item in world.sched.abandoned)


@given(_items, st.integers(1, 4), st.permutations(["m0", "m1", "m2", "m3", "m4"]), st.data())
def test_a_machine_stays_with_its_worker_and_in_order(
    items: list[str], workers: int, order: list[str], data: st.DataObject
) -> None:
    world = World(items, workers, order)
    while world.busy:
        world.step(data.draw(st.integers(0, 3)), die=False)
    owners: dict[str, set[Node]] = {}
    for node, item in world.ran:
        owners.setdefault(World.machine(item), set()).add(node)
    assert all(len(nodes) == 1 for nodes in owners.values())
    for machine in owners:
        assert [item for _, item in world.ran if World.machine(item) == machine] == [
            item for item in items if World.machine(item) == machine
        ]


def test_each_worker_gets_one_item_before_any_gets_two() -> None:
    world = World(["m0:0", "m1:0", "m2:0"], 3, [])
    assert [len(node.items) for node in world.nodes] == [1, 1, 1]


@pytest.mark.parametrize(
    ("machines", "cpus", "free", "workers"),
    [(4, 2, 24_000, 2), (4, 16, 24_000, 4), (4, 16, 1600, 2), (4, 16, 100, 1), (1, 8, 24_000, 1)],
)
def test_the_number_of_machines_fits_the_host(machines: int, cpus: int, free: int, workers: int) -> None:
    assert workers_for(machines, cpus, free) == workers


def test_free_memory_is_the_available_memory(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 99999999 kB\nMemAvailable: 2097152 kB\n")
    assert free_mib(path, tmp_path) == 2048
    assert cpus(tmp_path) >= 1


@pytest.mark.parametrize(("limit", "free"), [("max", 2048), (str(1536 << 20), 1024)])
def test_a_containers_limits_count(tmp_path: Path, limit: str, free: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 2097152 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{512 << 20}\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert free_mib(meminfo, tmp_path) == free
    assert cpus(tmp_path) == 1


@pytest.fixture
def three() -> Plan:
    return make(matrix_of("5.10", "6.1", "6.12"), Selectors(test=("truth.*",)))


def test_the_longest_goes_first_and_an_unknown_one_by_its_tests_cost(three: Plan) -> None:
    order = longest_first(three, {"5.10-auto": 1.0, "6.12-auto": 100.0})
    assert order == ["6.12-amd64", "6.1-amd64", "5.10-amd64"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": "x"}', '{"a": null}', '{"a": NaN, "b": 1e400, "c": -1}']
)
def test_unreadable_times_count_as_unknown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "times"
    path.write_text(text)
    assert read_times(path) == {}
