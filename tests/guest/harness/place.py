"""A place of a test's own for real runs: cache, temporary files, run directories and a folder to run in."""

from __future__ import annotations

import itertools
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.host.cache import default_root
from tests import ROOT

# What machines are made of; the indexes are not needed where the lock names the kernel.
KINDS = ("acceleration", "initramfs", "kernels", "libvirt", "machines", "modules", "root")
_numbers = itertools.count(1)
MOMENT_S = 240.0  # on a host that others want too


class Place:
    """Folders below `folder`, which lies beside the cache, so that what the cache holds costs no copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache, self.tmp, self.runtime = folder / "c", folder / "t", folder / "r"
        self.work = folder / "where it is run"
        for path in (self.cache, self.tmp, self.runtime, self.work):
            path.mkdir(mode=0o700)
        self.environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.tmp),
            "PYTHONPATH": str(ROOT),
        }

    def fill(self) -> None:
        """The cache with what the real one has, as links to the same files."""
        for kind in KINDS:
            for entry in (default_root() / kind).glob("*"):
                if not entry.name.endswith((".lock", ".partial")):
                    _linked(entry, self.cache / "fim-harness" / kind / entry.name)

    def start(self, *words: str, terminal: bool = False) -> Harness:
        """`harness` with those words; at a terminal where that is asked."""
        return Harness(self, words, terminal=terminal)

    def left(self) -> list[str]:
        """Processes that name this place, run directories, temporary files and unfinished entries."""
        files = [*self.runtime.glob("*/*"), *self.tmp.iterdir(), *self.cache.glob("fim-harness/*/*.partial")]
        return [*self.qemus(), *map(str, files)]

    def qemus(self) -> list[str]:
        """Command lines of emulators whose files lie here."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue  # it has just ended
            if "qemu-system-" in words.split(" ")[0] and str(self.folder) in words:
                found.append(words)
        return found

    def printed(self, word: str) -> bool:
        """Whether a console of this place shows it."""
        consoles = (*self.folder.rglob("console.log"),)
        return any(word.encode() in path.read_bytes() for path in consoles if path.exists())


class Harness:
    """A `harness` that runs."""

    def __init__(self, place: Place, words: tuple[str, ...], *, terminal: bool) -> None:
        self.log = place.folder / f"output-{next(_numbers)}"
        self._terminal, theirs = pty.openpty() if terminal else (-1, subprocess.DEVNULL)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness.cli", *words],
                cwd=place.work,
                env=place.environment,
                stdin=theirs,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if terminal:
            os.close(theirs)

    def wait_for(self, moment: Callable[[], bool]) -> None:
        """Until that is so."""
        deadline = time.monotonic() + MOMENT_S
        while not moment():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def end(self, number: int) -> None:
        """Send a signal, and wait for the end; a command in the guest runs much longer than MOMENT_S."""
        self.process.send_signal(number)
        self.process.wait(MOMENT_S)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(MOMENT_S)

    def output(self) -> str:
        """The whole output."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """Nothing of it stays, however a test ends."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._terminal >= 0:
            os.close(self._terminal)


def _linked(source: Path, target: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=os.link)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    except (shutil.Error, FileNotFoundError):
        # Another run has removed it meanwhile; what is half is made again.
        shutil.rmtree(target, ignore_errors=True)
