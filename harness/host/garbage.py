"""Pauses Python's cyclic garbage collection while large data are built that live on.

The collector visits all objects again and again while their number grows, and finds nothing: it is two
thirds of the time to read the results of a large run. Reference counts still free what is no longer used.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Pause the collector for the block, or leave it off if it is off."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
