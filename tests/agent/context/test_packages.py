"""A package manager is recognised only by the path of its program in the host's mount namespace."""

from __future__ import annotations

import os

import pytest

from agent.context.enrich import Enricher
from agent.context.packages import is_manager, manager_of
from agent.events.actors import Process
from agent.events.model import Event
from tests.agent.context.conftest import SECOND, FakeHost, exec_, exit_, fork, opened


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


def test_a_process_works_for_a_package_manager_while_that_runs(host: FakeHost) -> None:
    """A daemon that a package's script has started is not dpkg's any more once dpkg has ended."""
    host.add_process(7, 1, b"/usr/bin/dpkg", b"dpkg", b"-i")
    host.add_process(1, 0, b"/sbin/init", b"init")
    enricher = host.enricher()
    enricher.start()
    for event in (fork(SECOND, 8, 7), exec_(SECOND, 8, 7, b"/usr/sbin/sshd"), fork(SECOND, 9, 8)):
        enricher.context(event)

    def managers(time_ns: int) -> list[bytes]:
        return [
            enricher.context(_on_the_host(enricher, time_ns, pid)).process.package_manager for pid in (8, 9)
        ]

    assert managers(2 * SECOND) == [b"dpkg", b"dpkg"]
    enricher.context(exit_(3 * SECOND, 7))
    assert managers(2 * SECOND) == [b"dpkg", b"dpkg"]  # an event that is handled late
    assert managers(4 * SECOND) == [b"", b""]
    enricher.context(exec_(5 * SECOND, 7, 1, b"/usr/bin/less"))  # another process with this pid
    assert managers(20 * SECOND) == [b"", b""]


def test_the_nearest_package_manager_that_still_runs_counts(host: FakeHost) -> None:
    """What outlives dpkg still works for apt."""
    host.add_process(6, 1, b"/usr/bin/apt-get", b"apt-get")
    host.add_process(7, 6, b"/usr/bin/dpkg", b"dpkg", b"-i")
    enricher = host.enricher()
    enricher.start()
    for event in (fork(SECOND, 8, 7), exec_(SECOND, 8, 7, b"/usr/bin/cp"), exit_(3 * SECOND, 7)):
        enricher.context(event)
    late = _on_the_host(enricher, 4 * SECOND, 8)
    assert enricher.context(late).process.package_manager == b"apt"


def _on_the_host(enricher: Enricher, time_ns: int, pid: int) -> Event:
    event = opened(time_ns, pid)
    event.mount_ns = enricher._host_ns
    return event
