"""Returns memory to the kernel that loading has freed.

libbpf reads all types of the kernel while it loads programs, and frees them afterwards. The C library keeps
the pages for later: that is a fifth of the agent's memory.
"""

from __future__ import annotations

import ctypes


def release() -> None:
    """Return freed pages of the C library; do nothing for a library without `malloc_trim`."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
