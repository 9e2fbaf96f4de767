"""The checks of `harness doctor`: whether this host can run guests, and how to fix what prevents it.

Each check is an entry of `CHECKS` and changes nothing. Its finding is fine, slow or broken.
"""

from __future__ import annotations

import enum
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.host.cache import MIB, default_root
from harness.kernels import kbuild
from harness.lab import emulation

_CACHE_MIB = 3000
_GUEST_MIB = 700
_EXIT_BROKEN = 3


class Level(enum.Enum):
    """How much a finding matters; the value is what is printed."""

    FINE = "ok"
    SLOW = "warn"
    BROKEN = "FAIL"


@dataclass(frozen=True)
class Finding:
    """The result of a check, and the command or step that fixes it."""

    level: Level
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """A check with its name; `look` takes a libvirt URI, "" for the embedded one."""

    name: str
    look: Callable[[str], Finding]


def main(uri: str = "", arches: Collection[str] = (), *, builds: bool = False) -> int:
    """Run and print every check; return 0, or 3 if one is broken.

    Programs that only guests of another architecture need are required for those in `arches`, and those that
    only kernels of fragments need are required with `builds`.
    """
    findings = [(check.name, look(check, uri)) for check in checks(arches, builds=builds)]
    sys.stdout.writelines(lines(findings))
    broken = any(finding.level is Level.BROKEN for _name, finding in findings)
    return _EXIT_BROKEN if broken else 0


def checks(arches: Collection[str] = (), *, builds: bool = False) -> tuple[Check, ...]:
    """Return all checks in the order in which they are printed; see `main` for the arguments."""
    return (*CHECKS, *of_other_guests(arches), Check("fragments", Built(builds)))


def look(check: Check, uri: str) -> Finding:
    """Run a check; a HarnessError becomes a finding."""
    try:
        return check.look(uri)
    except HarnessError as error:
        return Finding(Level.BROKEN, error.message, error.hint)


def lines(findings: Iterable[tuple[str, Finding]]) -> Iterable[str]:
    """Yield the findings as lines, each followed by its fix."""
    for name, finding in findings:
        yield f"{finding.level.value:<5}{name:<20}{finding.detail}\n"
        if finding.fix and finding.level is not Level.FINE:
            yield f"{'':<25}fix: {finding.fix}\n"


@dataclass(frozen=True)
class Program:
    """A program that a run starts, its Debian package, and its purpose."""

    name: str
    package: str
    purpose: str

    def __call__(self, _uri: str) -> Finding:
        """Look for the program on PATH."""
        found = shutil.which(self.name)
        if found:
            return Finding(Level.FINE, found)
        fix = f"apt-get install {self.package}"
        return Finding(Level.BROKEN, f"{self.name} was not found: {self.purpose}", fix)


PROGRAMS = (
    Program("qemu-system-x86_64", "qemu-system-x86", "boots guests"),
    Program("apt-get", "apt", "resolves and verifies kernels"),
    Program("mmdebstrap", "mmdebstrap", "builds the guest's root"),
    Program("mkfs.erofs", "erofs-utils", "packs the guest's root"),
    Program("cc", "gcc", "compiles the guest's init"),
    Program("clang", "clang", "compiles the BPF objects"),
    Program("ssh", "openssh-client", "`harness shell`"),
)


@dataclass(frozen=True)
class Emulated:
    """What guests of another architecture need: required, or only reported."""

    arch: str
    required: bool

    def __call__(self, _uri: str) -> Finding:
        """Look for the programs on PATH."""
        lacking = emulation.missing(self.arch)
        return _programs(lacking, self.required, "can be emulated", f"a matrix with {self.arch}")


@dataclass(frozen=True)
class Built:
    """What kernels of fragments need: required, or only reported."""

    required: bool

    def __call__(self, _uri: str) -> Finding:
        """Look for the programs on PATH, and for headers."""
        return _programs(
            kbuild.missing(), self.required, "their kernels can be built", "a matrix with fragments"
        )


def _programs(lacking: Mapping[str, str], required: bool, fine: str, needing: str) -> Finding:
    """The finding about programs that are missing, each with its packages, and that `needing` needs."""
    if not lacking:
        return Finding(Level.FINE, fine)
    fix = f"apt-get install {' '.join(dict.fromkeys(lacking.values()))}"
    what = f"{' and '.join(lacking)} not found"
    if required:
        return Finding(Level.BROKEN, what, fix)
    return Finding(Level.FINE, f"{what}; {needing} needs: {fix}")


def of_other_guests(arches: Collection[str] = ()) -> tuple[Check, ...]:
    """Return a check for each architecture that this host has to emulate; those in `arches` are required."""
    return tuple(Check(f"{arch} guests", Emulated(arch, arch in arches)) for arch in emulation.foreign())


def _libvirt(uri: str) -> Finding:
    from harness.lab.lab import to_stderr
    from harness.vm.connection import EMBEDDED, Connection
    from harness.vm.ownership import RunDirectory

    with (
        RunDirectory.claim() as directory,
        Connection.open(directory, uri or EMBEDDED, progress=to_stderr) as connection,
    ):
        return Finding(Level.FINE, f"{uri or EMBEDDED}, QEMU {connection.version()}")


def _qemu_user(uri: str) -> Finding:
    # libvirt's QEMU driver looks this user up even if its configuration names another one.
    if uri or os.getuid() != 0:
        return Finding(Level.FINE, "not needed")
    try:
        return Finding(Level.FINE, f"libvirt-qemu is user {pwd.getpwnam('libvirt-qemu').pw_uid}")
    except KeyError:
        fix = "apt-get install libvirt-daemon-system"
        return Finding(Level.BROKEN, "the user libvirt-qemu does not exist", fix)


def _acceleration(_uri: str) -> Finding:
    from harness.host import acceleration, canary

    found = acceleration.find(canary.host_arch(), fresh=True)
    if found.kind == "kvm":
        return Finding(Level.FINE, str(found))
    return Finding(Level.SLOW, str(found), found.fix)


def _disk(_uri: str) -> Finding:
    root = default_root()
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free // MIB
    if free >= _CACHE_MIB:
        return Finding(Level.FINE, f"{free} MiB free in {_short(root)}")
    fix = "free disk space, run `harness clean`, or set XDG_CACHE_HOME to a larger disk"
    return Finding(Level.BROKEN, f"{free} MiB free in {_short(root)}, {_CACHE_MIB} MiB needed", fix)


def _short(path: Path) -> str:
    """Return the path with a tilde for the home directory."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _memory(_uri: str) -> Finding:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) // 1024
    if free >= _GUEST_MIB:
        return Finding(Level.FINE, f"{free} MiB, enough for {free // _GUEST_MIB} guests at once")
    return Finding(Level.BROKEN, f"{free} MiB, a guest needs {_GUEST_MIB} MiB", "close other programs")


def _leftovers(_uri: str) -> Finding:
    from harness.vm import reaper

    ignored: list[str] = []
    left = reaper.leftovers(warn=ignored.append)
    if ignored:
        return Finding(Level.SLOW, "; ".join(ignored), "remove it, or ask its owner to remove it")
    if not left:
        return Finding(Level.FINE, "none")
    return Finding(Level.SLOW, f"{len(left)} dead runs left machines or files", "harness clean")


CHECKS = (
    *(Check(program.name, program) for program in PROGRAMS),
    Check("QEMU's user", _qemu_user),
    Check("libvirt", _libvirt),
    Check("acceleration", _acceleration),
    Check("disk", _disk),
    Check("memory", _memory),
    Check("leftovers", _leftovers),
)
