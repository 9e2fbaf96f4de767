"""The contents and order of user space's writes to the maps; dictionaries and memory replace the maps."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.events.model import EventType
from agent.filters.approvers import derive
from agent.kernel import maps, path_hash, policy
from agent.kernel.maps import Approver, Discard, Discarder, Policy, Tables
from agent.rules.load import loads


class FakeMap:
    def __init__(self, log: list[str], name: str) -> None:
        self._log = log
        self._name = name
        self.rows: dict[bytes, bytes] = {}
        self.pushed: list[bytes] = []
        self.shared = mmap.mmap(-1, 1 << 19)

    def memory(self) -> mmap.mmap:
        return self.shared

    def push(self, values: Iterable[bytes]) -> None:
        self.pushed.extend(values)

    def update(self, key: bytes, value: bytes) -> None:
        self._log.append(self._name)
        self.rows[key] = value

    def lookup(self, key: bytes, value_size: int = 0) -> bytes | None:
        return self.rows.get(key)

    def delete(self, key: bytes) -> bool:
        self._log.append(f"-{self._name}")
        return self.rows.pop(key, None) is not None

    def keys(self) -> Iterator[bytes]:
        return iter(list(self.rows))


NAMES = (
    "free_slots",
    "free_operations",
    "config",
    "policies",
    "approvers",
    "discarders",
    "generation",
    "counts",
    "accounts",
)


class Kernel:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.maps = {name: FakeMap(self.log, name) for name in NAMES}
        self.tables = Tables(self.maps, agent=77, writers={})  # type: ignore[arg-type]
        self.log.clear()

    def config(self) -> tuple[int, ...]:
        return maps.CONFIG.unpack_from(self.maps["config"].shared)

    def policy(self, bank: int, kind: EventType) -> Policy:
        where = (32 * bank + kind) * maps.POLICY.size
        return Policy(*maps.POLICY.unpack_from(self.maps["policies"].shared, where))

    def approvers(self, bank: int) -> dict[Approver, int]:
        rows = {maps.APPROVER.unpack(key): value for key, value in self.maps["approvers"].rows.items()}
        return {
            Approver(value, kind): int.from_bytes(mask, "little")
            for (value, kind, at), mask in rows.items()
            if at == bank
        }


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


PATH = Approver(1, maps.BY_PATH)
OTHER = Approver(2, maps.BY_PATH)


def test_the_agent_is_known_before_the_first_event() -> None:
    assert Kernel().config() == (0, 77, 0, 0)


def test_a_policy_becomes_active_after_its_last_value(kernel: Kernel) -> None:
    """Until then the earlier policy stays active."""
    serials = []
    approvers = kernel.maps["approvers"]
    write = approvers.update

    def update(key: bytes, value: bytes) -> None:
        serials.append((kernel.config()[0], kernel.policy(1, EventType.OPEN)))
        write(key, value)

    approvers.update = update  # type: ignore[method-assign]
    wanted = Policy(maps.APPROVE, maps.BY_PATH)
    assert kernel.tables.set_policy({EventType.OPEN: wanted}, {PATH: 1}) == 1
    assert serials == [(0, Policy(0))]
    assert kernel.config() == (1, 77, 0, 0)
    assert kernel.policy(1, EventType.OPEN) == wanted
    assert kernel.approvers(1) == {PATH: 1}


def test_directories_are_remembered_only_while_the_policy_permits_it(kernel: Kernel) -> None:
    """What was noted under a policy that did not permit it has that policy's serial."""
    kernel.tables.set_policy({}, {}, remembers=True)
    assert kernel.config() == (1, 77, 0, 1)
    kernel.tables.set_policy({}, {})
    assert kernel.config() == (2, 77, 0, 0)


def test_a_scope_changes_nothing_else(kernel: Kernel) -> None:
    kernel.tables.set_policy({}, {})
    kernel.tables.set_scope(5)
    assert kernel.config() == (1, 77, 5, 0)


def test_the_active_bank_is_not_changed(kernel: Kernel) -> None:
    kernel.tables.set_policy({}, {PATH: 1})
    kernel.tables.set_policy({}, {OTHER: 1})
    assert (kernel.approvers(0), kernel.approvers(1)) == ({OTHER: 1}, {PATH: 1})


def test_a_reused_bank_has_no_old_values(kernel: Kernel) -> None:
    for approvers in ({PATH: 1, OTHER: 1}, {}, {OTHER: 2}):
        kernel.tables.set_policy({}, approvers)
    assert kernel.approvers(1) == {OTHER: 2}


def test_a_policy_that_does_not_fit_leaves_the_next_one_whole(kernel: Kernel) -> None:
    """The bank is then half written, so the next policy writes its old values again."""
    kernel.tables.set_policy({}, {PATH: 1})
    kernel.tables.set_policy({}, {PATH: 1})
    approvers = kernel.maps["approvers"]
    write, room = approvers.update, iter(range(5))

    def update(key: bytes, value: bytes) -> None:
        if next(room, None) is None:
            raise KernelError("update approvers: Argument list too long (E2BIG)")
        write(key, value)

    approvers.update = update  # type: ignore[method-assign]
    with pytest.raises(KernelError):
        kernel.tables.set_policy({}, {Approver(value, maps.BY_PATH): 1 for value in range(10, 20)})
    approvers.update = write  # type: ignore[method-assign]
    assert kernel.config()[0] == 2
    kernel.tables.set_policy({}, {PATH: 1})
    assert kernel.config()[0] == 3
    assert kernel.approvers(1) == {PATH: 1}


def test_losses_are_added_up_by_user(kernel: Kernel) -> None:
    """A user may have several accounts: root has one for each cgroup."""
    for index, (lost, uid) in {0: (3, 7), 9: (5, 0), maps.ACCOUNTS - 1: (2, 0), 4: (0, 8)}.items():
        maps.ACCOUNT.pack_into(
            kernel.maps["accounts"].shared, index * maps.ACCOUNT.size, 1, lost, 0, 0, uid, 0
        )
    assert kernel.tables.losses() == {7: 3, 0: 7}


def test_types_without_a_policy_are_rejected(kernel: Kernel) -> None:
    kernel.tables.set_policy({EventType.OPEN: Policy(maps.FORWARD_ALL)}, {})
    modes = {kind: kernel.policy(1, kind).mode for kind in EventType}
    assert modes.pop(EventType.OPEN) == maps.FORWARD_ALL
    assert set(modes.values()) == {maps.REJECT_ALL}


def test_counts_are_summed_over_processors(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "counted_cpus", lambda: 3)
    kernel = Kernel()
    for cpu in range(3):
        where = (32 * cpu + EventType.CHMOD) * maps.COUNTS.size
        maps.COUNTS.pack_into(kernel.maps["counts"].shared, where, *range(9))
    assert kernel.tables.counts()[EventType.CHMOD] == maps.KernelCounts(*(3 * i for i in range(9)))
    assert kernel.tables.counts()[EventType.CHOWN] == maps.KernelCounts()


@pytest.mark.parametrize(("possible", "counted"), [("0", 1), ("0-3", 4), ("0,2-5", 6), ("0-511", 64)])
def test_each_cpu_counts(
    possible: str, counted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each CPU number has counters of its own, up to the size of the map."""
    (tmp_path / "possible").write_text(f"{possible}\n")
    monkeypatch.setattr(maps, "_POSSIBLE", tmp_path / "possible")
    assert maps.counted_cpus() == counted


def test_hash_tables_are_written_through_the_given_writers(kernel: Kernel) -> None:
    """By the map itself only if no other writer was passed."""
    table = FakeMap(kernel.log, "elsewhere")
    tables = Tables(kernel.maps, agent=77, writers={"approvers": table})  # type: ignore[arg-type]
    tables.set_policy({}, {PATH: 1})
    tables.set_policy({}, {})
    tables.set_policy({}, {})
    assert not kernel.maps["approvers"].rows
    assert kernel.log[-2:] == ["elsewhere", "-elsewhere"]


def test_discards_are_voided_by_a_step_that_no_program_makes(kernel: Kernel) -> None:
    """A program may advance the generation at the same time, so the next number is not enough."""
    before = kernel.tables.generation()
    kernel.tables.void_discards()
    assert kernel.tables.generation() - before > 1000


def test_discards_read_back_as_written(kernel: Kernel) -> None:
    discarder, discard = Discarder(5, 7, 1), Discard(3, 10**18, 1, 2, 9)
    kernel.tables.insert_discard(discarder, discard)
    assert list(kernel.tables.discards()) == [(discarder, discard)]


class TestPolicy:
    """The translation of approvers to policies and values."""

    @staticmethod
    def of(*expressions: str) -> tuple[dict[EventType, Policy], dict[Approver, int]]:
        rules = ", ".join(f"{{id: r{n}, expression: '{text}'}}" for n, text in enumerate(expressions))
        approvers = derive(loads(f"rules: [{rules}]"))
        return policy.policies(approvers), policy.values(approvers)

    def test_a_path(self) -> None:
        policies, values = self.of('chmod.file.path == "/etc/passwd"')
        assert policies[EventType.CHMOD].kinds == maps.BY_PATH
        assert values == {Approver(path_hash.path(b"/etc/passwd"), maps.BY_PATH): EventType.CHMOD.mask}
        assert policies[EventType.RMDIR].mode == maps.REJECT_ALL

    def test_one_value_for_several_events(self) -> None:
        _, values = self.of('chown.file.path == "/etc/x"', 'chmod.file.path == "/etc/x"')
        assert list(values.values()) == [EventType.CHOWN.mask | EventType.CHMOD.mask]

    def test_a_path_of_a_rule_on_writing(self) -> None:
        """It has its own bit, and adds no kind of name for reads."""
        policies, values = self.of('open.file.path == "/etc/x" && open.flags & O_WRONLY > 0')
        assert list(values.values()) == [EventType.OPEN.mask << maps.WRITING]
        assert policies[EventType.OPEN].kinds & maps.BY_PATH
        assert not policies[EventType.OPEN].read_kinds & maps.BY_PATH


def test_everything_that_no_processor_or_thread_owns_is_free_at_the_start() -> None:
    """Each shared slot and operation once."""
    kernel = Kernel()
    for name, indexes in (("free_slots", maps.SHARED_SLOTS), ("free_operations", maps.SHARED_OPERATIONS)):
        assert [struct.unpack("=I", value)[0] for value in kernel.maps[name].pushed] == [*indexes]
