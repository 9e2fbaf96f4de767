"""The libvirt module, imported with its log kept off the terminal.

libvirt reads its logging from the environment when it is imported; embedded, it would warn about each
machine to our stderr. Set LIBVIRT_LOG_OUTPUTS (such as "1:file:/path") to see them.
"""

from __future__ import annotations

import os

os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt

__all__ = ["libvirt"]
