"""What a guest boots from: a root that all kernels share, an initramfs and a modules disk a kernel."""

from harness.images.boot import initramfs, modules_image
from harness.images.rootfs import RootImage, compilers, root_image

__all__ = ["RootImage", "compilers", "initramfs", "modules_image", "root_image"]
