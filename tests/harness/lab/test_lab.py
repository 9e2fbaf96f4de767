"""The implementation of a cell's machine, with fakes for kernel, guest and hypervisor."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import (
    ConfigError,
    HungError,
    InfrastructureError,
    NotAcceptedError,
    ProductError,
    RefusedError,
)
from harness.guest.base import Completed, GuestLostError, GuestTimeoutError
from harness.host import acceleration, deadlines
from harness.host.acceleration import Accelerator
from harness.lab import lab
from harness.lab.lab import VmBench, VmMachine
from harness.results.verdict import Verdict
from harness.run import judge
from harness.vm.life import Death, DeathCause
from tests.harness.guest.fake import FakeChannel, FakeGuest

HELLO = b'{"hello":2,"agent":"0","pid":1}'


def _machine(tmp_path: Path, guest: FakeGuest | None, death: Death | None = None) -> VmMachine:
    spec = SimpleNamespace(console=tmp_path / "console.log", workdir=tmp_path)
    virtual = SimpleNamespace(guest=guest, spec=spec, explain=lambda: death)
    starter: Any = SimpleNamespace(machine=virtual)
    return VmMachine(starter)


def test_a_guest_that_was_not_reached_does_not_answer(tmp_path: Path) -> None:
    assert not _machine(tmp_path, None).answers(1)


@pytest.mark.parametrize("error", [GuestLostError("gone"), GuestTimeoutError("late")])
def test_a_guest_that_runs_no_command_does_not_answer(tmp_path: Path, error: Exception) -> None:
    def answer(_argv: Sequence[str]) -> Completed:
        raise error

    assert not _machine(tmp_path, FakeGuest(answer)).answers(1)
    assert _machine(tmp_path, FakeGuest()).answers(1)


def test_a_run_without_the_emulator_names_every_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench is asked for the accelerator first, before anything is fetched."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="arm64 guests need qemu-system-aarch64") as caught:
        VmBench().accelerator("arm64")
    packages = "qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    assert caught.value.hint == f"apt-get install {packages}"


@pytest.mark.parametrize("late", ["put", "unpack"])
def test_a_guest_that_hangs_in_deploy_is_a_boot_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Its own verdict (BOOT_FAIL) needs HungError; any other error would become INFRA."""

    def answer(_argv: Sequence[str]) -> Completed:
        raise GuestTimeoutError("no answer in time")

    def put_bytes(*_: object) -> None:
        raise GuestTimeoutError("cannot write: no answer in time")

    guest = FakeGuest(answer)
    if late == "put":
        monkeypatch.setattr(guest, "put_bytes", put_bytes)
    monkeypatch.setattr(lab, "bundle", lambda _arch: b"")
    with pytest.raises(HungError, match="no answer in time"):
        _machine(tmp_path, guest).deploy()


@pytest.mark.parametrize(
    ("cause", "blamed"),
    [(DeathCause.PANIC, True), (DeathCause.POWERED_OFF, True), (DeathCause.QEMU, False)],
)
def test_each_cause_of_death_has_its_class(tmp_path: Path, cause: DeathCause, blamed: bool) -> None:
    found = _machine(tmp_path, None, Death(cause, "why", (b"a line",))).death()
    assert found
    assert (found.blames_guest, found.console) == (blamed, (b"a line",))


def test_an_unreadable_console_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _machine(tmp_path, None)
    with pytest.raises(InfrastructureError, match="cannot be read"):
        machine.console()
    (tmp_path / "console.log").write_bytes(b"x" * 11)
    assert machine.console() == b"x" * 11
    monkeypatch.setattr(lab, "MAX_BYTES", 10)
    with pytest.raises(InfrastructureError, match="longer than"):
        machine.console()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (GuestTimeoutError("no line"), HungError),
        (GuestLostError("gone"), InfrastructureError),
        (b'{"did":"","ok":false,"id":1,"error":"no","hint":"","detail":"long"}', RefusedError),
        (b"Traceback", ProductError),
        (b'{"did":"ping","ok":true,"id":1}', ProductError),
    ],
)
def test_each_fault_of_a_server_has_its_class(
    tmp_path: Path, cell: Any, line: bytes | Exception, kind: type[Exception]
) -> None:
    guest = FakeGuest(channel=FakeChannel([HELLO, line], stderr=b"last words"))
    server = _machine(tmp_path, guest).selftest(tmp_path / "agent.log", 1)
    with pytest.raises(kind) as caught:
        server.load(cell, 1)
    if kind is ProductError:
        assert str(caught.value).endswith("last words")
        assert (tmp_path / "agent.log").read_text() == "last words"


def test_a_server_that_ends_early_is_an_error(tmp_path: Path, cell: Any) -> None:
    guest = FakeGuest(channel=FakeChannel([HELLO], stderr=b"killed"))
    server = _machine(tmp_path, guest).selftest(tmp_path / "agent.log", 1)
    with pytest.raises(ProductError, match="the self-test server ended: killed"):
        server.test("truth.open", 1)


@pytest.mark.parametrize(
    ("error", "patience_s"), [(None, deadlines.QUIT_S), (HungError, deadlines.HUNG_QUIT_S)]
)
def test_a_server_that_hangs_is_not_waited_for_at_the_end(
    tmp_path: Path, error: type[HungError] | None, patience_s: float
) -> None:
    """A server that answered gets the time to detach its programs; one that did not gets little time."""
    asked: list[float] = []

    def answer(_name: str, _deadline_s: float) -> None:
        if error:
            raise GuestTimeoutError("late")

    ends = {"quit": asked.append, "hooks": (), "stderr": lambda: b"", "close": lambda: None}
    client: Any = SimpleNamespace(test=answer, **ends)
    selftest = lab.VmSelftest(client, tmp_path / "log")
    with pytest.raises(error) if error else contextlib.nullcontext():
        selftest.test("truth.open", 1)
    selftest.close()
    assert asked == [patience_s]


def test_a_run_that_lost_kvm_does_not_return_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the permission was lost for a moment: all later machines use the same accelerator."""
    answers = [Accelerator("kvm", "fast"), Accelerator("tcg", "no permission"), Accelerator("kvm", "fast")]
    monkeypatch.setattr(acceleration, "find", lambda *_: answers.pop(0))
    bench = VmBench()
    assert [bench.accelerator("amd64")[0] for _ in range(4)] == ["kvm", "tcg", "tcg", "tcg"]


def test_a_bench_neither_opens_nor_closes_a_connection_beside_one_that_it_was_given() -> None:
    """A process can open the embedded libvirt only once, so tests of several benches share one."""
    closed: list[bool] = []
    given: Any = SimpleNamespace(identity="", close=lambda: closed.append(True))
    bench = VmBench(connection=given)
    for _ in range(2):
        assert bench._hypervisor() is given
        bench.close()
    assert closed == []


class _Starts:
    """Starters that record each start; the start of that number fails."""

    def __init__(self, folder: Path, fails: int = 0) -> None:
        self.folder, self.fails = folder, fails
        self.starts: list[str] = []

    def made(self, name: str) -> Any:
        def boot(_deadline_s: float) -> str:
            self.starts.append(name)
            if len([start for start in self.starts if start != "end"]) == self.fails:
                raise HungError("silent")
            return "cold"

        spec = SimpleNamespace(console=self.folder / "console.log", workdir=self.folder)
        virtual = SimpleNamespace(spec=spec, destroy=lambda: self.starts.append("end"))
        return SimpleNamespace(boot=boot, notes=(), machine=virtual)

    def machine(self) -> VmMachine:
        found = VmMachine(self.made("ordinary"))
        found.trial = lambda: self.made("trial")
        found.unproven = "digest"
        return found


def test_a_new_kernel_of_the_user_boots_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last start is the machine of the cell; the next machine of the same kernel boots once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    starts = _Starts(tmp_path)
    starts.machine().boot(1)
    assert starts.starts == ["trial", "end", "trial", "end", "ordinary"]
    starts.machine().boot(1)
    assert starts.starts[5:] == ["ordinary"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kernel_that_does_not_boot_each_time_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It is tried again the next time, and its cells end as if it had not booted at all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    starts = _Starts(tmp_path, fails=number)
    with pytest.raises(NotAcceptedError) as caught:
        starts.machine().boot(1)
    attempt = judge.classify(caught.value, None, booting=True)
    assert attempt.verdict is Verdict.BOOT_FAIL
    assert attempt.reason == f"kernel not accepted: boot {number} of 3: silent"
    starts.starts.clear()
    starts.fails = 0
    starts.machine().boot(1)
    assert starts.starts.count("trial") == 2


@pytest.mark.parametrize("printed", ["at once", "later", "never"])
def test_the_console_is_read_to_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str) -> None:
    """A kernel that prints in a thread of its own prints the last lines later, and one that hangs never."""
    console = tmp_path / "console.log"
    console.write_bytes(b"[    1.000000] before\n")
    due: list[bytes] = []

    def answer(argv: Sequence[str]) -> Completed:
        mark = argv[-1].partition("<1>")[2].partition("'")[0]
        due.append(f"[    2.000000] WARNING: late\n[    2.000001] {mark}\n".encode())
        if printed == "at once":
            show(0.0)
        return Completed(0, b"", b"")

    def show(_seconds: float) -> None:
        if printed != "never":
            with console.open("ab") as file:
                file.write(due.pop())

    monkeypatch.setattr(lab, "time", SimpleNamespace(monotonic=time.monotonic, sleep=show))
    machine = _machine(tmp_path, FakeGuest(answer))
    if printed == "never":
        with pytest.raises(InfrastructureError, match="the console does not show what was written"):
            machine.console(0.01)
    else:
        assert b"WARNING: late" in machine.console(5.0)
    assert machine.console() == console.read_bytes()
