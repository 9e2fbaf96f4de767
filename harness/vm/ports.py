"""Reserves one port of 127.0.0.1 for one machine, without a race.

The port stays bound, and never listens, while the machine lives. QEMU can bind it too, since both set
SO_REUSEADDR and only one of them listens; the kernel does not give it to programs that ask for any free port.
"""

from __future__ import annotations

import socket
from types import TracebackType

ADDRESS = "127.0.0.1"


class Port:
    """A reserved port; a context manager that releases it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((ADDRESS, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Release the port; may be called again."""
        self._socket.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
