"""Runs the workers of this host: one process for each slot, each with a nanny that starts it again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from distributed import Nanny
from distributed.core import Status

from harness.cluster import connect as opening
from harness.cluster import facts
from harness.cluster.placement import MACHINE, MEMORY, SHARES
from harness.errors import InfrastructureError
from harness.host import capacity, deadlines
from harness.run import hosts
from harness.text import counted

_CORES = 64  # slots of a host at most, by its processors


def serve(scheduler: str, keys: Path | None, slots: int | None, name: str | None) -> int:
    """Run workers until a signal. Raises HarnessError."""
    opening.quiet()
    address = opening.address_of(scheduler, keys)
    security = opening.security_of(address, keys)
    free = capacity.free_mib()
    number = slots or capacity.workers_for(_CORES, capacity.cpus(), free)
    host = hosts.plain(name) if name else hosts.name()
    os.environ[facts.HOST] = host
    settings = {
        "security": security,
        "nthreads": SHARES,
        "memory_limit": 0,
        "resources": {MACHINE: 1, MEMORY: max(capacity.MACHINE_MIB, free // number)},
        "dashboard": False,
        "silence_logs": opening.SILENT,
        "local_directory": opening.scratch(),
        "death_timeout": deadlines.WORKER_START_S,
        **({"host": "127.0.0.1"} if address.startswith("tcp:") else {}),
    }
    return asyncio.run(_serve(address, host, number, settings))


async def _serve(address: str, host: str, number: int, settings: dict[str, Any]) -> int:
    sys.stderr.write(f"harness: connecting to {address}\n")
    await opening.reach(address, settings["security"], "worker")
    ended = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    nannies = [Nanny(address, name=f"{host}-{os.getpid()}-{slot}", **settings) for slot in range(number)]
    await asyncio.gather(*nannies)
    sys.stderr.write(f"harness: {counted(number, 'worker')} on {host}, for {address}; Ctrl-C ends them\n")
    waits = [asyncio.create_task(ended.wait())]
    waits += [asyncio.create_task(nanny.finished()) for nanny in nannies]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    lost = not ended.is_set()
    await asyncio.gather(*(nanny.close() for nanny in nannies if nanny.status is not Status.closed))
    for task in waits:
        task.cancel()
    if lost:
        raise InfrastructureError(
            f"the scheduler at {address} was lost", hint="start it, then this worker again"
        )
    return 0
