"""Derives the container of a process from the path of its control group.

After a process has ended, the path is the only trace of its container. PATTERNS is the table of how each
runtime names its groups, with the cgroupfs and the systemd driver, on cgroup v1 and v2. A name below a
container's own group is chosen inside the container, so the outermost match counts: a container cannot pose
as another one. Helpers that a runtime leaves beside the container (conmon, nspawn's supervisor) belong to the
host.

A user can create any group below the subtree that systemd delegates to him (`user@UID.service`). An id found
there is the user's claim, and is reported as `rootless_id`; the process counts as one of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.events.actors import HOST, Container

_ID = rb"(?P<id>[0-9a-f]{64})"
_MACHINE = rb"(?P<id>[^/]+)"
_ANY = rb".*"
_TASK = rb"[0-9a-f]{32}"  # a task of ECS
_POD = rb"([0-9a-f_-]{36}|[0-9a-f]{32})"  # a pod's uid; that of a static pod is a hash without dashes


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one runtime names a cgroup: expressions for a path component and for the component above it."""

    runtime: bytes
    component: re.Pattern[bytes]
    parent: re.Pattern[bytes]


def _pattern(runtime: bytes, component: bytes, parent: bytes = _ANY) -> Pattern:
    return Pattern(runtime, re.compile(component, re.DOTALL), re.compile(parent, re.DOTALL))


# The first pattern that fits counts, so the general ones stand last.
PATTERNS = (
    _pattern(b"docker", rb"docker-" + _ID + rb"\.scope"),  # systemd driver
    _pattern(b"docker", rb".*:docker:" + _ID),
    _pattern(b"docker", _ID, rb"docker|docker\.service"),  # cgroupfs driver, rootless
    _pattern(b"docker", _ID, _TASK + rb"|ecs-agent\.service"),  # ECS
    _pattern(b"containerd", rb"(?P<id>" + _TASK + rb"-[0-9]{1,20})", _TASK),  # ECS on Fargate
    _pattern(b"containerd", rb"(cri-containerd|nerdctl)-" + _ID + rb"\.scope"),
    # runc's slice:prefix:name with the cgroupfs driver, which takes it for a directory.
    _pattern(b"containerd", rb".*:(cri-containerd|nerdctl):" + _ID),
    _pattern(b"cri-o", rb"crio-" + _ID + rb"(\.scope)?"),
    _pattern(b"cri-o", rb".*:crio:" + _ID),
    _pattern(b"podman", rb"libpod-(payload-)?" + _ID + rb"(\.scope)?"),  # payload: a unit made by Quadlet
    _pattern(b"podman", rb".*:libpod:" + _ID),
    # libvirt registers virtual machines likewise: "machine-qemu\x2d1\x2dname.scope" is no container.
    _pattern(b"systemd-nspawn", rb"machine-(?!qemu\\x2d|lxc\\x2d)" + _MACHINE + rb"\.scope", rb".*\.slice"),
    _pattern(b"systemd-nspawn", rb"systemd-nspawn@" + _MACHINE + rb"\.service", rb".*\.slice"),
    _pattern(b"lxc", rb"lxc\.payload\." + _MACHINE),
    _pattern(b"lxc", _MACHINE, rb"lxc"),  # up to LXC 3
    # Kubernetes with the cgroupfs driver: docker's too, until 1.24.
    _pattern(b"containerd", _ID, rb"pod" + _POD + rb"|kubepods.*-pod" + _POD + rb"\.slice"),
    # containerd names the group above after its own namespace, or as `--cgroup-parent` says.
    _pattern(b"containerd", _ID),
)

_SUPERVISOR = b"supervisor"  # nspawn's own process beside its payload
_DELEGATED = re.compile(rb"user@[0-9]+\.service")  # from here on a user names the groups
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def container_of(path: bytes) -> Container:
    """The container of a cgroup path, as in `/proc/PID/cgroup` after the second colon; `HOST` for none."""
    components = [*path.split(b"/"), b""]
    delegated = False
    for parent, component, child in zip(components, components[1:], components[2:], strict=False):
        delegated = delegated or _DELEGATED.fullmatch(component) is not None
        found = _match(component, parent)
        if found is None:
            continue
        if child == _SUPERVISOR and found.runtime == b"systemd-nspawn":
            return HOST
        return Container(rootless_id=found.id) if delegated else found
    return HOST


def _match(component: bytes, parent: bytes) -> Container | None:
    for pattern in PATTERNS:
        found = pattern.component.fullmatch(component)
        if found and pattern.parent.fullmatch(parent):
            return Container(_unescape(found["id"]), pattern.runtime)
    return None


def _unescape(name: bytes) -> bytes:
    """Undoes the `-x2d` with a backslash that systemd writes for what a unit name cannot hold."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name)


def container_of_process(cgroup_file: bytes) -> Container:
    """The container told by the content of a `/proc/PID/cgroup`: the first hierarchy that knows one."""
    for line in cgroup_file.splitlines():
        parts = line.split(b":", 2)
        if len(parts) == 3 and (found := container_of(parts[2])) is not HOST:
            return found
    return HOST
