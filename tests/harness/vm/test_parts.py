"""Small parts of a machine: its port, its run disk, its libvirt root."""

from __future__ import annotations

import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness.vm import rundisk
from harness.vm.embed import EmbedRoot
from harness.vm.ports import ADDRESS, Port


def test_port_is_kept_from_others_and_left_to_qemu() -> None:
    """No other process gets the port by chance; one that sets SO_REUSEADDR, as QEMU does, may use it."""
    with Port() as port, socket.socket() as other, socket.socket() as qemu:
        with pytest.raises(OSError, match="in use"):
            other.bind((ADDRESS, port.number))
        qemu.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        qemu.bind((ADDRESS, port.number))
        qemu.listen()


def test_run_disk(tmp_path: Path) -> None:
    """A tar archive of a fixed size that only this user can read."""
    disk = tmp_path / "run.tar"
    rundisk.write(disk, {"host_key": b"k" * 400, "authorized_keys": b"a"})
    assert disk.stat().st_size == rundisk.SIZE
    assert disk.stat().st_mode & 0o077 == 0
    with tarfile.open(disk) as tar:
        assert [member.name for member in tar] == ["host_key", "authorized_keys"]
        assert tar.extractfile("host_key").read() == b"k" * 400  # type: ignore[union-attr]


def test_run_disk_that_does_not_fit(tmp_path: Path) -> None:
    """It is refused and not cut."""
    with pytest.raises(ValueError, match="do not fit"):
        rundisk.write(tmp_path / "run.tar", {"host_key": b"k" * rundisk.SIZE})


def test_embedded_root(tmp_path: Path) -> None:
    """It has its configuration, a URI in which spaces are escaped, and the capabilities of earlier runs."""
    first, second = (EmbedRoot(tmp_path / f"a root {n}", tmp_path / "shared") for n in (1, 2))
    first.prepare()
    assert 'stdio_handler = "file"' in (first.path / "etc" / "qemu.conf").read_text()
    assert first.uri.endswith("/a%20root%201")
    probed = first.path / "cache" / "qemu" / "capabilities" / "abc.xml"
    probed.write_text("<qemuCaps/>")
    first.keep_capabilities()
    second.prepare()
    assert (second.path / "cache" / "qemu" / "capabilities" / "abc.xml").read_text() == "<qemuCaps/>"


LOOP = """
import atexit
from harness.vm import eventloop
threads = []
atexit.register(lambda: print("alive" if threads[0].is_alive() else "ended"))
threads.append(eventloop.start())
"""


def test_event_loop_ends_before_python() -> None:
    """A callback of libvirt into an interpreter that is shutting down ends in SIGSEGV."""
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
