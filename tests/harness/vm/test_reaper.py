"""What a dead run left is ended; what lives, or belongs to another user, is not touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.host.processes import HeldProcess
from harness.vm import ownership, reaper
from harness.vm.connection import Connection
from harness.vm.ownership import RunDirectory

Started = Callable[..., subprocess.Popen[bytes]]

CLAIM = """
import sys, time
from pathlib import Path
from harness.vm.ownership import RunDirectory
directory = RunDirectory.claim(Path(sys.argv[1]))
directory.note_uri("qemu:///system")
print(directory.token, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def dead_token(tmp_path: Path) -> str:
    """The token of a process that was killed."""
    argv = [sys.executable, "-c", CLAIM, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        token = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    return token


@pytest.fixture
def fake_qemus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Sleeping processes that look like QEMU, ended after the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def sleeper(started: list[subprocess.Popen[bytes]], program: str, *arguments: str) -> subprocess.Popen[bytes]:
    code = "import sys; print(flush=True); sys.stdin.read()"
    argv = [program, "-c", code, *arguments]
    process = subprocess.Popen(argv, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    started.append(process)
    return process


def test_dead_run_is_reaped(
    tmp_path: Path, dead_token: str, fake_qemus: list[subprocess.Popen[bytes]]
) -> None:
    """Its QEMU and its daemon's domains are ended, and its directory is removed."""
    qemu = sleeper(fake_qemus, "qemu-system-x86_64", "-name", f"guest={dead_token}-1,debug-threads=on")
    asked: list[tuple[str, str]] = []

    def reap_domains(uri: str, token: str) -> int:
        asked.append((uri, token))
        return 2

    assert [path.name for path in reaper.leftovers([tmp_path])] == [dead_token]
    assert reaper.reap([tmp_path], reap_domains) == [reaper.Reaped(dead_token, (qemu.pid,), 2)]
    assert qemu.wait(5) == -signal.SIGKILL
    assert asked == [("qemu:///system", dead_token)]
    assert list(tmp_path.iterdir()) == []
    assert reaper.reap([tmp_path]) == []


def test_other_processes_are_not_ended(
    tmp_path: Path, dead_token: str, fake_qemus: list[subprocess.Popen[bytes]]
) -> None:
    """Another program with the run's name in its arguments, and another run's QEMU."""
    others = [
        sleeper(fake_qemus, "python3", "-name", f"guest={dead_token}-1"),
        sleeper(fake_qemus, "qemu-system-x86_64", "-name", "guest=fim-ffffffffff-1"),
        sleeper(fake_qemus, "qemu-system-x86_64", "-name", f"guest=x{dead_token}-1"),
    ]
    assert reaper.reap([tmp_path]) == [reaper.Reaped(dead_token, (), 0)]
    assert [process.poll() for process in others] == [None, None, None]


def test_a_live_run_is_not_touched(tmp_path: Path) -> None:
    """A held lock means that its owner lives."""
    with RunDirectory.claim(tmp_path) as directory:
        assert reaper.leftovers([tmp_path]) == []
        assert reaper.reap([tmp_path]) == []
        assert directory.path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    """Only a directory whose name is a token belongs to a run."""
    (tmp_path / "fim-notes").mkdir()
    (tmp_path / "fim-0123456789").touch()
    assert reaper.reap([tmp_path]) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_directory_without_a_lock_is_reaped(tmp_path: Path) -> None:
    """A libvirt that ended late wrote it after its run was over."""
    (tmp_path / "fim-0123456789" / "e" / "run").mkdir(parents=True)
    assert reaper.reap([tmp_path]) == [reaper.Reaped("fim-0123456789", (), 0)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
def test_a_directory_with_an_invalid_lock_is_skipped(tmp_path: Path, dead_token: str, kind: str) -> None:
    """With a warning; the others are reaped."""
    odd = tmp_path / "fim-0000000000"
    odd.mkdir()
    make: dict[str, Callable[[], object]] = {
        "link": lambda: (odd / "lock").symlink_to(sys.executable),
        "dangling link": lambda: (odd / "lock").symlink_to("gone"),
        "folder": (odd / "lock").mkdir,
        "fifo": lambda: os.mkfifo(odd / "lock"),
    }
    make[kind]()
    warnings: list[str] = []
    assert [path.name for path in reaper.leftovers([tmp_path], warnings.append)] == [dead_token]
    assert reaper.reap([tmp_path], warn=warnings.append) == [reaper.Reaped(dead_token, (), 0)]
    assert list(ownership.living([tmp_path])) == []
    assert list(tmp_path.iterdir()) == [odd]
    assert set(warnings) == {f"ignored: {odd}/lock: not a regular file; remove {odd} if no run uses it"}


def test_a_libvirt_that_fails_does_not_stop_the_reaper(tmp_path: Path, dead_token: str) -> None:
    """Its error is raised after the others are reaped, and its directory stays."""
    with RunDirectory.claim(tmp_path) as kept_alive:
        directories = [RunDirectory.claim(tmp_path) for _ in range(3)]
        for directory in directories[:2]:
            directory.note_uri("bad:///")
        for directory in directories:
            directory.close()

        def reap_domains(uri: str, _token: str) -> int:
            if uri == "bad:///":
                raise InfrastructureError(f"{uri}: no such libvirt")
            return 0

        with pytest.raises(InfrastructureError, match="bad:///: no such libvirt"):
            reaper.reap([tmp_path], reap_domains)
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == sorted([kept_alive.token, *(directory.token for directory in directories[:2])])
        assert {path.name for path in reaper.leftovers([tmp_path])} == {one.token for one in directories[:2]}


def test_the_message_of_a_reaped_run() -> None:
    """Only processes that ran are reported as ended."""
    assert str(reaper.Reaped("fim-0123456789", (7, 8), 1)) == (
        "ended 2 QEMU and 1 domain of the dead run fim-0123456789"
    )
    assert str(reaper.Reaped("fim-0123456789", (), 0)) == "removed the files of the dead run fim-0123456789"


def test_children_do_not_hold_the_lock(tmp_path: Path) -> None:
    """A QEMU that outlives its run must not make the run look alive."""
    directory = RunDirectory.claim(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as child:
        directory.close()
        assert reaper.leftovers([tmp_path]) == [directory.path]
        child.kill()


def test_long_roots_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a socket has at most 107 bytes."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/run/{'x' * 60}")
    monkeypatch.setenv("XDG_CACHE_HOME", f"/home/{'y' * 60}")
    assert [str(root) for root in ownership.runtime_roots()] == [f"/tmp/fim-harness-{os.getuid()}"]


def test_foreign_root_is_refused(tmp_path: Path) -> None:
    """A directory that other users can write to must not have keys."""
    tmp_path.chmod(0o777)
    with pytest.raises(InfrastructureError, match="not private"):
        RunDirectory.claim(tmp_path)


@pytest.fixture
def qemu(tmp_path_factory: pytest.TempPathFactory, fake_qemus: list[subprocess.Popen[bytes]]) -> Started:
    """Start a process with these arguments whose program file is named like QEMU's."""
    program = tmp_path_factory.mktemp("bin") / "qemu-system-x86_64"
    shutil.copy(shutil.which("dash") or "/bin/sh", program)

    def start(*arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        argv = [*before, str(program), "-c", "echo; read end", *arguments]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        fake_qemus.append(process)
        return process

    return start


def key_below(directory: Path) -> str:
    return f'{{"qom-type":"secret","file":"{directory}/e/lib/qemu/domain-1/master-key.aes"}}'


def test_a_qemu_without_its_run_directory_is_reaped(tmp_path: Path, qemu: Started) -> None:
    """Its command line names a directory below our private root, and no process holds that lock."""
    token = "fim-0123456789"
    orphan = qemu("-name", f"guest={token}-1", key_below(tmp_path / token))
    assert reaper.reap([tmp_path]) == [reaper.Reaped(token, (orphan.pid,), 0)]
    assert orphan.wait(5) == -signal.SIGKILL


def test_a_qemu_of_unknown_origin_is_not_ended(
    tmp_path: Path, qemu: Started, fake_qemus: list[subprocess.Popen[bytes]]
) -> None:
    """Another root, a root that others can write to, and a command line that only looks like QEMU's."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    token = "fim-0123456789"
    others = [
        qemu("-name", f"guest={token}-1"),
        qemu(key_below(tmp_path / "elsewhere" / token)),
        qemu(key_below(shared / token)),
        sleeper(fake_qemus, "qemu-system-x86_64", key_below(tmp_path / token)),
    ]
    assert reaper.reap([tmp_path, shared, tmp_path / "absent"]) == []
    assert [process.poll() for process in others] == [None] * 4


def test_a_qemu_of_a_live_run_without_its_directory_is_not_ended(tmp_path: Path, qemu: Started) -> None:
    """The run's process still has the lock open."""
    directory = RunDirectory.claim(tmp_path)
    process = qemu(key_below(directory.path))
    shutil.rmtree(directory.path)
    assert reaper.reap([tmp_path]) == []
    assert process.poll() is None
    directory.close()
    assert reaper.reap([tmp_path]) == [reaper.Reaped(directory.token, (process.pid,), 0)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mount namespaces")
def test_a_qemu_of_a_run_in_a_container_is_not_ended(tmp_path: Path, qemu: Started) -> None:
    """Its command line names a directory that exists in its own mount namespace, and not in ours."""
    token = "fim-0123456789"
    script = 'mount -t tmpfs none "$1" && mkdir "$1/$2" && shift 2 && exec "$@"'
    container = ("unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), token)
    process = qemu("-name", f"guest={token}-1", key_below(tmp_path / token), before=container)
    assert not (tmp_path / token).exists()
    assert reaper.reap([tmp_path]) == []
    assert process.poll() is None


def test_a_run_directory_is_removed_after_its_last_qemu(tmp_path: Path, qemu: Started) -> None:
    """Also after a QEMU that its owner does not know, because a signal interrupted the start."""
    with RunDirectory.claim(tmp_path) as directory:
        process = qemu("-name", f"guest={directory.token}-1")
    assert process.wait(5) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_stays_while_its_qemu_cannot_be_ended(
    tmp_path: Path, qemu: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next reaper ends it."""
    monkeypatch.setattr(HeldProcess, "kill", lambda *_: False)
    with RunDirectory.claim(tmp_path) as directory:
        process = qemu("-name", f"guest={directory.token}-1")
    assert directory.path.is_dir()
    monkeypatch.undo()
    assert reaper.reap([tmp_path]) == [reaper.Reaped(directory.token, (process.pid,), 0)]


def test_a_qemu_that_appears_while_its_directory_is_removed_is_ended(
    tmp_path: Path, qemu: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run can leave a child that becomes QEMU after the reaper looked."""
    directory = RunDirectory.claim(tmp_path)
    late: list[subprocess.Popen[bytes]] = []
    remove = shutil.rmtree

    def slow(path: Path, *, ignore_errors: bool) -> None:
        late.append(qemu("-name", f"guest={directory.token}-1"))
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", slow)
    directory.release()
    assert [process.wait(5) for process in late] == [-signal.SIGKILL]


def test_an_interrupted_start_leaves_no_qemu(tmp_path: Path, qemu: Started) -> None:
    """Ctrl-C during the start of a domain: QEMU runs, but the caller never gets its handle."""
    started: list[subprocess.Popen[bytes]] = []

    class Handle:
        """A connection of libvirt."""

        def domainEventRegisterAny(self, *_: object) -> int:  # noqa: N802 - libvirt's name
            return 1

        def createXML(self, *_: object) -> None:  # noqa: N802 - libvirt's name
            started.append(qemu("-name", f"guest={directory.token}-1"))
            raise KeyboardInterrupt

        domainEventDeregisterAny = close = lambda *_: None  # noqa: N815 - libvirt's name

    directory = RunDirectory.claim(tmp_path)
    connection = Connection(Handle(), directory, None)
    with pytest.raises(KeyboardInterrupt):
        connection.start(f"{directory.token}-1", "<domain/>", lambda _event: None)
    connection.close()
    assert [process.wait(5) for process in started] == [-signal.SIGKILL]
    directory.release()
