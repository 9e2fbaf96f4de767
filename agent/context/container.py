"""Which container a control group belongs to.

Runtimes leave no other mark that survives a process's exit: the id is in the cgroup's path. The table says
how each runtime spells it, with the cgroupfs and the systemd driver, on cgroup v1 and v2. What lies below a
container's cgroup is named from inside it, so the outermost match counts: a container cannot pass for
another. Helpers that a runtime leaves on the host beside the container (conmon, nspawn's supervisor) are of
the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.events.actors import HOST, Container

_ID = rb"(?P<id>[0-9a-f]{64})"
_MACHINE = rb"(?P<id>[^/]+)"
_ANY = rb".*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one runtime names a cgroup: expressions for a path component and for the component above it."""

    runtime: bytes
    component: re.Pattern[bytes]
    parent: re.Pattern[bytes]


def _pattern(runtime: bytes, component: bytes, parent: bytes = _ANY) -> Pattern:
    return Pattern(runtime, re.compile(component, re.DOTALL), re.compile(parent, re.DOTALL))


PATTERNS = (
    _pattern(b"docker", rb"docker-" + _ID + rb"\.scope"),  # systemd driver
    _pattern(b"docker", _ID, rb"docker|docker\.service"),  # cgroupfs driver, rootless
    _pattern(b"containerd", rb"(cri-containerd|nerdctl)-" + _ID + rb"\.scope"),
    _pattern(
        b"containerd", rb".*:(cri-containerd|nerdctl):" + _ID
    ),  # runc's slice:prefix:name, taken as a directory
    _pattern(b"containerd", _ID, rb"default|k8s\.io|moby"),  # cgroupfs driver: containerd's namespaces
    _pattern(b"cri-o", rb"crio-" + _ID + rb"(\.scope)?"),
    _pattern(b"podman", rb"libpod-" + _ID + rb"(\.scope)?"),
    # A bare id in a pod is the cgroupfs driver of Kubernetes: docker's too, until 1.24.
    _pattern(b"containerd", _ID, rb"pod[0-9a-f_-]{36}|kubepods.*-pod[0-9a-f_]{36}\.slice"),
    # libvirt registers virtual machines likewise: "machine-qemu\x2d1\x2dname.scope" is no container.
    _pattern(b"systemd-nspawn", rb"machine-(?!qemu\\x2d|lxc\\x2d)" + _MACHINE + rb"\.scope", rb".*\.slice"),
    _pattern(b"systemd-nspawn", rb"systemd-nspawn@" + _MACHINE + rb"\.service", rb".*\.slice"),
)

_SUPERVISOR = b"supervisor"  # nspawn's own process beside its payload
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def container_of(path: bytes) -> Container:
    """The container of a cgroup path, as in `/proc/PID/cgroup` after the second colon; `HOST` for none."""
    components = [*path.split(b"/"), b""]
    for parent, component, child in zip(components, components[1:], components[2:], strict=False):
        found = _match(component, parent)
        if found is not None:
            return HOST if child == _SUPERVISOR and found.runtime == b"systemd-nspawn" else found
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
