"""Sends systemd the state of the service, as sd_notify(3) describes; does nothing without systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress


class Notifier:
    """Sends datagrams to the socket of `NOTIFY_SOCKET`, which is removed from the environment."""

    def __init__(
        self,
        environment: MutableMapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.pop("WATCHDOG_USEC", "")
        # systemd expects a sign of life at least every half period.
        self._every_s = int(period) / 2e6 if ours and period.isdigit() else 0.0
        self._clock = clock
        self._next = clock()

    def alive(self) -> None:
        """Feed the watchdog, if it is due."""
        now = self._clock()
        if self._every_s and now >= self._next:
            self._next = now + self._every_s / 2
            self.send("WATCHDOG=1")

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`. A message that systemd does not take is lost."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.sendto("\n".join(lines).encode(), self._address)
