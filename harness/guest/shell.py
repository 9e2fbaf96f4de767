"""A person into the guest: the system's ssh client with the machine's own keys and nothing of the user's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

from harness.errors import InfrastructureError
from harness.guest.base import Endpoint
from harness.guest.keys import USER


def ssh_argv(endpoint: Endpoint, command: Sequence[str] = ()) -> list[str]:
    """An ssh command line that reaches the guest and trusts only its key; writes the files that it names."""
    identity, known_hosts = endpoint.keys.write_client_files(endpoint.directory, endpoint.host, endpoint.port)
    options = {
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "ForwardAgent": "no",
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    address = ["-p", str(endpoint.port), f"{USER}@{endpoint.host}"]
    return ["ssh", "-F", "none", "-i", str(identity), *words, *address, *command]


def interactive(endpoint: Endpoint) -> int:
    """A shell on this terminal until the person leaves it; returns its status."""
    if not shutil.which("ssh"):
        raise InfrastructureError("ssh was not found", hint="install openssh-client")
    return enter(ssh_argv(endpoint))


def enter(argv: Sequence[str]) -> int:
    """A shell by an ssh command line without a command; returns its status."""
    # The login shell is dash, which starts faster than bash and edits no line.
    terminal = ["-t", "exec bash -l"] if sys.stdin.isatty() else []
    return subprocess.run([*argv, *terminal], check=False).returncode
