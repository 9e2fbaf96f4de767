"""The faults as data: what is done, when, and the verdict that must follow."""

from __future__ import annotations

import os
import signal

from harness.results.verdict import Verdict
from tests.campaigns.faults import kvm
from tests.campaigns.faults.scene import AGENT, Fault, InGuest
from tests.campaigns.faults.strikes import (
    INSERT,
    bad_snapshot,
    cmdline,
    cut_ssh,
    damaged,
    filling_disk,
    frozen,
    full_disk,
    gone,
    half,
    lost_package,
    module,
    qemu,
    replaced_agent,
    scrambled,
    taken_port,
    zeros,
)

BOOT_FAIL, CRASH, FAIL, INFRA = Verdict.BOOT_FAIL, Verdict.CRASH, Verdict.FAIL, Verdict.INFRA
PASS, SPLAT, TIMEOUT = Verdict.PASS, Verdict.SPLAT, Verdict.TIMEOUT

PANIC = InGuest("echo c >/proc/sysrq-trigger")
POWER_OFF = InGuest("echo o >/proc/sysrq-trigger")
KILL = f"pkill -KILL -nf {AGENT}"
HOG = "exec tail /dev/zero"  # keeps what it reads until a line ends
UNDEFINED, FOR_EVER = b"\x0f\x0b", b"\xeb\xfe"  # ud2; jmp to itself
WARNING = "WARNING: CPU: 0 PID: 1 at fs/open.c:1 do_sys_open+0x1/0x2"
HOGGED = "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; exec chrt -f 99 sh -c 'while :; do :; done'"
SPIN = f"echo 2 >/proc/sys/kernel/watchdog_thresh; {INSERT}"  # a soft lockup after twice as many seconds

FAULTS = (
    Fault("kernel cut in half", "before", damaged("kernel", half), BOOT_FAIL, cold=True),
    Fault("kernel of zeros", "before", damaged("kernel", zeros), INFRA, cold=True),
    Fault("initramfs cut in half", "before", damaged("initramfs", half), BOOT_FAIL, cold=True),
    Fault("initramfs of noise", "before", damaged("initramfs", scrambled), BOOT_FAIL, cold=True),
    Fault("image of zeros", "before", damaged("root", zeros), BOOT_FAIL, cold=True),
    Fault("image of noise", "before", damaged("root", scrambled), BOOT_FAIL, cold=True),
    Fault("image gone", "before", gone("root"), INFRA),
    Fault("package lost by the mirror", "before", lost_package, INFRA),
    Fault("no such init", "before", cmdline("rdinit=/nothing"), BOOT_FAIL, cold=True),
    Fault("no memory to boot in", "before", cmdline("mem=64M"), BOOT_FAIL, cold=True),
    Fault("host's disk full", "before", full_disk, INFRA, cold=True, root=True),
    Fault("host's disk fills up", "before", filling_disk("24k"), INFRA, cold=True, root=True),
    Fault("port taken", "before", taken_port(1), PASS),
    Fault("every port taken", "before", taken_port(99), INFRA),
    Fault("snapshot cut in half", "before", bad_snapshot(half), PASS),
    Fault("snapshot of noise", "before", bad_snapshot(lambda data: os.urandom(len(data))), PASS),
    Fault("KVM slower than emulation", "before", kvm.slow, PASS, remark="KVM more than"),
    Fault("KVM that boots nothing", "before", kvm.mute, PASS, cold=True, remark="did not boot under KVM"),
    Fault("KVM lost between two machines", "before", kvm.lost, PASS, remark="no permission to open /dev/kvm"),
    Fault("QEMU killed while booting", "booting", qemu(signal.SIGKILL), INFRA, cold=True),
    Fault("QEMU stopped while booting", "booting", qemu(signal.SIGSTOP), INFRA, cold=True),
    Fault("panic once ready", "ready", PANIC, BOOT_FAIL),
    Fault("power off once ready", "ready", POWER_OFF, BOOT_FAIL),
    Fault("guest's disk full", "ready", InGuest("cat /dev/zero >/zeros", wait=True), INFRA),
    Fault("panic once deployed", "deployed", PANIC, CRASH),
    Fault("agent that only prints PASS", "deployed", replaced_agent("print('PASS')"), FAIL),
    Fault("agent that ends at once", "deployed", replaced_agent("raise SystemExit(0)"), FAIL),
    Fault("agent that prints noise", "deployed", replaced_agent("print('x' * (1 << 24))"), FAIL),
    Fault("panic in load", "load", PANIC, CRASH),
    Fault("agent killed in load", "load", InGuest(KILL), FAIL),
    Fault("QEMU killed in load", "load", qemu(signal.SIGKILL), INFRA),
    Fault("panic in a test", "test", PANIC, CRASH),
    Fault("oops in a test", "test", InGuest(INSERT), CRASH, prepare=module(UNDEFINED)),
    Fault("kernel spins in a test", "test", InGuest(SPIN), CRASH, prepare=module(FOR_EVER)),
    Fault("reboot in a test", "test", InGuest("echo b >/proc/sysrq-trigger"), CRASH),
    Fault("power off in a test", "test", POWER_OFF, CRASH),
    Fault("kernel warns in a test", "test", InGuest(f"echo '<4>{WARNING}' >/dev/kmsg"), SPLAT),
    Fault("out of memory in a test", "test", InGuest(HOG), SPLAT),
    Fault("panic on out of memory", "test", InGuest(f"echo 2 >/proc/sys/vm/panic_on_oom; {HOG}"), CRASH),
    Fault("agent killed", "test", InGuest(KILL), FAIL),
    Fault("agent killed, PASS on the console", "test", InGuest(
        f"echo 'PASS {{\"verdict\":\"PASS\"}}' >/dev/ttyS0; {KILL}"), FAIL),
    Fault("agent stopped", "test", InGuest(f"pkill -STOP -nf {AGENT}"), TIMEOUT),
    Fault("kernel stands still", "test", frozen, TIMEOUT),
    Fault("CPU taken for ever", "test", InGuest(HOGGED), TIMEOUT),
    Fault("SSH cut here", "test", cut_ssh, INFRA),
    Fault("SSH killed in the guest", "test", InGuest("pkill -KILL sshd"), INFRA),
    Fault("QEMU killed in a test", "test", qemu(signal.SIGKILL), INFRA),
    Fault("QEMU stopped in a test", "test", qemu(signal.SIGSTOP), INFRA),
    Fault("clock jumps a year", "test", InGuest("date -s '+1 year'"), PASS),
    Fault("program prints a panic", "test", InGuest("echo 'Kernel panic - not syncing' >/dev/ttyS0"), PASS),
    Fault("a mount left behind", "test", InGuest("mkdir /left; mount -t tmpfs left /left"), FAIL),
    Fault("a process left behind", "test", InGuest("exec sleep 9999"), FAIL),
    Fault("agent killed between tests", "between", InGuest(KILL, wait=True), FAIL),
    Fault("agent killed after its tests", "end", InGuest(KILL, wait=True), FAIL),
    Fault("panic after the tests", "end", PANIC, CRASH),
    Fault("QEMU killed after the tests", "end", qemu(signal.SIGKILL), INFRA),
)  # fmt: skip
