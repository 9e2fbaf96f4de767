"""Makes what guests boot from: one root for all kernels; an initramfs and a modules disk for each kernel."""

from harness.images.boot import initramfs, modules_image
from harness.images.rootfs import COMPILER, MONITORS, RootImage, compilers, root_image

__all__ = ["COMPILER", "MONITORS", "RootImage", "compilers", "initramfs", "modules_image", "root_image"]
