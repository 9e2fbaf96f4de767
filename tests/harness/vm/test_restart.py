"""A failed start is repeated if the accelerator may be at fault, but never to hide a kernel's fault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import acceleration, canary
from harness.host.acceleration import Accelerator
from harness.host.canary import NATIVE, Sample
from harness.vm.hypervisor import LifeEvent, PortTakenError, StartError
from harness.vm.life import DeathCause, MachineDiedError
from harness.vm.machine import Machine
from harness.vm.restart import FIRST, NoKvmError, Restarter
from harness.vm.warm import Starter
from tests.harness.guest.fake import FakeGuest
from tests.harness.vm.fake import FakeDomain, FakeHypervisor, Play
from tests.harness.vm.specs import machine_spec

ARCH = canary.host_arch()
READY = "fim-init: ready"
EARLY = (
    "[    0.500000] BUG: unable to handle page fault for address: ffffffffdeadbeef",
    "[    0.500001] RIP: 0010:early_thing+0x12/0x30",
    "[    0.500002] Kernel panic - not syncing: Fatal exception",
    "[    0.500003] ---[ end Kernel panic - not syncing: Fatal exception ]---",
)

pytestmark = pytest.mark.skipif(ARCH not in NATIVE, reason=f"no canary for {ARCH}")


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose canary is faster under KVM, and without a stored choice; the path is that of /dev/kvm."""
    device = tmp_path / "kvm"
    device.touch()
    found = acceleration.find
    fast = (Sample(0.02), Sample(0.3))
    monkeypatch.setattr(acceleration, "default_root", lambda: tmp_path)
    monkeypatch.setattr(acceleration, "_fingerprint", lambda _native: "host")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(
        acceleration,
        "find",
        lambda arch, wanted: found(arch, wanted, kvm=device, measure=lambda _native: fast),
    )
    acceleration.find(ARCH, "auto")
    return device


class World:
    """Fakes one start after the other, and records their kinds."""

    def __init__(self, tmp_path: Path, *plays: Play) -> None:
        self._plays = iter(plays)
        self._hypervisor = FakeHypervisor(tmp_path, lambda domain: next(self._plays)(domain))
        self._folder = tmp_path / "out"
        self._workdir = self._folder
        self.kinds: list[str] = []
        self.machines: list[Machine] = []

    def restarter(self, kind: str, wanted: str = "auto") -> Restarter:
        self._workdir = self._folder / str(len(self.machines))
        return Restarter(self._starter, kind, name="6.1", arch=ARCH, wanted=wanted)

    def _starter(self, kind: str) -> Starter:
        self.kinds.append(kind)
        return Starter(self._machine, None)

    def _machine(self) -> Machine:
        made = Machine(machine_spec(self._workdir), self._hypervisor, connect=lambda *_: FakeGuest())
        self.machines.append(made)
        return made


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[list[World]]:
    """Worlds whose machines end with the test."""
    made: list[World] = []
    yield made
    for world in made:
        for machine in world.machines:
            machine.destroy()


def boots(domain: FakeDomain) -> None:
    """Let the guest come up."""
    domain.say(READY)


def silent(_domain: FakeDomain) -> None:
    """Let the guest run for ever and print nothing."""


def refused(_domain: FakeDomain) -> None:
    """Let QEMU refuse to start."""
    raise StartError("failed to set MSR")


def panics(domain: FakeDomain) -> None:
    """Let the kernel die before its init."""
    domain.say(*EARLY)


def now() -> Accelerator:
    """Return what the next machine uses."""
    return acceleration.find(ARCH, "auto")


@pytest.mark.parametrize("first", [silent, refused, panics])
def test_kvm_that_boots_nothing(tmp_path: Path, worlds: list[World], first: Play) -> None:
    """The kernel boots under TCG: KVM is rejected for all machines, and one line has the reason."""
    worlds.append(world := World(tmp_path, first, boots))
    restarter = world.restarter("kvm")
    assert restarter.boot(4) == "cold"
    assert world.kinds == ["kvm", "tcg"]
    assert restarter.kind == "tcg"
    [note] = restarter.notes
    assert "6.1 did not boot under KVM and did under TCG" in note
    assert now().kind == "tcg"
    assert "6.1 did not boot under KVM" in now().why
    assert (tmp_path / "out" / "0" / FIRST / "domain.xml").exists()


def test_kernel_that_boots_nowhere(tmp_path: Path, worlds: list[World]) -> None:
    """The kernel is at fault, because it does not boot under TCG either; KVM is not rejected."""
    worlds.append(world := World(tmp_path, silent, panics))
    with pytest.raises(MachineDiedError) as died:
        world.restarter("kvm").boot(4)
    assert died.value.death.cause is DeathCause.PANIC
    assert world.kinds == ["kvm", "tcg"]
    assert now().kind == "kvm"


def test_panic_under_a_kvm_that_has_booted_others(tmp_path: Path, worlds: list[World]) -> None:
    """The panic is the kernel's own and is not repeated; silence would still be the host's fault."""
    worlds.append(world := World(tmp_path, boots, panics, silent, boots))
    assert world.restarter("kvm").boot(4) == "cold"
    with pytest.raises(MachineDiedError):
        world.restarter("kvm").boot(4)
    assert world.restarter("kvm").boot(4) == "cold"
    assert world.kinds == ["kvm", "kvm", "kvm", "tcg"]


def test_kvm_that_was_asked_for(tmp_path: Path, worlds: list[World]) -> None:
    """The error blames the host and not the kernel, with both times of the canary and the remedy."""
    worlds.append(world := World(tmp_path, silent, boots))
    with pytest.raises(NoKvmError, match="boots nothing") as raised:
        world.restarter("kvm", wanted="kvm").boot(4)
    assert "--accelerator kvm" in raised.value.hint
    assert "TCG 0.30 s, KVM 0.02 s" in raised.value.hint


def test_kvm_that_is_lost(tmp_path: Path, worlds: list[World], host: Path) -> None:
    """The reason is the missing device; it is not stored, because the device may return."""
    host.unlink()
    worlds.append(world := World(tmp_path, refused, boots))
    restarter = world.restarter("kvm")
    restarter.boot(4)
    assert f"{host} does not exist" in restarter.notes[0]
    host.touch()
    assert now().kind == "kvm"


def test_two_processes_agree(tmp_path: Path, worlds: list[World]) -> None:
    """Both have the reason of the first, so a run prints one line."""
    worlds.append(world := World(tmp_path, silent, boots, refused, boots))
    first, second = world.restarter("kvm"), world.restarter("kvm")
    first.boot(4)
    second.boot(4)
    assert first.notes == second.notes


def test_emulated_kernel_that_dies_once(tmp_path: Path, worlds: list[World]) -> None:
    """It is started once more, and the line names the oops and the instruction."""
    worlds.append(world := World(tmp_path, panics, boots))
    restarter = world.restarter("tcg")
    assert restarter.boot(4) == "cold"
    assert world.kinds == ["tcg", "tcg"]
    [note] = restarter.notes
    assert "BUG: unable to handle page fault" in note
    assert "RIP: 0010:early_thing+0x12" in note
    assert (tmp_path / "out" / "0" / FIRST / "console.log").read_text().count("early_thing") == 1
    assert "early_thing" not in restarter.machine.spec.console.read_text()


def test_emulated_kernel_that_dies_twice(tmp_path: Path, worlds: list[World]) -> None:
    """The kernel is at fault."""
    worlds.append(world := World(tmp_path, panics, panics, boots))
    restarter = world.restarter("tcg")
    with pytest.raises(MachineDiedError, match="early_thing"):
        restarter.boot(4)
    assert len(restarter.notes) == 1


@pytest.mark.parametrize("lines", [("fim-init: started", *EARLY), (*EARLY[2:],)], ids=["init", "panic"])
def test_only_a_panic_before_init_is_repeated(
    tmp_path: Path, worlds: list[World], lines: tuple[str, ...]
) -> None:
    """A guest whose init ran is not started again; any earlier panic is repeated."""
    worlds.append(world := World(tmp_path, lambda domain: domain.say(*lines), boots))
    if "fim-init" in lines[0]:
        with pytest.raises(MachineDiedError):
            world.restarter("tcg").boot(4)
    else:
        assert world.restarter("tcg").boot(4) == "cold"


@pytest.mark.parametrize("event", [LifeEvent.FAILED, LifeEvent.SHUT_DOWN])
def test_an_emulator_that_ends(tmp_path: Path, worlds: list[World], event: LifeEvent) -> None:
    """Under TCG the start is not repeated here: the cell replaces a lost machine."""
    worlds.append(world := World(tmp_path, lambda domain: domain.end(event)))
    with pytest.raises(MachineDiedError):
        world.restarter("tcg").boot(4)


def test_a_port_that_is_taken(tmp_path: Path, worlds: list[World]) -> None:
    """It proves nothing about KVM."""

    def taken(_domain: FakeDomain) -> None:
        raise StartError("Could not set up host forwarding")

    worlds.append(world := World(tmp_path, *[taken] * 5))
    with pytest.raises(PortTakenError):
        world.restarter("kvm").boot(4)
    assert now().kind == "kvm"
