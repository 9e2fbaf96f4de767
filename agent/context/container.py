"""Derives the container of a process from the path of its cgroup.

After a process has ended, the path is the only trace of its container. PATTERNS lists how each runtime names
its cgroups, with the cgroupfs and the systemd driver, on cgroup v1 and v2. Processes in a container can
choose the names below the container's own cgroup, so the outermost match decides: a container cannot pose as
another one. Helpers that a runtime runs beside the container (conmon, nspawn's supervisor) belong to the
host.

A user can create any cgroup below the subtree that systemd delegates to the user (`user@UID.service`), and in
every other directory that belongs to the user, such as that of a service with `User=` and `Delegate=`. An id
from there is not verified. It is reported as `rootless_id`, and the process counts as a process of the host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.events.actors import HOST, Container

_ID = rb"(?P<id>[0-9a-f]{64})"
_MACHINE = rb"(?P<id>[^/]+)"
_ANY = rb".*"
_TASK = rb"[0-9a-f]{32}"  # a task of ECS
_POD = rb"([0-9a-f_-]{36}|[0-9a-f]{32})"  # a pod's uid; that of a static pod is a hash without dashes


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one runtime names a cgroup: expressions for a path component and for its parent."""

    runtime: bytes
    component: re.Pattern[bytes]
    parent: re.Pattern[bytes]


def _pattern(runtime: bytes, component: bytes, parent: bytes = _ANY) -> Pattern:
    return Pattern(runtime, re.compile(component, re.DOTALL), re.compile(parent, re.DOTALL))


# The first pattern that matches decides, so general patterns come last.
PATTERNS = (
    _pattern(b"docker", rb"docker-" + _ID + rb"\.scope"),  # systemd driver
    _pattern(b"docker", rb".*:docker:" + _ID),
    _pattern(b"docker", _ID, rb"docker|docker\.service"),  # cgroupfs driver, rootless
    _pattern(b"docker", _ID, _TASK + rb"|ecs-agent\.service"),  # ECS
    _pattern(b"containerd", rb"(?P<id>" + _TASK + rb"-[0-9]{1,20})", _TASK),  # ECS on Fargate
    _pattern(b"containerd", rb"(cri-containerd|nerdctl)-" + _ID + rb"\.scope"),
    # runc's slice:prefix:name, which the cgroupfs driver uses as a directory name.
    _pattern(b"containerd", rb".*:(cri-containerd|nerdctl):" + _ID),
    _pattern(b"cri-o", rb"crio-" + _ID + rb"(\.scope)?"),
    _pattern(b"cri-o", rb".*:crio:" + _ID),
    _pattern(b"podman", rb"libpod-(payload-)?" + _ID + rb"(\.scope)?"),  # payload: a unit made by Quadlet
    _pattern(b"podman", rb".*:libpod:" + _ID),
    # libvirt registers virtual machines in the same way: "machine-qemu\x2d1\x2dname.scope" is no container.
    _pattern(b"systemd-nspawn", rb"machine-(?!qemu\\x2d|lxc\\x2d)" + _MACHINE + rb"\.scope", rb".*\.slice"),
    _pattern(b"systemd-nspawn", rb"systemd-nspawn@" + _MACHINE + rb"\.service", rb".*\.slice"),
    _pattern(b"lxc", rb"lxc\.payload\." + _MACHINE),
    _pattern(b"lxc", _MACHINE, rb"lxc"),  # up to LXC 3
    # Kubernetes with the cgroupfs driver, until 1.24 also for docker.
    _pattern(b"containerd", _ID, rb"pod" + _POD + rb"|kubepods.*-pod" + _POD + rb"\.slice"),
    # containerd names the parent after its own namespace, or as given by `--cgroup-parent`.
    _pattern(b"containerd", _ID),
)

_SUPERVISOR = b"supervisor"  # cgroup of nspawn's own process beside its payload
_DELEGATED = re.compile(rb"user@[0-9]+\.service")  # below it a user chooses the names
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def _root_owns(_path: bytes) -> bool:
    return False


def container_of(path: bytes, users: Callable[[bytes], bool] = _root_owns) -> Container:
    """Return the container of a cgroup path, the third field of `/proc/PID/cgroup`; HOST for none.

    `users` returns whether the directory of a cgroup belongs to another user than root.
    """
    components = [*path.split(b"/"), b""]
    delegated = False
    for depth, (parent, component, child) in enumerate(
        zip(components, components[1:], components[2:], strict=False), start=1
    ):
        delegated = delegated or _DELEGATED.fullmatch(component) is not None
        container = _match(component, parent)
        if container is None:
            continue
        if child == _SUPERVISOR and container.runtime == b"systemd-nspawn":
            return HOST
        if delegated or users(b"/".join(components[:depth])):
            return Container(rootless_id=container.id)
        return container
    return HOST


def users_cgroup(mount: bytes, path: bytes) -> bool:
    """Whether the directory of a cgroup belongs to another user than root, or was made below such a one.

    Of a cgroup that is gone the nearest one above it that exists decides.
    """
    while True:
        try:
            return os.stat(mount + path).st_uid != 0  # noqa: PTH116 - names are bytes
        except FileNotFoundError:
            if not path:
                return False
            path = path.rpartition(b"/")[0]
        except OSError:
            return False


def _match(component: bytes, parent: bytes) -> Container | None:
    for pattern in PATTERNS:
        match = pattern.component.fullmatch(component)
        if match and pattern.parent.fullmatch(parent):
            return Container(_unescape(match["id"]), pattern.runtime)
    return None


def _unescape(name: bytes) -> bytes:
    r"""Undo the escapes, such as `\x2d`, of characters that a systemd unit name cannot contain."""
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), name)


def container_of_process(cgroup_file: bytes) -> Container:
    """Return the container from the content of a `/proc/PID/cgroup`: that of the first hierarchy with one."""
    for line in cgroup_file.splitlines():
        parts = line.split(b":", 2)
        if len(parts) == 3 and (container := container_of(parts[2])) is not HOST:
            return container
    return HOST
