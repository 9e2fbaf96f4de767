"""Real machines: boot, use, crash and removal."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.console.signatures import Trouble
from harness.guest import ssh, state
from harness.guest.base import Guest, GuestFileError, GuestLostError, GuestTimeoutError
from harness.guest.keys import GuestKeys
from harness.guest.shell import ssh_argv
from harness.vm import reaper
from harness.vm.connection import Connection
from harness.vm.domain import MachineSpec
from harness.vm.life import DeathCause, MachineDiedError
from harness.vm.machine import Machine
from tests.guest.harness.conftest import MakeSpec

pytestmark = pytest.mark.guest

BOOT_S = 120

KILLED = """
import sys, time
from pathlib import Path
from harness.vm.connection import Connection
from harness.vm.domain import MachineSpec
from harness.vm.machine import Machine
from harness.vm.ownership import RunDirectory
kernel, initramfs, root, work = map(Path, sys.argv[1:])
directory = RunDirectory.claim(work / "run")
connection = Connection.open(directory)
Machine(MachineSpec(kernel, initramfs, root, work / "out"), connection).start()
print(directory.token, flush=True)
sys.stdin.read()
"""


def qemus(token: str) -> list[str]:
    """Command lines of processes that name the token."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-system-x86_64") and any(
            f"guest={token}-".encode() in word for word in words
        ):
            found.append(str(path))
    return found


EXAMINED = """
import sys
from pathlib import Path
from harness.vm.connection import Connection
from harness.vm.ownership import RunDirectory
work = Path(sys.argv[1])
with RunDirectory.claim() as directory, Connection.open(directory, cache=work):
    print(Path("/proc/thread-self/children").read_text())
"""


def test_an_empty_cache_of_capabilities(tmp_path: Path) -> None:
    """Opening libvirt probes QEMU, stores the capabilities, and leaves no process, not even a zombie."""
    argv = [sys.executable, "-c", EXAMINED, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert list((tmp_path / "libvirt").glob("*.xml"))


@pytest.fixture(scope="module")
def machine(
    connection: Connection, make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """One machine for all tests that do not change it, in a path with a space."""
    with Machine(make_spec(tmp_path_factory.mktemp("a machine")), connection) as booted:
        booted.wait_ready(BOOT_S)
        yield booted


@pytest.fixture
def guest(machine: Machine) -> Guest:
    assert machine.guest
    return machine.guest


def test_command(guest: Guest, machine: Machine) -> None:
    """The output, the status and a signal are returned, and the arguments arrive unchanged."""
    release = guest.run(["uname", "-r"]).stdout.decode().strip()
    assert release in str(machine.spec.initramfs) or release.startswith("6.1.")
    assert guest.run(["printf", "%s|", "a b", "'$x\"", ""]).stdout == b"a b|'$x\"||"
    assert guest.run(["sh", "-c", "echo oops >&2; exit 3"]).stderr == b"oops\n"
    assert guest.run(["sh", "-c", "exit 3"]).status == 3
    assert guest.run(["sh", "-c", "kill -9 $$"]).signal == signal.SIGKILL


def test_output_larger_than_any_window(guest: Guest) -> None:
    """On both streams at once, without a deadlock."""
    done = guest.run(["sh", "-c", "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait"])
    assert len(done.stdout) == 3_000_000
    assert len(done.stderr) > 60_000


def test_timeout(guest: Guest) -> None:
    """It is reported, and the guest works afterwards."""
    with pytest.raises(GuestTimeoutError):
        guest.run(["sleep", "60"], timeout_s=0.5)
    guest.ping()


def test_files(guest: Guest, tmp_path: Path) -> None:
    """A file comes back unchanged, with its mode; one that does not exist or never ends is an error."""
    data = bytes(range(256)) * 4000
    guest.put_bytes(data, "/root/a file", 0o750)
    guest.get("/root/a file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert guest.run(["stat", "-c", "%a", "/root/a file"]).stdout == b"750\n"
    with pytest.raises(FileNotFoundError):
        guest.get("/root/nothing", tmp_path / "nothing")
    with pytest.raises(GuestFileError):
        guest.put_bytes(bytes(1 << 20), "/sys/nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["back"]


def test_channel(guest: Guest) -> None:
    """Lines pass both ways; a silent program is a timeout, and the end of a program is reported."""
    channel = guest.open_channel(["sh", "-c", "while read -r x; do echo got $x; echo seen >&2; done; exit 7"])
    for number in range(3):
        channel.write(f"{number}\n".encode())
        assert channel.readline(30) == f"got {number}".encode()
    with pytest.raises(GuestTimeoutError):
        channel.readline(0.2)
    assert channel.stderr_tail() == b"seen\n" * 3
    channel.close()


def test_what_is_left_in_a_guest_is_found(guest: Guest) -> None:
    """A new mount and a new process are reported until they are gone."""
    _, before = state.measure(guest, 60)
    guest.run(["sh", "-c", "mkdir /left; mount -t tmpfs left /left"])
    guest.run(["sh", "-c", "tail -f /dev/null </dev/null >/dev/null 2>&1 &"])
    assert state.leftovers(guest, before, 1) == ["mount /left", "process /usr/bin/tail"]
    guest.run(["sh", "-c", "umount /left; rmdir /left; pkill tail"])
    assert state.leftovers(guest, before, 10) == []


def test_no_way_out(guest: Guest) -> None:
    """Neither the host nor another address answers the guest."""
    reach = "import socket; socket.create_connection(('10.0.2.2', 22), 3)"
    assert guest.run(["python3", "-c", reach]).status != 0


def test_only_the_machines_own_keys(machine: Machine) -> None:
    """The client refuses another host key, and the guest refuses another client key."""
    endpoint, other = machine.endpoint, GuestKeys.generate()
    with pytest.raises(GuestLostError, match="host key"):
        ssh.connect(replace(endpoint, keys=replace(endpoint.keys, host=other.host)), 60)
    with pytest.raises(GuestLostError, match=r"[Aa]uthentication"):
        ssh.connect(replace(endpoint, keys=replace(endpoint.keys, client=other.client)), 60)


def test_system_ssh_gets_in(machine: Machine) -> None:
    """The command of `harness shell` works."""
    done = subprocess.run(ssh_argv(machine.endpoint, ["uname"]), capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (b"Linux\n", b"")


def test_panic_is_seen_at_once(connection: Connection, make_spec: MakeSpec, tmp_path: Path) -> None:
    """Waiting callers get an error, and the cause has the trace."""
    with Machine(make_spec(tmp_path), connection) as booted:
        guest = booted.wait_ready(BOOT_S)
        with pytest.raises(GuestLostError):
            guest.run(["sh", "-c", "echo c >/proc/sysrq-trigger; exec sleep 3600"], 3600)
        death = booted.explain()
    assert death
    assert (death.cause, death.trouble) == (DeathCause.PANIC, Trouble.PANIC)
    assert any(b"sysrq_handle_crash" in line for line in death.console)


def test_kernel_without_its_root(connection: Connection, make_spec: MakeSpec, tmp_path: Path) -> None:
    """The boot ends with init's message, long before its deadline."""
    root = tmp_path / "root"
    root.write_bytes(bytes(1 << 20))
    booted = Machine(replace(make_spec(tmp_path), root=root), connection)
    with booted, pytest.raises(MachineDiedError, match="root disk") as died:
        booted.wait_ready(BOOT_S)
    assert died.value.death.cause is DeathCause.INIT


def test_killed_run_is_reaped(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Its QEMU outlives it, until the next start."""
    spec = make_spec(tmp_path)
    # Not below tmp_path, which is too long for the sockets.
    with tempfile.TemporaryDirectory() as folder:
        kill_and_reap(spec, Path(folder))


def kill_and_reap(spec: MachineSpec, work: Path) -> None:
    argv = [sys.executable, "-c", KILLED, *map(str, (spec.kernel, spec.initramfs, spec.root, work))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        token = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert len(qemus(token)) == 1
    reaped = reaper.reap([work / "run"])
    assert [(one.token, len(one.processes)) for one in reaped] == [(token, 1)]
    assert qemus(token) == []
