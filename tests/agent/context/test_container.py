"""Container ids from the cgroup paths that real runtimes make."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.context.container import container_of, container_of_process, users_cgroup
from agent.events.actors import HOST, Container

ID = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860"
OTHER = ID[::-1]
TASK = "8f6a44fc62e8cb075753c843896568ca"
STATIC_POD = "8f6a44fc62e8cb075753c843896568ca"
POD = "ac04f3f2-1f2c-11e9-b015-1ebee232acfa"
SLICE = f"kubepods-besteffort-pod{POD.replace('-', '_')}.slice"

PATHS = [
    (f"/docker/{ID}", ID, "docker"),
    (f"/system.slice/docker-{ID}.scope", ID, "docker"),
    (f"/system.slice/docker-{ID}.scope/init.scope", ID, "docker"),
    (f"/kubepods.slice/kubepods-besteffort.slice/{SLICE}/docker-{ID}.scope", ID, "docker"),
    (f"/kubepods.slice/kubepods-besteffort.slice/{SLICE}/cri-containerd-{ID}.scope", ID, "containerd"),
    (f"/system.slice/containerd.service/{SLICE}:cri-containerd:{ID}", ID, "containerd"),
    (f"/kubepods/besteffort/pod{POD}/{ID}", ID, "containerd"),
    (f"/k8s.io/{ID}", ID, "containerd"),
    (f"/system.slice/nerdctl-{ID}.scope", ID, "containerd"),
    (f"/kubepods.slice/kubepods-besteffort.slice/{SLICE}/crio-{ID}.scope", ID, "cri-o"),
    (f"/kubepods/besteffort/pod{POD}/crio-{ID}", ID, "cri-o"),
    (f"/machine.slice/libpod-{ID}.scope", ID, "podman"),
    (f"/machine.slice/libpod-{ID}.scope/container", ID, "podman"),
    (f"/libpod_parent/libpod-{ID}", ID, "podman"),
    ("/machine.slice/machine-debian.scope/payload/init.scope", "debian", "systemd-nspawn"),
    (f"/machine.slice:libpod:{ID}", ID, "podman"),
    (f"/system.slice/web.service/libpod-payload-{ID}", ID, "podman"),
    (f"/kubepods/burstable/pod{STATIC_POD}/{ID}", ID, "containerd"),
    (f"/kubepods.slice/kubepods-burstable-pod{STATIC_POD}.slice/{ID}", ID, "containerd"),
    (f"/kubepods.slice/kubepods-burstable-pod{STATIC_POD}.slice:crio:{ID}", ID, "cri-o"),
    (f"/system.slice:docker:{ID}", ID, "docker"),
    (f"/ecs/{TASK}/{ID}", ID, "docker"),
    (f"/ecs/{TASK}/{TASK}-2683437224", f"{TASK}-2683437224", "containerd"),
    (f"/system.slice/ecs-agent.service/{ID}", ID, "docker"),
    (f"/custom-ns/{ID}", ID, "containerd"),
    (f"/mygroup/{ID}", ID, "containerd"),
    ("/machine.slice/systemd-nspawn@web\\x2d1.service/payload", "web-1", "systemd-nspawn"),
    ("/lxc.payload.web/system.slice", "web", "lxc"),
    ("/lxc/web", "web", "lxc"),
]

ROOTLESS = [
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
    f"/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}",
    f"/user.slice/user-1000.slice/user@1000.service/mine/{ID}",
]

NOT_CONTAINERS = [
    "/",
    "/init.scope",
    "/system.slice/docker.service",
    "/user.slice/user-0.slice/session-1.scope",
    f"/machine.slice/libpod-conmon-{ID}.scope",
    f"/kubepods.slice/{SLICE}/crio-conmon-{ID}.scope",
    "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt",
    "/machine.slice/machine-debian.scope/supervisor",
    "/system.slice/docker-123.scope",
    f"/system.slice/docker-{ID}x.scope",
    "/system.slice/web.service/runtime",
    "/lxc.monitor.web",
    f"/kubepods/burstable/pod{STATIC_POD}",
]


@pytest.mark.parametrize(("path", "id_", "runtime"), PATHS)
def test_each_runtime(path: str, id_: str, runtime: str) -> None:
    assert container_of(path.encode()) == Container(id_.encode(), runtime.encode())


@pytest.mark.parametrize("path", NOT_CONTAINERS)
def test_similar_paths_are_no_container(path: str) -> None:
    assert container_of(path.encode()) is HOST


@pytest.mark.parametrize("path", ROOTLESS)
def test_a_group_below_a_users_manager_is_the_users_claim(path: str) -> None:
    """Its id is reported apart, so that a user cannot evade a rule with `container.id == ""`."""
    assert container_of(path.encode()) == Container(rootless_id=ID.encode())


@pytest.mark.parametrize("name", [f"docker-{ID}.scope", f"mine/{ID}", f"lxc/{ID}", f"a/b/libpod-{ID}/c"])
def test_a_group_in_a_directory_of_a_user_is_the_users_claim(name: str) -> None:
    """A service with `User=` and `Delegate=` has such a directory outside of the user's manager."""
    service = b"/system.slice/web.service"
    path = service + b"/" + name.encode()
    assert container_of(path, lambda one: one.startswith(service)) == Container(rootless_id=ID.encode())
    assert container_of(path, lambda one: not one.startswith(service)).id == ID.encode()


def test_what_a_container_delegates_inside_is_still_that_container() -> None:
    """Only the directory in which the container's own cgroup was made counts."""
    path = f"/system.slice/docker-{ID}.scope/init.scope".encode()
    assert container_of(path, lambda one: one.startswith(path[:-11])).id == ID.encode()


def test_the_owner_of_a_cgroup_that_is_gone_is_that_of_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user cannot get another answer by removing the cgroup before the agent looks."""
    (tmp_path / "system.slice/web.service").mkdir(parents=True)
    real = os.stat

    def stat(path: bytes) -> SimpleNamespace:
        real(path)
        return SimpleNamespace(st_uid=1000 if path.endswith(b"/web.service") else 0)

    monkeypatch.setattr(os, "stat", stat)
    mount = os.fsencode(tmp_path)
    assert users_cgroup(mount, b"/system.slice/web.service")
    assert users_cgroup(mount, b"/system.slice/web.service/gone/too")
    assert not users_cgroup(mount, b"/system.slice/gone.service/x")
    assert not users_cgroup(mount + b"/nowhere", b"/x")


def test_a_user_session_inside_a_container_is_still_that_container() -> None:
    inside = f"/system.slice/docker-{ID}.scope/user.slice/user@0.service/docker-{OTHER}.scope"
    assert container_of(inside.encode()) == Container(ID.encode(), b"docker")


def test_a_container_cannot_pass_for_another() -> None:
    inside = f"/system.slice/docker-{ID}.scope/libpod-{OTHER}.scope/docker/{OTHER}/supervisor"
    assert container_of(inside.encode()) == Container(ID.encode(), b"docker")


def test_cgroup_v1_has_the_id_in_any_hierarchy() -> None:
    content = f"12:pids:/user.slice\n3:cpu:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice\n"
    assert container_of_process(content.encode()) == Container(ID.encode(), b"docker")
    assert container_of_process(b"0::/\nnonsense\n") is HOST
