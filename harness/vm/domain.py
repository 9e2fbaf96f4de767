"""Renders the libvirt domain XML of a machine from the template `images/domain.xml.j2`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.host.manifest import digest
from harness.host.resources import FOLDER

if TYPE_CHECKING:
    import jinja2  # slow to import, and only a process that boots a machine needs it

_TEMPLATE = "domain.xml.j2"

ROOT_SERIAL = "fim-root"
RUN_SERIAL = "fim-run"
STATE_SERIAL = "fim-state"

# With sleep=off the clock of a guest that waits for the host would jump. With a larger shift the guest
# executes more timer interrupts for the same work.
INSTRUCTION_NS = 2
ICOUNT = f"shift={INSTRUCTION_NS.bit_length() - 1},sleep=on"

# The console shows all kernel messages: this costs 0.2 s of a boot without acceleration, and is the
# evidence if the boot fails. The self-tests of the kernel's cryptography cost 0.9 s and do not concern
# the agent. A hang must become a panic, so that it is a crash with a trace and not a long silence. On a
# busy host the emulated timer may fail the kernel's test of it ("IO-APIC + timer doesn't work!"), hence
# no_timer_check.
_CMDLINE = (
    "console={console} net.ifnames=0 cryptomgr.notests panic=-1 oops=panic softlockup_panic=1 "
    "sysctl.kernel.hung_task_panic=1 sysctl.kernel.panic_on_rcu_stall=1"
)


@dataclass(frozen=True)
class Platform:
    """Differences between architectures, by the names of libvirt and the kernel."""

    arch: str
    machine: str
    console: str
    panic: str


PLATFORMS = {
    "amd64": Platform("x86_64", "q35", "ttyS0", "isa"),
    "arm64": Platform("aarch64", "virt", "ttyAMA0", ""),
}


@dataclass(frozen=True)
class MachineSpec:
    """One machine to boot. `disks` are read-only, like `root`; `cmdline` is added to the harness's own.

    `root` is None if the initramfs holds the root.

    With `state_mib` the guest has a disk of this size for what it writes, and it may reboot; without it,
    what it writes is in its memory.

    With `gdb_port` QEMU's debugging stub listens on this port of 127.0.0.1, and the kernel has no KASLR.

    `workdir` receives `console.log` and `domain.xml`. `kind` is the accelerator, "kvm" or "tcg". With
    `icount` the guest's clock advances by INSTRUCTION_NS for each instruction, which needs "tcg" and one
    processor.
    """

    kernel: Path
    initramfs: Path
    root: Path | None
    workdir: Path
    disks: tuple[Path, ...] = ()
    cmdline: str = ""
    arch: str = "amd64"
    kind: str = "tcg"
    memory_mib: int = 512
    vcpus: int = 1
    gdb_port: int = 0
    icount: bool = False
    state_mib: int = 0

    @property
    def console(self) -> Path:
        """The file with the serial console, from its first byte."""
        return self.workdir / "console.log"


@dataclass(frozen=True)
class Disk:
    """A raw disk, and the serial number by which the guest finds it."""

    path: Path
    serial: str
    writable: bool = False


def cmdline(spec: MachineSpec) -> str:
    """Return the kernel's whole command line; the words of the cell come last and take precedence."""
    words = [_CMDLINE.format(console=PLATFORMS[spec.arch].console)]
    words += ["no_timer_check"] if spec.kind == "tcg" and spec.arch == "amd64" else []
    words += ["nokaslr"] if spec.gdb_port else []
    # By ACPI 6.12 printed "machine restart" and was busy for minutes without one; a triple fault works.
    words += ["reboot=t"] if spec.state_mib and spec.arch == "amd64" else []
    return " ".join([*words, spec.cmdline]).rstrip()


def template_digest() -> str:
    """Return a digest of everything in a domain's XML that is not in its spec."""
    return digest((FOLDER / _TEMPLATE).read_bytes(), repr(PLATFORMS))


def render(
    spec: MachineSpec,
    *,
    name: str,
    port: int,
    run_disk: Path,
    state_disk: Path | None = None,
    user: str = "",
    append: bool = False,
) -> str:
    """Return the domain XML of `spec`, reachable at 127.0.0.1:`port`; every value is escaped.

    `user` is the user that QEMU runs as, "+UID:+GID"; "" leaves that to libvirt. With `append` the console is
    appended to its file.
    """
    root = [Disk(spec.root.absolute(), ROOT_SERIAL)] if spec.root else []
    extra = [Disk(path, f"fim-{number}") for number, path in enumerate(spec.disks, start=1)]
    extra += [Disk(state_disk, STATE_SERIAL, writable=True)] if state_disk else []
    return _template().render(
        name=name,
        port=port,
        gdb_port=spec.gdb_port,
        icount=ICOUNT if spec.icount else "",
        user=user,
        append="on" if append else "off",
        kind=spec.kind,
        platform=PLATFORMS[spec.arch],
        memory_mib=spec.memory_mib,
        vcpus=spec.vcpus,
        kernel=spec.kernel.absolute(),
        initramfs=spec.initramfs.absolute(),
        cmdline=cmdline(spec),
        on_reboot="restart" if state_disk else "destroy",
        console=spec.console.absolute(),
        disks=[*root, *extra, Disk(run_disk, RUN_SERIAL)],
    )


@functools.cache
def _template() -> jinja2.Template:
    import jinja2  # slow to import, and only a process that boots a machine needs it

    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(_TEMPLATE)
