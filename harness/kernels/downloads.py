"""Limits how many files this process fetches from one archive at the same time."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

PER_ARCHIVE = 3

_turns: dict[str, threading.Semaphore] = {}  # by host


def turn(uri: str) -> threading.Semaphore:
    """Return a context in which this thread may fetch from the archive at `uri`; it waits while many do."""
    return _turns.setdefault(urlsplit(uri).netloc, threading.Semaphore(PER_ARCHIVE))
