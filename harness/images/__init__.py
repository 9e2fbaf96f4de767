"""What a guest boots from: a root that all kernels share, an initramfs a kernel."""
