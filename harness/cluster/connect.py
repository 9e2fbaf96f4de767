"""Opens the cluster that a user names: one on this host, or a scheduler with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Security
from distributed.core import connect

from harness.cluster import facts, keys
from harness.cluster.placement import MACHINE, MEMORY, SHARES
from harness.cluster.plugin import HarnessPlugin, versions
from harness.errors import ConfigError, InfrastructureError
from harness.host import capacity, deadlines, files
from harness.host.cache import default_root
from harness.text import one_line

SILENT = logging.CRITICAL + 1  # a level of the log that no message has
_LOCAL = re.compile(r"local:([1-9]\d{0,2})", re.ASCII)
# Exactly this, so that Dask cannot take another part of the address for the host.
_ADDRESS = re.compile(r"(tcp|tls)://(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\]):(\d{1,5})", re.ASCII)
START = "start it with `dask scheduler`, and compare port and keys: docs/cluster.md"  # what to do without one
_HINT = "use local:N, tls://HOST:PORT, or a scheduler file"


@dataclass(frozen=True)
class Spec:
    """A cluster: `slots` workers on this host, or the `address` of a scheduler with the `keys` for it."""

    slots: int = 0
    address: str = ""
    keys: Path | None = None


def parse(word: str, folder: Path | None) -> Spec:
    """Return the cluster that a user names; `folder` has the keys. Raises ConfigError."""
    if match := _LOCAL.fullmatch(word):
        return Spec(slots=int(match[1]))
    return Spec(address=address_of(word, folder), keys=folder)


def address_of(word: str, folder: Path | None) -> str:
    """Return the address of a scheduler. Raises ConfigError if it would be used without TLS.

    Without TLS only loopback is allowed, because whoever reaches a scheduler can run code on its workers.
    """
    address = word if "://" in word else _from_file(Path(word))
    match = _ADDRESS.fullmatch(address)
    if not match or not 0 < int(match[4]) < 1 << 16:
        raise ConfigError(f"{word}: not a cluster", hint=_HINT)
    if match[1] == "tcp" and not _is_loopback(match[2] or match[3]):
        raise ConfigError(
            f"{address}: without TLS only a scheduler on 127.0.0.1 or ::1 is allowed",
            hint="start it with TLS and use tls://HOST:PORT with --keys DIR: docs/cluster.md",
        )
    if match[1] == "tls" and folder is None:
        raise ConfigError(f"{address}: TLS needs keys", hint="name their folder with --keys DIR")
    return address


def _from_file(path: Path) -> str:
    try:
        return str(json.loads(files.read_input(path, 1 << 20))["address"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: neither a cluster nor a scheduler file", hint=_HINT) from error


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def security_of(address: str, folder: Path | None) -> Security:
    """Return the settings for an address that `address_of` accepted. Raises ConfigError."""
    return keys.security(folder) if address.startswith("tls:") and folder else Security()


def quiet() -> None:
    """Keep Dask's own log, and what it serves over HTTP without TLS, out of the way."""
    for name in [*logging.root.manager.loggerDict, "asyncio"]:
        if name.split(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(SILENT)
    dask.config.set(
        {
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.scheduler.worker-ttl": f"{deadlines.WORKER_TTL_S:g}s",
            "distributed.scheduler.allowed-failures": 1,
            "distributed.scheduler.work-stealing": False,
            "distributed.worker.profile.enabled": False,
            "distributed.comm.timeouts.connect": f"{deadlines.CONNECT_S:g}s",
            "distributed.logging.distributed": "critical",
        }
    )


def scratch() -> str:
    """Return the folder for Dask's own files, which only this user can write."""
    folder = default_root() / "dask"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


@contextlib.contextmanager
def connected(spec: Spec, module: str) -> Iterator[Client]:
    """Yield a client of the cluster, whose workers have the plugin. Raises HarnessError.

    A cluster on this host ends with the block.
    """
    quiet()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_local(spec.slots) if spec.slots else _remote(spec))
        try:
            _refuse_other_versions(client)
            _register(client, HarnessPlugin(module))
        except OSError as error:
            raise InfrastructureError(
                f"the cluster was lost: {one_line(cause(error))}", hint=START
            ) from error
        yield client


def workers(client: Client) -> int:
    """Return the number of workers of a cluster. Raises InfrastructureError, or OSError if it was lost."""
    identity = _ask(client, deadlines.SCHEDULER_S, lambda: client.scheduler.identity(n_workers=-1))
    return len(identity["workers"])


def _ask(client: Client, seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
    """Return the answer of a scheduler, for which Dask itself waits without an end.

    The call runs in Dask's event loop, where the functions of a client return coroutines.
    """

    async def answer() -> Any:
        return await call()

    try:
        return client.sync(answer, callback_timeout=seconds)
    except TimeoutError as error:
        raise InfrastructureError("the scheduler of the cluster does not answer", hint=START) from error


def _register(client: Client, plugin: HarnessPlugin) -> None:
    """Register the plugin for all workers, also those that join later. Raises OSError.

    The scheduler keeps the plugin, and sends it to the workers. If one of these dies meanwhile, the scheduler
    closes the connection of the client instead of an answer.
    """
    try:
        _ask(client, deadlines.JOIN_S, lambda: client.register_plugin(plugin))
    except OSError:  # the scheduler has the plugin already, if it lives
        _ask(client, deadlines.JOIN_S, lambda: client.register_plugin(plugin))


def _refuse_other_versions(client: Client) -> None:
    """Raise InfrastructureError if the scheduler or a worker has other versions than this host."""
    found = {"the scheduler": _scheduler_versions(client)}
    answers = _ask(client, deadlines.JOIN_S, lambda: client.run(versions, on_error="return"))
    for address, answer in answers.items():
        if isinstance(answer, OSError):
            continue  # this worker died meanwhile
        # Another version of the package may not even have the function.
        theirs = answer if isinstance(answer, dict) else {"name": address}
        found[f"worker {theirs['name']}"] = theirs
    for what, theirs in found.items():
        if different := facts.differs(theirs, what):
            raise InfrastructureError(different, hint="install the same versions on every host")


def _scheduler_versions(client: Client) -> dict[str, str]:
    """Return the versions of the scheduler, which may not have the harness."""
    ours = facts.versions()
    found = _ask(client, deadlines.SCHEDULER_S, client.scheduler.versions)
    packages = found["packages"]
    theirs = {"distributed": packages["distributed"]}
    theirs["Python"] = ".".join(packages["python"].split(".")[:2])
    return {**ours, **theirs}


@contextlib.contextmanager
def _local(slots: int) -> Iterator[Client]:
    """Yield a client of a cluster on this host.

    It has TLS too: other users of this host can reach loopback.
    """
    security = Security.temporary()
    resources = {MACHINE: 1, MEMORY: max(capacity.MACHINE_MIB, capacity.free_mib() // slots)}
    with (
        LocalCluster(
            n_workers=slots,
            threads_per_worker=SHARES,
            memory_limit=0,
            security=security,
            dashboard_address="127.0.0.1:0",  # of an HTTP server without routes, whose port may be taken
            silence_logs=SILENT,
            resources=resources,
            local_directory=scratch(),
            name=f"harness-{os.getpid()}",
        ) as cluster,
        Client(cluster, security=security, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def _remote(spec: Spec) -> Iterator[Client]:
    security = security_of(spec.address, spec.keys)
    asyncio.run(reach(spec.address, security, "client"))
    try:
        client: Any = Client(
            spec.address, security=security, timeout=deadlines.CONNECT_S, set_as_default=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(spec.address, cause(error)) from error
    try:
        yield client
    finally:
        with contextlib.suppress(TimeoutError):  # of a scheduler that hangs; the results are written later
            client.close()


async def reach(address: str, security: Security, role: str) -> None:
    """Connect to a scheduler, and close the connection. Raises InfrastructureError.

    Dask itself waits without an end for a program that accepts a connection and does not answer.
    """
    words = security.get_connection_args(role)
    try:
        async with asyncio.timeout(deadlines.HANDSHAKE_S):
            comm = await connect(address, timeout=deadlines.CONNECT_S, **words)
    except TimeoutError as error:
        raise _unreachable(address, "the connection was accepted, and no answer came") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(address, cause(error)) from error
    except Exception as error:  # foreign bytes: OverflowError, errors of msgpack, and of what else parses
        raise _unreachable(address, f"the answer is not that of Dask: {error}") from error
    comm.abort()


def _unreachable(address: str, why: str) -> InfrastructureError:
    return InfrastructureError(f"no scheduler answers at {address}: {one_line(why)}", hint=START)


def cause(error: BaseException) -> str:
    """Return the message of the innermost cause that has one, which is the most precise.

    The last attempt to connect may be cut off by the deadline; the exception of that has no message.
    """
    message = ""
    one: BaseException | None = error
    while one is not None:
        message = str(one) or message
        one = one.__cause__ or one.__context__
    return message or type(error).__name__
