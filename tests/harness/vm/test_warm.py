"""Saved machines: restored if possible, dropped if damaged, and never an obstacle to a boot."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfrastructureError
from harness.host.cache import Cache
from harness.host.progress import Event
from harness.vm import savefile
from harness.vm.domain import MachineSpec
from harness.vm.hypervisor import LifeEvent, PortTakenError, StartError
from harness.vm.life import State
from harness.vm.machine import Machine
from harness.vm.snapshot import KIND, Snapshot, Snapshots
from harness.vm.warm import Starter
from tests.harness.guest.fake import FakeGuest
from tests.harness.vm.fake import FakeDomain, FakeHypervisor, Play
from tests.harness.vm.specs import machine_spec

READY = "fim-init: ready"
STREAM = b"QEVM" + bytes(range(256)) * 9000


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    """A spec whose files exist."""
    for name in ("kernel", "initramfs", "root"):
        (tmp_path / name).write_text(name)
    files = {name: tmp_path / name for name in ("kernel", "initramfs", "root")}
    return machine_spec(tmp_path / "out", **files)


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    """An empty store."""
    return Snapshots("qemu 1", Cache(tmp_path / "cache"))


class World:
    """A hypervisor whose domains boot, and the reported events."""

    def __init__(self, tmp_path: Path, spec: MachineSpec, snapshots: Snapshots) -> None:
        self.events: list[Event] = []
        self.play: Play = lambda domain: domain.say(READY)
        self.hypervisor = FakeHypervisor(tmp_path, lambda domain: self.play(domain))
        self._spec = spec
        self._snapshots = snapshots
        self.machines: list[Machine] = []

    def starter(self) -> Starter:
        return Starter(self.machine, self._snapshots, self.events.append)

    def machine(self) -> Machine:
        made = Machine(self._spec, self.hypervisor, connect=lambda _endpoint, _seconds: FakeGuest())
        self.machines.append(made)
        return made


@pytest.fixture
def world(tmp_path: Path, spec: MachineSpec, snapshots: Snapshots) -> Iterator[World]:
    """A world whose machines end with the test."""
    made = World(tmp_path, spec, snapshots)
    yield made
    for machine in made.machines:
        machine.destroy()


def test_first_is_cold_then_warm(world: World) -> None:
    """The second machine continues where the first was saved, with the console of the first."""
    assert world.starter().boot(10) == "cold"
    second = world.starter()
    assert second.boot(10) == "warm"
    assert world.hypervisor.restored == [world.hypervisor.domains[0].name]
    assert 'append="on"' in world.hypervisor.domains[1].xml
    assert second.machine.state is State.READY
    assert second.machine.spec.console.read_text().count(READY) == 2
    assert world.events == []


def test_snapshot_that_does_not_restore(world: World) -> None:
    """It is dropped and reported, and the machine is booted and saved again."""
    world.starter().boot(10)

    def refuse_once(domain: FakeDomain) -> None:
        world.play = lambda domain: domain.say(READY)
        raise StartError("load of migration failed")

    world.play = refuse_once
    assert world.starter().boot(10) == "cold"
    assert [str(line).partition(", booting: ")[2] for line in world.events] == ["load of migration failed"]
    assert world.starter().boot(10) == "warm"


@pytest.mark.parametrize(
    "error", [PortTakenError("Could not set up host forwarding"), InfrastructureError("no space left")]
)
def test_snapshot_that_is_not_to_blame(
    world: World, monkeypatch: pytest.MonkeyPatch, error: InfrastructureError
) -> None:
    """It is kept if the cause is a used port or a full disk."""
    world.starter().boot(10)

    def fail(_self: Machine, _snapshot: Snapshot | None = None) -> None:
        raise error

    started = Machine.start
    monkeypatch.setattr(Machine, "start", fail)
    with pytest.raises(type(error)):
        world.starter().boot(10)
    assert world.events == []
    monkeypatch.setattr(Machine, "start", started)
    assert world.starter().boot(10) == "warm"


def test_restored_machine_that_dies(world: World) -> None:
    """A snapshot whose machine does not answer is dropped as well."""
    world.starter().boot(10)

    def die_once(domain: FakeDomain) -> None:
        world.play = lambda domain: domain.say(READY)
        domain.end(LifeEvent.FAILED)

    world.play = die_once
    assert world.starter().boot(10) == "cold"
    assert len(world.events) == 1


def test_damaged_snapshot_is_not_restored(world: World, tmp_path: Path) -> None:
    """The stored files are verified before they are used."""
    world.starter().boot(10)
    [memory] = (tmp_path / "cache" / KIND).glob("*/content/memory.zst")
    memory.write_bytes(b"damaged")
    fresh = Starter(world.machine, Snapshots("qemu 1", Cache(tmp_path / "cache")), world.events.append)
    assert fresh.boot(10) == "cold"
    assert world.hypervisor.restored == []


def test_machine_that_cannot_be_saved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a usable machine all the same."""

    def fail(_self: FakeDomain, _memory: Path) -> None:
        raise InfrastructureError("no")

    monkeypatch.setattr(FakeDomain, "save", fail)
    assert world.starter().boot(10) == "cold"
    assert world.events == ["the machine was not saved: no"]


def test_without_snapshots_all_is_cold(world: World) -> None:
    """With `--cold` nothing is restored and nothing is saved."""
    for _ in range(2):
        assert Starter(world.machine, None).boot(10) == "cold"
    assert world.hypervisor.restored == []


# Another value for each field of a machine; `OTHER` stands for another file.
OTHER = Path("other")
CHANGES: dict[str, Any] = {
    "kernel": OTHER,
    "initramfs": OTHER,
    "root": OTHER,
    "disks": (OTHER,),
    "cmdline": "quiet",
    "arch": "arm64",
    "kind": "kvm",
    "memory_mib": 1,
    "vcpus": 2,
    "gdb_port": 1234,
    "icount": True,
    "state_mib": 1,
}


def test_the_changes_are_of_every_field_but_the_folder() -> None:
    """A new field needs a changed value here, so that the next test tries it."""
    assert {*CHANGES, "workdir"} == {field.name for field in fields(MachineSpec)}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_another_machine(
    spec: MachineSpec, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A saved machine is used only for the same files and shape, in any folder."""
    monkeypatch.chdir(spec.kernel.parent)
    OTHER.write_text("other")
    snapshots.keep(spec, write)
    assert snapshots.find(replace(spec, workdir=Path("/elsewhere")))
    assert not snapshots.find(replace(spec, **{change: CHANGES[change]}))


def test_another_host_restores_nothing(spec: MachineSpec, tmp_path: Path) -> None:
    """Neither does another QEMU."""
    Snapshots("qemu 1", Cache(tmp_path)).keep(spec, write)
    assert not Snapshots("qemu 2", Cache(tmp_path)).find(spec)


def write(snapshot: Snapshot) -> None:
    snapshot.memory.write_bytes(b"memory")
    snapshot.console.write_bytes(b"console")


def saved(path: Path, xml: bytes = b"<domain/>\0") -> Path:
    header = struct.pack("=16s5I56x", b"LibvirtQemudSave", 2, len(xml), 1, 0, 0)
    path.write_bytes(header + xml + STREAM)
    return path


def test_stream_gets_another_header(tmp_path: Path) -> None:
    """The output of the pipe is a save file of the new XML."""
    packed = tmp_path / "packed"
    savefile.pack(saved(tmp_path / "saved", b"<of-another-run/>\0"), packed)
    with savefile.fed(packed, "<domain/>", tmp_path / "pipe"):
        read = (tmp_path / "pipe").read_bytes()
    assert read == saved(tmp_path / "expected").read_bytes()
    assert not (tmp_path / "pipe").exists()


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    """It delays no other worker."""
    savefile.pack(saved(tmp_path / "saved"), tmp_path / "packed")
    with savefile.fed(tmp_path / "packed", "<domain/>", tmp_path / "pipe"):
        pass
    assert not (tmp_path / "pipe").exists()


def test_reader_that_goes_away(tmp_path: Path) -> None:
    """QEMU does so if it refuses the file."""
    savefile.pack(saved(tmp_path / "saved"), tmp_path / "packed")
    with savefile.fed(tmp_path / "packed", "<domain/>", tmp_path / "pipe"):
        descriptor = os.open(tmp_path / "pipe", os.O_RDONLY)
        assert os.read(descriptor, 100)
        os.close(descriptor)
    assert not (tmp_path / "pipe").exists()


def test_cut_stream_ends_early(tmp_path: Path) -> None:
    """The reader sees the end, and nothing waits."""
    savefile.pack(saved(tmp_path / "saved"), tmp_path / "packed")
    whole = (tmp_path / "packed").read_bytes()
    (tmp_path / "packed").write_bytes(whole[: len(whole) // 2])
    with savefile.fed(tmp_path / "packed", "<domain/>", tmp_path / "pipe"):
        assert len((tmp_path / "pipe").read_bytes()) < len(STREAM)


def test_an_unknown_save_file_is_refused(tmp_path: Path) -> None:
    """Another version of libvirt may use another format."""
    (tmp_path / "saved").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a save file"):
        savefile.pack(tmp_path / "saved", tmp_path / "packed")
