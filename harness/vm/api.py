"""The libvirt module, imported with its log kept off the terminal.

libvirt reads its log settings from the environment when it is imported; an embedded libvirt would print
warnings about each machine to our stderr. Set LIBVIRT_LOG_OUTPUTS (such as "1:file:/path") to see them.
"""

from __future__ import annotations

import os

os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt

__all__ = ["libvirt"]
