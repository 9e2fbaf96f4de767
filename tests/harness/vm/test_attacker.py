"""Another local user plants files in places for run directories; root neither follows nor trusts them.

The attacker is a real process of another user in a directory like /tmp. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.vm import kept, ownership, reaper

NOBODY = 65534
TOKEN = "fim-0123456789"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user may write to, as /tmp is; every user can reach its path."""
    path = Path(tempfile.mkdtemp(prefix="fim-attack-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory of root whose content must stay."""
    (tmp_path / "precious" / "e").mkdir(parents=True)
    (tmp_path / "precious" / "e" / "file").write_text("keep")
    return tmp_path / "precious"


def as_nobody(script: str, *arguments: object) -> None:
    """Run a shell script as the attacker."""
    argv = ["sh", "-euc", script, "sh", *map(str, arguments)]
    subprocess.run(argv, check=True, user=NOBODY, group=NOBODY, extra_groups=[], umask=0o22)


@contextlib.contextmanager
def fake_qemu() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the attacker that looks like a QEMU of the run `TOKEN`."""
    argv = ["qemu-system-x86_64", "-c", "echo; read _", f"guest={TOKEN}-1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, executable="/bin/sh", stdin=pipe, stdout=pipe, user=NOBODY) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def reap(root: Path) -> tuple[list[reaper.Reaped], list[str], list[str]]:
    """Return what was reaped, which libvirt URIs were opened, and the warnings."""
    uris: list[str] = []
    warnings: list[str] = []

    def domains(uri: str, _token: str) -> int:
        uris.append(uri)
        return 0

    return reaper.reap([root], domains, also_kept=True, warn=warnings.append), uris, warnings


PLANTED = {
    "link to a directory": 'mkdir "$1"; ln -s "$2" "$1/$3"',
    "root is a link": 'mkdir "$1.d"; ln -s "$2" "$1.d/$3"; ln -s "$1.d" "$1"',
    "libvirt URI": 'mkdir -p "$1/$3"; printf "%s" "$4" >"$1/$3/owner.json"',
    "unreadable": 'mkdir -p "$1/$3"; chmod 0 "$1"',
    "lock is a link": 'mkdir -p "$1/$3"; ln -s "$2/e/file" "$1/$3/lock"',
    "fifo": 'mkdir -p "$1/$3"; mkfifo "$1/$3/owner.json" "$1/$3/kept.json"',
    "open to all": 'mkdir -p "$1/$3"; chmod 0777 "$1" "$1/$3"; ln -s "$2" "$1/$3/e"',
}


@pytest.mark.parametrize("planted", PLANTED)
def test_files_of_another_user_are_ignored(planted: str, shared: Path, precious: Path) -> None:
    """Nothing is removed, no URI is opened, and a warning names the directory and its owner."""
    root = shared / "fim-harness-0"
    owner = json.dumps({"pid": 1, "uri": "qemu+ssh://x/system?command=/tmp/evil"})
    as_nobody(PLANTED[planted], root, precious, TOKEN, owner)
    reaped, uris, warnings = reap(root)
    assert (reaped, uris) == ([], [])
    assert (precious / "e" / "file").read_text() == "keep"
    assert root.is_symlink() or root.is_dir()
    (warning,) = warnings
    assert str(root) in warning
    assert "belongs to another user (uid 65534)" in warning or "is not a directory" in warning


def test_a_planted_kept_machine_is_not_entered(shared: Path) -> None:
    """`harness shell --attach` would run the command that its file names, as root."""
    root = shared / "fim-harness-0"
    rows = json.dumps([{"machine": f"{TOKEN}-1", "cell": "6.1-auto", "ssh": ["sh", "-c", "id >/tmp/evil"]}])
    as_nobody('mkdir -p "$1/$2"; printf "%s" "$3" >"$1/$2/kept.json"', root, TOKEN, rows)
    with fake_qemu(), pytest.raises(InfrastructureError, match="no machine is kept"):
        kept.find("6.1-auto", ownership.run_directories([root]))


def test_a_run_directory_inside_a_replaceable_parent_is_not_trusted(shared: Path, precious: Path) -> None:
    """It is private, but another user owns the directory above it and could replace it."""
    as_nobody('mkdir "$1/cache"', shared)
    root = shared / "cache" / "run"
    root.mkdir(mode=0o700)
    (root / TOKEN).mkdir(mode=0o700)
    (root / TOKEN / "e").symlink_to(precious)
    reaped, _, warnings = reap(root)
    assert reaped == []
    assert warnings == [f"ignored: {shared}/cache, above {root}, belongs to another user (uid {NOBODY})"]


def test_a_link_in_a_run_directory_is_removed_and_not_followed(tmp_path: Path, precious: Path) -> None:
    """The dead run that has it is reaped all the same."""
    root = tmp_path / "run"
    (root / TOKEN).mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    (root / TOKEN / "e").symlink_to(precious)
    reaped, _, _ = reap(root)
    assert reaped == [reaper.Reaped(TOKEN, (), 0)]
    assert (precious / "e" / "file").read_text() == "keep"


def test_another_users_qemu_is_not_ended(shared: Path) -> None:
    """Whatever its command line."""
    root = shared / "fim-harness-0"
    (root / TOKEN).mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    with fake_qemu() as process:
        reaped, _, _ = reap(root)
        assert reaped == [reaper.Reaped(TOKEN, (), 0)]
        assert process.poll() is None


def test_a_taken_root_is_passed_over(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If another user made the first root, the run uses the next one."""
    taken, free = shared / "fim-harness-0", tmp_path / "r"
    as_nobody('mkdir -m 0777 "$1"', taken)
    monkeypatch.setattr(ownership, "runtime_roots", lambda: [taken, free])
    with ownership.RunDirectory.claim() as directory:
        assert directory.path.parent == free
    assert list(taken.iterdir()) == []


def test_files_of_a_run_are_private_under_any_umask(tmp_path: Path) -> None:
    """Keys, the libvirt URI and kept machines have mode 0600, below 0700."""
    before = os.umask(0)
    try:
        with ownership.RunDirectory.claim(tmp_path / "r") as directory:
            directory.note_uri("qemu:///embed")
            kept.note(directory.path, kept.Kept("m", "c", ("ssh",)))
            modes = {path.name: path.stat().st_mode & 0o777 for path in directory.path.iterdir()}
            assert modes == {"lock": 0o600, "owner.json": 0o600, "kept.json": 0o600}
            assert directory.path.stat().st_mode & 0o777 == 0o700
            assert ownership.owner_uri(directory) == "qemu:///embed"
    finally:
        os.umask(before)
