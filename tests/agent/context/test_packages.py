"""A package manager is recognised only by the path of its program in the host's mount namespace."""

from __future__ import annotations

import os

import pytest

from agent.context.packages import is_manager, manager_of
from agent.events.actors import Process
from tests.agent.context.conftest import SECOND, FakeHost, exec_, fork, opened


@pytest.mark.parametrize(
    ("exe", "args", "manager"),
    [
        (b"/usr/bin/dpkg", (b"dpkg", b"-i"), b"dpkg"),
        (b"/usr/bin/apt-get", (), b"apt"),
        (b"/usr/bin/apt", (), b"apt"),
        (b"/usr/bin/rpm", (), b"rpm"),
        (b"/usr/bin/dnf5", (), b"dnf"),
        (b"/usr/bin/python3.11", (b"python3", b"/usr/bin/dnf", b"install"), b"dnf"),
        (b"/usr/libexec/platform-python3.6", (b"x", b"/usr/bin/dnf-3"), b"dnf"),
        (b"/usr/lib/snapd/snapd", (), b"snapd"),
        (b"/snap/snapd/21759/usr/lib/snapd/snapd", (), b"snapd"),
        (b"/usr/bin/flatpak", (), b"flatpak"),
        (b"/usr/bin/python3.13", (b"python", b"-m", b"pip", b"install"), b"pip"),
        (b"/usr/local/bin/python3.12", (b"python", b"/usr/local/bin/pip3"), b"pip"),
        (b"/usr/bin/node", (b"node", b"/usr/bin/npm", b"ci"), b"npm"),
        (b"/home/me/dpkg", (b"/usr/bin/dpkg",), b""),
        (b"/usr/local/bin/dpkg", (b"dpkg",), b""),
        (b"/home/me/snap/snapd/1/usr/lib/snapd/snapd", (), b""),
        (b"/usr/bin/python3.11", (b"/usr/bin/dnf", b"/home/me/dnf"), b""),
        (b"/usr/bin/python3.11", (b"python3", b"-c", b"/usr/bin/dnf"), b""),
        (b"/usr/bin/python3.11", (b"python3",), b""),
        (b"/usr/bin/node", (b"node", b"/tmp/\n/usr/bin/npm"), b""),
        (b"/usr/bin/bash", (b"/usr/bin/dpkg", b"/usr/bin/dpkg"), b""),
        (b"", (), b""),
    ],
)
def test_only_the_real_path_counts(exe: bytes, args: tuple[bytes, ...], manager: bytes) -> None:
    process = Process(comm=b"dpkg", exe=exe, args=args)
    assert manager_of(process) == manager
    assert is_manager(process) == bool(manager)


def test_the_nearest_ancestor_counts() -> None:
    """A script of a package that dpkg runs for apt works for dpkg."""
    ancestors = [Process(exe=exe) for exe in (b"/usr/bin/bash", b"/usr/bin/dpkg", b"/usr/bin/apt-get")]
    assert manager_of(Process(exe=b"/usr/bin/cp"), ancestors) == b"dpkg"
    assert manager_of(Process(exe=b"/usr/bin/cp"), ancestors[:1]) == b""


def test_a_mount_namespace_of_its_own_has_no_package_manager(host: FakeHost) -> None:
    """There a user can mount any program at /usr/bin/dpkg."""
    for pid in ("1", "self"):
        (host.proc / pid / "ns").mkdir(parents=True)
        (host.proc / pid / "ns/mnt").touch()
    enricher = host.enricher()
    enricher.context(exec_(SECOND, 7, 1, b"/usr/bin/dpkg", b"dpkg"))
    enricher.context(fork(2 * SECOND, 8, 7))
    enricher.context(exec_(3 * SECOND, 8, 7, b"/usr/bin/cp", b"cp"))
    event = opened(4 * SECOND, 8, 7)
    event.mount_ns = os.stat(host.proc / "1/ns/mnt").st_ino  # noqa: PTH116 - by path
    assert enricher.context(event).process.package_manager == b"dpkg"
    event.mount_ns += 1
    assert enricher.context(event).process.package_manager == b""
