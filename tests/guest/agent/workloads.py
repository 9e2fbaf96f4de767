"""Everyday workloads: installing and removing a package, a git clone, a build.

It happens in a Debian of its own, on a disk of its own, which becomes the root of a mount namespace: paths
there are `/usr/bin/...` as on a host, and the rules have something to say about them.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.guest.base import Guest
from harness.host import cache
from harness.host.cache import MIB, Cache
from harness.host.programs import run
from harness.images import erofs
from harness.kernels import catalogue
from harness.kernels.apt import Apt, transport_settings
from harness.kernels.repositories import Repositories

PACKAGES = ("git", "make", "gcc", "libc6-dev")
# What others wrote to exercise file systems, on a larger disk; the last are Python's own tests.
EXERCISES = ("stress-ng", "dbench", "postmark", "fio", "fsmark", "bonnie++", "libpython3.11-testsuite")
MEMORY_MIB = 1536
TIMEOUT_S = 3600.0

WORKLOADS = {
    "a package installed and removed": "cd /srv/debs && dpkg -i rsync_* libpopt0_* && dpkg -P rsync libpopt0",
    "a git clone and a checkout": (
        "cd /srv && git clone -q --no-hardlinks history new && git -C new checkout -q other"
    ),
    "a build with make": "cd /srv/build/src && make -s CFLAGS='-O0 -DLUA_USE_POSIX' all && make -s clean",
}

# Well-known programs by name, each for a fresh /srv/work.
PROGRAMS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("programs.yaml").read_text())

_HOOK = Path(__file__).with_name("workload_image.sh")
_UUID = uuid.UUID(bytes=b"fim-workload-dsk")
_ENTER = r"""
set -eu
for disk in /sys/block/vd*; do [ "$(cat "$disk/serial")" != fim-2 ] || device=/dev/${disk##*/}; done
mkdir -p /mnt/lower /mnt/upper
mount -t erofs -o ro "$device" /mnt/lower
mount -t tmpfs -o size=90% none /mnt/upper
mkdir /mnt/upper/files /mnt/upper/work /mnt/upper/root
mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper/files,workdir=/mnt/upper/work none /mnt/upper/root
"""
_WITHIN = r"""
cd /mnt/upper/root
mount --rbind /proc proc; mount --rbind /dev dev; mkdir -p outside; pivot_root . outside
exec chroot . sh -c 'umount -l /outside; rmdir /outside; export HOME=/root DEBIAN_FRONTEND=noninteractive
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin; eval "$1"' sh "$1"
"""


def image(*more: str, store: Cache | None = None) -> Path:
    """Return the disk, with more packages, from the cache or built in minutes. Raises HarnessError."""
    packages = (*PACKAGES, *more)
    apt = Repositories().apt("amd64", *catalogue.USERLAND)
    apt.refresh()

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _make(apt, packages, folder / "workload.erofs", Path(scratch))

    key = cache.digest("1", *apt.closure(packages), _HOOK.read_bytes())
    return (store or Cache()).get("workload", key, build, needs=2048 * MIB) / "workload.erofs"


def _make(apt: Apt, packages: Sequence[str], target: Path, scratch: Path) -> None:
    archive, tree, settings = scratch / "tree.tar", scratch / "tree", scratch / "apt.conf"
    settings.write_text("".join(f"{line}\n" for line in transport_settings()))
    options = ["--quiet", "--variant=minbase", f"--include={','.join(packages)}", f"--aptopt={settings}"]
    hook = f"--customize-hook={_HOOK}"
    run(["mmdebstrap", *options, hook, apt.suites[0], archive, *apt.source_lines()], package="mmdebstrap")
    tree.mkdir()
    run(["tar", "--extract", "--preserve-permissions", f"--directory={tree}", f"--file={archive}"])
    erofs.make(target, tree, _UUID, compressed=True)


def mount(guest: Guest) -> None:
    """Mount the disk, the second one beside the root, so that scripts can enter it."""
    done = guest.run(["sh", "-c", _ENTER])
    assert done.status == 0, done.stderr


def perform(guest: Guest, script: str, *, idle: bool = False) -> str:
    """Run a script with this disk as root, in its own mount namespace; return its output.

    With `idle` it runs only when no other process wants to, so that agents keep up on one processor.
    """
    words = ["unshare", "--mount", "--propagation=private", "sh", "-euc", _WITHIN, "sh", script]
    done = guest.run([*(["chrt", "--idle", "0"] if idle else []), *words], TIMEOUT_S)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.status == 0, output
    return output
