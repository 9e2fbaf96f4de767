"""A machine's life with a fake hypervisor: the first evidence decides, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.console.signatures import Trouble
from harness.errors import InfrastructureError
from harness.guest.base import Completed, Endpoint, GuestLostError
from harness.vm import console
from harness.vm.hypervisor import LifeEvent, StartError, Vitality
from harness.vm.life import DeathCause, MachineDiedError, State
from harness.vm.machine import Machine
from harness.vm.qemu_watch import QemuWatch
from tests.harness.guest.fake import FakeGuest
from tests.harness.vm.fake import FakeDomain, FakeHypervisor, Play
from tests.harness.vm.specs import machine_spec

PANIC = "[    9.000000] Kernel panic - not syncing: sysrq triggered crash"
READY = "fim-init: ready"
NEVER_S = 3600.0  # a deadline; a machine whose end is not noticed lets its test hang


def machine(tmp_path: Path, play: Play, guest: FakeGuest | None = None) -> Machine:
    fake = guest or FakeGuest()
    hypervisor = FakeHypervisor(tmp_path, play)
    return Machine(machine_spec(tmp_path / "out"), hypervisor, connect=lambda _endpoint, _seconds: fake)


def test_ready_means_that_a_command_ran(tmp_path: Path) -> None:
    """The line of init on the console is not enough."""
    guest = FakeGuest()
    with machine(tmp_path, lambda domain: domain.say(READY), guest) as booted:
        assert booted.wait_ready(5) is guest
        assert guest.commands == [("true",)]
        states = [booted.state]
    assert [*states, booted.state] == [State.READY, State.DEAD]
    assert guest.closed


def test_panic_ends_a_boot_at_once(tmp_path: Path) -> None:
    """The error has the line of the cause and the lines around it."""
    with (
        machine(tmp_path, lambda domain: domain.say("[    1.0] x", PANIC)) as booted,
        pytest.raises(MachineDiedError, match="sysrq triggered") as died,
    ):
        booted.wait_ready(NEVER_S)
    assert died.value.death.cause is DeathCause.PANIC
    assert PANIC.encode() in died.value.death.console
    assert booted.death is died.value.death


def test_oops_that_became_a_panic_is_an_oops(tmp_path: Path) -> None:
    """The first complaint names the trouble."""
    oops = "[    8.900000] BUG: kernel NULL pointer dereference, address: 0000000000000000"
    with machine(tmp_path, lambda domain: domain.say(oops, PANIC)) as booted:
        death = booted.explain()
    assert death
    assert death.trouble is Trouble.OOPS


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (LifeEvent.PANICKED, DeathCause.PANIC),
        (LifeEvent.FAILED, DeathCause.QEMU),
        (LifeEvent.SHUT_DOWN, DeathCause.POWERED_OFF),
    ],
)
def test_events_end_a_machine(tmp_path: Path, event: LifeEvent, kind: DeathCause) -> None:
    """Also one whose console is silent."""
    booted = machine(tmp_path, lambda domain: domain.end(event))
    with booted, pytest.raises(MachineDiedError) as died:
        booted.wait_ready(60)
    assert died.value.death.cause is kind


def test_panic_beats_the_event_that_follows(tmp_path: Path) -> None:
    """A panic that reboots ends QEMU as well: the console is read to its end before the event counts."""

    def play(domain: FakeDomain) -> None:
        domain.say(PANIC)
        domain.end(LifeEvent.FAILED)

    with machine(tmp_path, play) as booted:
        death = booted.explain()
    assert death
    assert death.cause is DeathCause.PANIC


def test_init_that_cannot_go_on(tmp_path: Path) -> None:
    """The cause is init's message and not the end of the machine."""

    def play(domain: FakeDomain) -> None:
        domain.say("fim-init: fatal: cannot find the root disk: No such device")
        domain.end(LifeEvent.SHUT_DOWN)

    with machine(tmp_path, play) as booted:
        death = booted.explain()
    assert death
    assert death.cause is DeathCause.INIT
    assert "find the root disk" in death.detail


def test_silence_ends_with_the_deadline(tmp_path: Path) -> None:
    """A kernel that never boots is a boot timeout, with the last line of the console."""
    booted = machine(tmp_path, lambda domain: domain.say("SeaBIOS"))
    with booted, pytest.raises(MachineDiedError, match=r"firmware.*SeaBIOS") as died:
        booted.wait_ready(0.3)
    assert died.value.death.cause is DeathCause.BOOT_TIMEOUT


def test_first_connections_may_fail(tmp_path: Path) -> None:
    """A reset connection is tried again."""
    attempts: list[Endpoint] = []

    def connect(endpoint: Endpoint, _seconds: float) -> FakeGuest:
        attempts.append(endpoint)
        if len(attempts) < 3:
            raise GuestLostError("reset")
        return FakeGuest()

    hypervisor = FakeHypervisor(tmp_path, lambda domain: domain.say(READY))
    with Machine(machine_spec(tmp_path), hypervisor, connect) as booted:
        booted.wait_ready(10)
    assert len(attempts) == 3


def test_ssh_that_never_answers(tmp_path: Path) -> None:
    """A guest that reports ready and cannot be reached has failed at SSH."""

    def connect(_endpoint: Endpoint, _seconds: float) -> FakeGuest:
        raise GuestLostError("refused")

    hypervisor = FakeHypervisor(tmp_path, lambda domain: domain.say(READY))
    booted = Machine(machine_spec(tmp_path), hypervisor, connect)
    with booted, pytest.raises(MachineDiedError, match="refused") as died:
        booted.wait_ready(0.5)
    assert died.value.death.cause is DeathCause.SSH


def test_qemu_dies_while_the_guest_works(tmp_path: Path) -> None:
    """The caller that uses the guest gets the cause."""
    hypervisor = FakeHypervisor(tmp_path, lambda domain: domain.say(READY))
    guest = FakeGuest()
    with Machine(machine_spec(tmp_path), hypervisor, lambda _endpoint, _seconds: guest) as booted:
        booted.wait_ready(5)
        hypervisor.domains[0].end(LifeEvent.FAILED)
        guest.close()
        death = booted.explain()
        assert death
        assert death.cause is DeathCause.QEMU
        with pytest.raises(GuestLostError):
            guest.run(["true"])


def test_a_machine_without_watcher_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the watcher fails, that is an infrastructure error, reported at once, and QEMU is destroyed."""

    def fail(_domain: FakeDomain) -> Vitality:
        raise OSError("too many open files")

    monkeypatch.setattr(FakeDomain, "vitality", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _what: None)
    booted = machine(tmp_path, lambda _domain: None)
    with booted, pytest.raises(MachineDiedError, match="its watcher failed") as died:
        booted.wait_ready(60)
    assert not died.value.death.blames_guest


def test_a_living_machine_has_nothing_to_explain(tmp_path: Path) -> None:
    """The fault is then the guest's."""
    with machine(tmp_path, lambda domain: domain.say(READY)) as booted:
        booted.wait_ready(5)
        assert booted.explain(0.1) is None


def test_qemu_that_vanishes_is_noticed(tmp_path: Path) -> None:
    """Also if libvirt sends no event."""

    def vanish(domain: FakeDomain) -> None:
        domain.shows = Vitality.GONE

    with machine(tmp_path, vanish) as booted, pytest.raises(MachineDiedError, match="QEMU ended"):
        booted.wait_ready(NEVER_S)


def test_qemu_that_is_stopped_is_noticed(tmp_path: Path) -> None:
    """It would otherwise be silent for ever."""

    def stop(domain: FakeDomain) -> None:
        domain.shows = Vitality.STOPPED

    with (
        machine(tmp_path, stop) as booted,
        pytest.raises(MachineDiedError, match="stopped by a signal") as died,
    ):
        booted.wait_ready(NEVER_S)
    assert died.value.death.cause is DeathCause.QEMU


def test_qemu_watch_leaves_time_for_other_watchers() -> None:
    """A short stop does not count, and an end counts a moment later."""
    now = 0.0
    watch = QemuWatch(lambda: now)
    assert watch.look(Vitality.STOPPED) is None
    now = 5.0
    assert watch.look(Vitality.RUNNING) is None
    assert watch.look(Vitality.STOPPED) is None
    now = 6.5
    assert watch.look(Vitality.STOPPED) is LifeEvent.STOPPED
    assert watch.look(Vitality.GONE) is None
    now = 7.0
    assert watch.look(Vitality.GONE) is LifeEvent.FAILED


def test_healthy_machine_explains_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a command runs in the guest, there is no wait for events."""

    def wait(_condition: object, _deadline: float) -> bool:
        raise AssertionError("waited for a machine that answers")

    with machine(tmp_path, lambda domain: domain.say(READY)) as booted:
        booted.wait_ready(5)
        monkeypatch.setattr(booted, "_wait", wait)
        assert booted.explain() is None


def test_taken_port_is_tried_again(tmp_path: Path) -> None:
    """QEMU's message decides, and the next attempt uses another port."""
    ports: list[int] = []

    def play(domain: FakeDomain) -> None:
        ports.append(booted.endpoint.port)
        if len(ports) < 3:
            raise StartError("Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'")

    booted = machine(tmp_path, play)
    with booted:
        assert len(set(ports)) == 3


def test_start_error_passes_through(tmp_path: Path) -> None:
    """A start that fails for another reason is not repeated."""
    starts: list[str] = []

    def play(domain: FakeDomain) -> None:
        starts.append(domain.name)
        raise StartError("no such emulator")

    booted = machine(tmp_path, play)
    with pytest.raises(StartError, match="no such emulator"):
        booted.start()
    assert len(starts) == 1
    assert booted.death
    assert booted.death.cause is DeathCause.QEMU


def test_a_working_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """It is a configuration error, and nothing is left behind."""
    (tmp_path / "out").touch()
    booted = machine(tmp_path, lambda domain: None)
    with pytest.raises(InfrastructureError, match="File exists"), booted:
        pass
    assert booted.state is State.DEAD


def test_destroy_is_safe_at_any_time(tmp_path: Path) -> None:
    """Before the start, twice, and after death; a dead machine does not start."""
    booted = machine(tmp_path, lambda domain: None)
    booted.destroy()
    booted.destroy()
    with pytest.raises(InfrastructureError):
        booted.start()


def test_error_in_the_block_destroys(tmp_path: Path) -> None:
    """Ctrl-C included."""
    hypervisor = FakeHypervisor(tmp_path, lambda domain: None)
    with pytest.raises(KeyboardInterrupt), Machine(machine_spec(tmp_path), hypervisor):
        raise KeyboardInterrupt
    assert not hypervisor.domains[0].is_active()


def test_full_disk_is_no_fault_of_the_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that check, a console that could not be written would look like a silent guest."""
    monkeypatch.setattr("harness.vm.machine.shutil.disk_usage", lambda _path: Mock(free=0))
    with (
        machine(tmp_path, lambda _domain: None) as booted,
        pytest.raises(MachineDiedError, match="no space") as died,
    ):
        booted.wait_ready(60)  # no thread waits for it
    assert not died.value.death.blames_guest


def test_domain_that_cannot_be_written(tmp_path: Path) -> None:
    """It is an infrastructure error."""
    (tmp_path / "out" / "domain.xml").mkdir(parents=True)
    booted = machine(tmp_path, lambda _domain: None)
    with pytest.raises(InfrastructureError, match="Is a directory"), booted:
        pass


def test_a_guest_that_floods_its_console_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict blames the guest, and the reason names the limit and the last line."""
    monkeypatch.setattr(console, "MAX_BYTES", 1 << 10)
    with machine(tmp_path, lambda domain: domain.say(READY)) as booted:
        booted.wait_ready(5)
        assert isinstance(booted._domain, FakeDomain)
        booted._domain.say(*["y"] * 2000)
        booted._wait(lambda: False, time.monotonic() + 5)
        death = booted.death
    assert not booted._domain.is_active()
    assert death
    assert (death.cause, death.blames_guest) == (DeathCause.FLOOD, True)
    assert death.detail == "the guest printed more than 8 MiB on its console and was ended; last line: y"


def test_a_panic_in_a_flood_is_a_panic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own message is the better cause."""
    monkeypatch.setattr(console, "MAX_BYTES", 1 << 10)
    with machine(tmp_path, lambda domain: domain.say(READY, PANIC, *["y"] * 2000)) as booted:
        booted._wait(lambda: False, time.monotonic() + 5)
        death = booted.death
    assert death
    assert death.cause is DeathCause.PANIC


def rebooting(tmp_path: Path, lines: list[str], guest: FakeGuest) -> Machine:
    """A machine with a disk whose guest prints `lines` when it is asked to reboot."""
    domains: list[FakeDomain] = []

    def play(domain: FakeDomain) -> None:
        domains.append(domain)
        domain.say(READY)

    def run(argv: Sequence[str]) -> Completed:
        if tuple(argv) == ("systemctl", "reboot"):
            domains[0].say(*lines)
            raise GuestLostError("the connection ended")
        return Completed(0, b"", b"")

    first = FakeGuest(run)
    guests = iter([first, guest])
    spec = machine_spec(tmp_path / "out", state_mib=8)
    return Machine(spec, FakeHypervisor(tmp_path, play), connect=lambda _endpoint, _seconds: next(guests))


def test_a_guest_is_ready_again_after_a_reboot(tmp_path: Path) -> None:
    """The old connection is closed; ready means again that a command ran."""
    second = FakeGuest()
    with rebooting(tmp_path, ["[    0.1] x", READY], second) as booted:
        first = booted.wait_ready(5)
        assert booted.reboot(5) is second
        assert booted.guest is second
        assert booted.state is State.READY
        assert second.commands == [("true",)]
        assert isinstance(first, FakeGuest)
        assert first.closed


def test_a_panic_during_a_reboot_is_a_panic(tmp_path: Path) -> None:
    """The machine is not waited for until the deadline."""
    with rebooting(tmp_path, ["[    0.1] x", PANIC], FakeGuest()) as booted:
        booted.wait_ready(5)
        with pytest.raises(MachineDiedError, match="sysrq triggered"):
            booted.reboot(NEVER_S)


def test_a_guest_that_does_not_come_back_is_a_boot_timeout(tmp_path: Path) -> None:
    """Its first boot does not count as the second."""
    with rebooting(tmp_path, ["[    0.1] x"], FakeGuest()) as booted:
        booted.wait_ready(5)
        with pytest.raises(MachineDiedError, match="not ready after 0 s"):
            booted.reboot(0.2)
        assert booted.death is not None
        assert booted.death.cause is DeathCause.BOOT_TIMEOUT
