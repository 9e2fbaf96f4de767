"""Names the places in a guest of `harness bench` that monitors, workloads and policies agree on."""

from __future__ import annotations

FILES = "/root/bench"  # the load, the driver and the policies
LOAD = f"{FILES}/bench-load"
DRIVER = f"{FILES}/driver.py"
OUTPUT = "/run/bench-output"  # what a monitor reports; on tmpfs, away from what it watches
DISK = "/bench"  # an ext4 file system: fatrace reports nothing of tmpfs and overlays
PLAIN = f"{DISK}/plain"  # no rule matches here
WATCHED = f"{DISK}/watched"  # every monitor reports changes here

_IMAGE = "/run/bench.img"

# Without a journal and without periodic write-back, the kernel does nothing by itself while a workload runs.
DISK_SCRIPT = f"""
[ -e /dev/loop-control ] || modprobe -q loop
truncate -s 256M {_IMAGE}
mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=0 {_IMAGE}
mkdir -p {DISK}
mount -t ext4 -o loop,noatime {_IMAGE} {DISK}
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
mkdir {PLAIN} {WATCHED}
"""
