"""Makes what guests boot from: roots for all kernels; an initramfs and a modules disk for each kernel."""

from harness.images.boot import initramfs, modules_image
from harness.images.installed import installed_root
from harness.images.rootfs import COMPILER, MONITORS, RootImage, compilers, root_image

__all__ = [
    "COMPILER",
    "MONITORS",
    "RootImage",
    "compilers",
    "initramfs",
    "installed_root",
    "modules_image",
    "root_image",
]
