"""What runs in each worker process of Dask: the facts of the host, the blobs, and a child for each task.

The client registers the plugin, so that every Dask worker with this package can be used, however it was
started. Functions here are called by their names from the client, so they exist in every version.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distributed import WorkerPlugin, get_worker
from distributed.core import Status

from harness.cluster import archive, facts, part, wire
from harness.cluster.child import Child, Turn, Turns
from harness.cluster.facts import Facts
from harness.cluster.forking import Forker
from harness.cluster.part import Part
from harness.errors import InfrastructureError
from harness.host import deadlines, locks
from harness.host.cache import Cache, default_root, file_digest
from harness.host.progress import Phase
from harness.text import one_line

NAME = "harness"
CHUNK = 16 << 20  # bytes of a blob in one message


class Chunk(NamedTuple):
    """A piece of a blob; the pieces are sent in their order."""

    data: bytes
    first: bool
    last: bool


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the pieces of a blob, at least one."""
    for begin in range(0, max(1, len(data)), CHUNK):
        end = begin + CHUNK
        yield Chunk(data[begin:end], first=begin == 0, last=end >= len(data))


class HarnessPlugin(WorkerPlugin):  # type: ignore[misc] # Dask is not typed
    """Makes a Dask worker a worker of the harness; `module` is the program of a child."""

    name = NAME
    idempotent = True  # a second client must not replace the plugin of a running one

    def __init__(self, module: str) -> None:
        self.module = module

    async def setup(self, worker: Any) -> None:
        """Find the facts of this host, in a child, because the canary takes seconds; never raises."""
        self.ready = asyncio.Event()
        self._store = Cache()
        self._forker = Forker(self.module)
        self._turns = Turns()
        self._incoming = contextlib.ExitStack()
        self.facts: Facts | None = None
        self.problem = ""
        if threading.current_thread() is threading.main_thread():
            # Ctrl-C in a terminal reaches the whole process group; `harness worker` or the client ends it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            await asyncio.to_thread(_remove_abandoned)
            self._partial = self._incoming.enter_context(_folder())
            self.facts = await asyncio.to_thread(self._find)
            await worker.set_resources(**facts.resources_of(self.facts, worker.state.total_resources))
        except (InfrastructureError, OSError, ValueError) as error:
            self.problem = one_line(str(error))
        finally:
            self.ready.set()

    def _find(self) -> Facts:
        until = time.monotonic() + deadlines.FACTS_S
        with tempfile.TemporaryFile() as errors:
            child = Child(self._forker, ["worker", "--facts"], errors)
            lines = list(child.lines(lambda: time.monotonic() < until))
            how = child.wait()
        if child.code or not lines:
            raise InfrastructureError(f"the facts of the host are unknown: the program {how}")
        return Facts.model_validate_json(lines[-1])

    async def teardown(self, worker: Any) -> None:  # noqa: ARG002
        """End the process that forks children, and remove files that came in part."""
        await asyncio.to_thread(self._forker.close)
        self._incoming.close()

    def play(self, data: bytes, worker: Any, key: str) -> dict[str, Any]:
        """Run a part to its end. Returns the archive, or why there is none, and the facts that changed."""
        assert self.facts
        with _folder() as folder:
            with self._turns.turn() as turn:
                received = Part.from_bytes(data).model_copy(update={"host": self.facts.host.name})
                (folder / "part").mkdir()
                blobs = {wanted: self._blob(wanted) for wanted in received.blobs.values()}
                part.write(received, folder / "part", blobs)
                how = self._run(folder, turn, worker, received.topic, key)
            # The next machine boots already.
            outcome: dict[str, Any] = {"archive": b"", "reason": f"its run {how}", "left_out": []}
            if (folder / "out/results.json").exists():
                packed, left_out = archive.pack(folder / "out")
                outcome = {"archive": packed, "reason": "", "left_out": left_out}
        return {
            **outcome,
            "disk_mib": facts.free_disk_mib(),
            "kernels": list(facts.cached_kernels()),
        }

    def _run(self, folder: Path, turn: Turn, worker: Any, topic: str, key: str) -> str:
        """Run the part in a folder in a child; return how it ended."""

        def wanted() -> bool:
            task = worker.state.tasks.get(key)
            running = worker.status in (Status.running, Status.paused)
            return running and task is not None and task.state == "executing"

        words: list[str | Path] = ["run", "--part", folder / "part", "--output", folder / "out"]
        with (folder / "errors").open("w+b") as errors:
            child = Child(self._forker, words, errors)
            turn.begin(child)
            booted = False
            for line in child.lines(wanted):
                worker.log_event(topic, {"key": key, "line": line})
                phase = wire.phase_of(line)
                booted |= phase is Phase.BOOT
                if booted and phase is Phase.WAIT:
                    turn.end()
            return child.wait()

    def _blob(self, wanted: str) -> Path:
        def missing(_folder: Path) -> None:
            raise InfrastructureError(f"the file {wanted[:12]} was not sent to this worker")

        return self._store.get(part.BLOBS, wanted, missing) / part.BLOB

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return those of the blobs that this host does not have."""
        return [wanted for wanted in digests if not self._store.has(part.BLOBS, wanted)]

    def receive(self, sender: str, wanted: str, chunk: Chunk) -> None:
        """Write a chunk of a blob, and keep the blob after its last one. Raises InfrastructureError.

        Other clients may send the same blob at the same time, and a client may begin again.
        """
        path = self._partial / f"{sender}-{wanted}"
        with path.open("wb" if chunk.first else "ab") as file:
            file.write(chunk.data)
        if chunk.last:
            try:
                if file_digest(path) != wanted:
                    raise InfrastructureError(f"the file {wanted[:12]} was damaged on its way")
                self._store.get(part.BLOBS, wanted, lambda folder: part.copy(path, folder))
            finally:
                path.unlink()


def play(data: bytes) -> dict[str, Any]:
    """Run a part: the task."""
    worker = get_worker()
    plugin: HarnessPlugin = worker.plugins[NAME]
    return plugin.play(data, worker, worker.get_current_task())


async def versions(dask_worker: Any) -> dict[str, str]:
    """Return the versions of a worker, and its name."""
    return {**facts.versions(), "name": str(dask_worker.name)}


async def describe(dask_worker: Any) -> dict[str, Any]:
    """Return the versions of a worker, its facts as JSON ("" without), and why it has none.

    Waits until the plugin of a worker that has just joined is set up.
    """
    plugin: HarnessPlugin | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadlines.FACTS_S):
            while (plugin := dask_worker.plugins.get(NAME)) is None:
                await asyncio.sleep(deadlines.CHILD_LOOK_S)
            await plugin.ready.wait()
    found = plugin.facts if plugin else None
    return {
        "versions": facts.versions(),
        "facts": found.model_dump_json() if found else "",
        "problem": plugin.problem if plugin else "the plugin could not be set up",
        "name": str(dask_worker.name),
        "memory": dict(dask_worker.state.total_resources).get("memory", 0.0),
    }


async def missing(digests: Sequence[str], dask_worker: Any) -> list[str]:
    """Return those of the blobs that the worker's host does not have."""
    return await asyncio.to_thread(dask_worker.plugins[NAME].missing, digests)


async def receive(sender: str, wanted: str, chunk: Chunk, dask_worker: Any) -> None:
    """Receive a chunk of a blob from a client."""
    await asyncio.to_thread(dask_worker.plugins[NAME].receive, sender, wanted, chunk)


def _parts() -> Path:
    folder = default_root() / "parts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a new folder that is marked as used, and remove it afterwards."""
    with locks.locked(_parts() / "lock"):  # so that `_remove_abandoned` never sees one that is not marked
        name = tempfile.mkdtemp(prefix="part-", dir=_parts())
        used = locks.use(Path(name))
    try:
        yield Path(name)
    finally:
        os.close(used)
        shutil.rmtree(name, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders of workers that were killed."""
    with locks.locked(_parts() / "lock"):
        for path in _parts().glob("part-*"):
            with contextlib.suppress(FileNotFoundError):
                if not locks.in_use(path):
                    shutil.rmtree(path, ignore_errors=True)
