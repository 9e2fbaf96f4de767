"""Programs that bcc compiles in real guests, also on a kernel without BTF."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.guest.base import Guest
from harness.guest.deploy import TARGET, deploy
from harness.guest.selftest import SERVE

if TYPE_CHECKING:
    from harness.vm.connection import Connection

pytestmark = pytest.mark.guest

TIMEOUT_S = 400.0
HIDE = "mount --bind /dev/null /sys/kernel/btf/vmlinux"

LAYOUT = """
from pathlib import Path
from tempfile import TemporaryDirectory
from agent.kernel import btf
from agent.kernel.bcc import compile
from agent.kernel.libbpf import Btf
with TemporaryDirectory() as folder:
    found = compile.observed(Path("agent/bpf"), Path(folder))
types = Btf.parse(btf.KERNEL)
mount = {one.name: one.offset for one in btf.members(types, "mount")[1]}
namespace = {one.name: one.offset for one in btf.members(types, "mnt_namespace")[1]}
common = {one.name: one.offset for one in btf.members(types, "ns_common")[1]}
print(list(found), [mount["mnt_id"], mount["mnt_ns"], namespace["ns"] + common["inum"]])
"""


@pytest.fixture(scope="module", params=["5.10", "7.3"])
def guest(
    request: pytest.FixtureRequest, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """A guest with bcc and headers, and with the agent deployed."""
    from harness.images import initramfs, modules_image, root_image
    from harness.kernels import KernelRequest, fetch, fetch_headers, resolve
    from harness.lab.supplies import bundle
    from harness.vm.domain import MachineSpec
    from harness.vm.machine import Machine

    resolved = resolve(KernelRequest(request.param, request.param))
    kernel = fetch(resolved)
    spec = MachineSpec(
        kernel.vmlinuz,
        initramfs(kernel),
        root_image("amd64", extra="compiler").path,
        tmp_path_factory.mktemp("machine"),
        (modules_image(kernel, headers=fetch_headers(resolved)),),
    )
    with Machine(spec, connection) as machine:
        machine.wait_ready(180)
        assert machine.guest
        deploy(machine.guest, bundle())
        yield machine.guest


def test_the_layout_found_in_memory_equals_the_btf(guest: Guest) -> None:
    """It is compared with the BTF of a kernel that has one."""
    done = guest.run(["env", "-C", TARGET, "python3", "-c", LAYOUT], TIMEOUT_S)
    assert done.status == 0, done.stderr
    found, replies = done.stdout.decode().strip().removesuffix("]").split("] ")
    assert f"{found}]" == f"{replies}]"


@pytest.mark.parametrize("transport", ["ringbuf", "perf"])
def test_auto_uses_compiled_programs_on_a_kernel_without_btf(guest: Guest, transport: str) -> None:
    """They see all event types, and the ledger of the self-test closes."""
    asked = [
        {"id": 1, "do": "load", "hookset": "auto", "btf": "kernel", "transport": transport},
        {"id": 2, "do": "test", "name": "truth.unlink"},
        {"id": 3, "do": "quit"},
    ]
    lines = "\n".join(json.dumps(one) for one in asked)
    script = f"{HIDE} && printf '%s\\n' '{lines}' | {' '.join(SERVE)}"
    done = guest.run(["sh", "-c", script], TIMEOUT_S)
    replies: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["ok"] for one in replies[1:]] == [True] * 3, done.stdout
    loaded, ran = replies[1:3]
    assert loaded["capabilities"]["bcc"] == "fires"
    assert set(loaded["coverage"].values()) == {"full"}
    assert {one["type"] for one in loaded["hooks"] if one["state"] == "attached"} == {"kprobe", "kretprobe"}
    assert ran["verdict"] == "PASS", ran
    families = next(one["got"] for one in ran["assertions"] if one["name"] == "events of attached programs")
    assert families == ["bcc"]
