"""A file-integrity monitor: eBPF hooks and filters in the kernel, exact rules in user space."""

__version__ = "0.1.0"
