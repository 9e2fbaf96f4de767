"""The faults, as data: what is done, when, and in which verdict it must end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from harness.config import Cmdline
from harness.verdict import Verdict
from harness.vm import ports, snapshot
from tests.faults.world import Fault, Inject, Scene

BOOT_FAIL, CRASH, FAIL, INFRA = Verdict.BOOT_FAIL, Verdict.CRASH, Verdict.FAIL, Verdict.INFRA
PASS, SPLAT, TIMEOUT = Verdict.PASS, Verdict.SPLAT, Verdict.TIMEOUT

AGENT = "pkill -{signal} -f 'agent selftest'"
HOG = 'python3 -c "import os; x=[]; [x.append(os.urandom(1<<20)) for _ in range(4096)]"'


def guest(command: str) -> Inject:
    """A shell command in the guest."""
    return lambda scene: scene.guest(command)


def qemu(number: signal.Signals) -> Inject:
    """A signal to QEMU."""
    return lambda scene: os.kill(scene.qemu(), number)


def cmdline(words: str) -> Inject:
    """More on the kernel's command line."""

    def inject(scene: Scene) -> None:
        changed = Cmdline(name="fault", args=words)
        before = scene.cell.machine
        scene.cell = scene.cell.model_copy(update={"cmdline": changed})
        files = {**scene.supplies.files, scene.cell.machine: scene.supplies.files[before]}
        scene.supplies = scene.supplies.model_copy(update={"files": files})

    return inject


def damaged(kind: str, change: Callable[[bytes], bytes]) -> Inject:
    """One of the machine's files, changed."""

    def inject(scene: Scene) -> None:
        original = Path(scene.supplies.files[scene.cell.machine][kind])
        copy = scene.folder / f"damaged-{kind}"
        copy.write_bytes(change(original.read_bytes()))
        scene.replace_file(kind, copy)

    return inject


def missing_file(kind: str) -> Inject:
    """One of the machine's files, gone."""
    return lambda scene: scene.replace_file(kind, scene.folder / "gone")


def lost_package(scene: Scene) -> None:
    """What a mirror that lost a package leaves behind."""
    why = {scene.cell.machine: "linux-image: 404 Not Found"}
    scene.supplies = scene.supplies.model_copy(update={"missing": why})


def half(data: bytes) -> bytes:
    """The first half."""
    return data[: len(data) // 2]


def zeros(data: bytes) -> bytes:
    """As long, and nothing in it."""
    return bytes(len(data))


def scrambled(data: bytes) -> bytes:
    """A start that is right, then noise."""
    return data[:8192] + os.urandom(len(data) - 8192)


def full_disk(scene: Scene) -> None:
    """The machine's folder on a disk that is full before it starts."""
    _small_disk(scene, "64k")
    with contextlib.suppress(OSError), (scene.folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass


def filling_disk(scene: Scene) -> None:
    """One that has room for the first lines of the console."""
    _small_disk(scene, "24k")


def _small_disk(scene: Scene, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", scene.folder], check=True)
    scene.undo.append(lambda: subprocess.run(["umount", "-l", scene.folder], check=True))


class _TakenPort(ports.Port):
    """A port that somebody listens on."""

    times = 0

    def __init__(self) -> None:
        super().__init__()
        if _TakenPort.times > 0:
            _TakenPort.times -= 1
            self._thief = socket.socket()
            self._thief.bind((ports.ADDRESS, 0))
            self._thief.listen()
            self.number = self._thief.getsockname()[1]


def taken_port(times: int) -> Inject:
    """The first ports are in use."""

    def inject(scene: Scene) -> None:
        _TakenPort.times = times
        patch = mock.patch("harness.vm.machine.Port", _TakenPort)
        patch.start()
        scene.undo.append(patch.stop)

    return inject


def bad_snapshot(change: Callable[[bytes], bytes]) -> Inject:
    """A snapshot that passes every check and is none."""

    def inject(scene: Scene) -> None:
        real = snapshot.Snapshots.find

        def find(self: snapshot.Snapshots, spec: object) -> snapshot.Snapshot | None:
            found = real(self, spec)  # type: ignore[arg-type]
            if found is None:
                return None
            copy = snapshot.Snapshot.within(scene.folder)
            copy.memory.write_bytes(change(found.memory.read_bytes()))
            return snapshot.Snapshot(copy.memory, found.console)

        patch = mock.patch.object(snapshot.Snapshots, "find", find)
        patch.start()
        # Nor is the good one dropped for the bad one's sake.
        keep = mock.patch.object(snapshot.Snapshots, "drop", return_value=None)
        keep.start()
        scene.undo += [patch.stop, keep.stop]

    return inject


def cut_ssh(scene: Scene) -> None:
    """The connection ends under us."""
    scene.vm.guest.close()


def frozen(scene: Scene) -> None:
    """A guest whose CPU stands still, under a QEMU that is well."""
    scene.vm.machine._domain._handle.suspend()  # type: ignore[union-attr]


def replaced_agent(program: str) -> Inject:
    """Something else where the agent should be."""

    def inject(scene: Scene) -> None:
        scene.vm.guest.put_bytes(program.encode(), "/opt/fim/agent/__main__.py")
        scene.vm.guest.run(["sh", "-c", "rm -f /opt/fim/agent/__pycache__/__main__*"])

    return inject


def after(seconds: float, inject: Inject) -> Inject:
    """A while later, in a phase that goes on meanwhile."""

    def later(scene: Scene) -> None:
        time.sleep(seconds)
        scene.injected_at = time.monotonic()
        inject(scene)

    return later


WARNING = "WARNING: CPU: 0 PID: 1 at fs/open.c:1 do_sys_open+0x1/0x2"

FAULTS = (
    Fault("kernel cut in half", "before", damaged("kernel", half), (BOOT_FAIL, INFRA), cold=True),
    Fault("kernel of zeros", "before", damaged("kernel", zeros), (INFRA, BOOT_FAIL), cold=True),
    Fault("initramfs cut in half", "before", damaged("initramfs", half), (BOOT_FAIL,), cold=True),
    Fault("initramfs of noise", "before", damaged("initramfs", scrambled), (BOOT_FAIL,), cold=True),
    Fault("image of zeros", "before", damaged("root", zeros), (BOOT_FAIL,), cold=True),
    Fault("image of noise", "before", damaged("root", scrambled), (BOOT_FAIL,), cold=True),
    Fault("image gone", "before", missing_file("root"), (INFRA,)),
    Fault("package lost by the mirror", "before", lost_package, (INFRA,)),
    Fault("no such init", "before", cmdline("rdinit=/nothing"), (BOOT_FAIL,), cold=True),
    Fault("no memory to boot in", "before", cmdline("mem=64M"), (BOOT_FAIL,), cold=True),
    Fault("host's disk full", "before", full_disk, (INFRA,), cold=True),
    Fault("host's disk fills up", "before", filling_disk, (INFRA,), cold=True),
    Fault("port taken", "before", taken_port(1), (PASS,)),
    Fault("every port taken", "before", taken_port(99), (INFRA,)),
    Fault("snapshot cut in half", "before", bad_snapshot(half), (PASS,)),
    Fault("snapshot of noise", "before", bad_snapshot(lambda data: os.urandom(len(data))), (PASS,)),
    Fault("QEMU killed while booting", "booting", after(2, qemu(signal.SIGKILL)), (INFRA,), cold=True),
    Fault("QEMU stopped while booting", "booting", after(2, qemu(signal.SIGSTOP)), (INFRA,), cold=True),
    Fault("panic once ready", "ready", guest("echo c >/proc/sysrq-trigger"), (BOOT_FAIL,)),
    Fault("guest's disk full", "ready", guest("cat /dev/zero >/opt/zeros"), (INFRA, BOOT_FAIL)),
    Fault("power off once ready", "ready", guest("echo o >/proc/sysrq-trigger"), (BOOT_FAIL,)),
    Fault("panic once deployed", "deployed", guest("echo c >/proc/sysrq-trigger"), (CRASH, BOOT_FAIL)),
    Fault("agent that only prints PASS", "deployed", replaced_agent("print('PASS')"), (FAIL,)),
    Fault("agent that ends at once", "deployed", replaced_agent("raise SystemExit(0)"), (FAIL,)),
    Fault("agent that prints noise", "deployed", replaced_agent("print('x' * (1 << 24))"), (FAIL, INFRA)),
    Fault("panic in load", "load", guest("sleep 0.5; echo c >/proc/sysrq-trigger"), (CRASH,)),
    Fault("agent killed in load", "load", guest(f"sleep 0.3; {AGENT.format(signal='KILL')}"), (FAIL,)),
    Fault("QEMU killed in load", "load", qemu(signal.SIGKILL), (INFRA,)),
    Fault("panic in a test", "test", guest("echo c >/proc/sysrq-trigger"), (CRASH,)),
    Fault("reboot in a test", "test", guest("echo b >/proc/sysrq-trigger"), (CRASH, INFRA)),
    Fault("power off in a test", "test", guest("echo o >/proc/sysrq-trigger"), (CRASH,)),
    Fault("kernel warns in a test", "test", guest(f"echo '<4>{WARNING}' >/dev/kmsg"), (SPLAT,)),
    Fault("out of memory in a test", "test", guest(HOG), (SPLAT, FAIL, CRASH)),
    Fault("panic on out of memory", "test", guest(f"echo 2 >/proc/sys/vm/panic_on_oom; {HOG}"), (CRASH,)),
    Fault("agent killed", "test", guest(AGENT.format(signal="KILL")), (FAIL,)),
    Fault("agent stopped", "test", guest(AGENT.format(signal="STOP")), (TIMEOUT,)),
    Fault("agent killed, PASS on the console", "test", guest(
        f"echo 'PASS {{\"verdict\":\"PASS\"}}' >/dev/ttyS0; {AGENT.format(signal='KILL')}"), (FAIL,)),
    Fault("kernel stands still", "test", frozen, (TIMEOUT,)),
    Fault("CPU taken for ever", "test", guest(
        "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; exec chrt -f 99 sh -c 'while :; do :; done'"
    ), (TIMEOUT, CRASH)),
    Fault("SSH cut here", "test", cut_ssh, (INFRA,)),
    Fault("SSH killed in the guest", "test", guest("pkill -KILL sshd"), (INFRA, FAIL)),
    Fault("QEMU killed in a test", "test", qemu(signal.SIGKILL), (INFRA,)),
    Fault("QEMU stopped in a test", "test", qemu(signal.SIGSTOP), (INFRA,)),
    Fault("clock jumps a year", "test", guest("date -s '+1 year'"), (PASS,)),
    Fault("program prints a panic", "test", guest("echo 'Kernel panic - not syncing' >/dev/ttyS0"), (PASS,)),
    Fault("a mount left behind", "test", guest("mount -t tmpfs left /mnt"), (FAIL,)),
    Fault("a process left behind", "test", guest("exec sleep 9999"), (FAIL,)),
)  # fmt: skip
