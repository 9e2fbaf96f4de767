"""Opens a shell in the guest: the system's ssh with the machine's keys and without the user's settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

from harness.errors import InfrastructureError
from harness.guest.base import Endpoint
from harness.guest.keys import USER


def ssh_argv(endpoint: Endpoint, command: Sequence[str] = ()) -> list[str]:
    """Return an ssh command line that trusts only the guest's key; write the files that it names."""
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
    """Run a shell on this terminal until the user leaves it; return its status."""
    if not shutil.which("ssh"):
        raise InfrastructureError("ssh was not found", hint="install openssh-client")
    return enter(ssh_argv(endpoint))


def enter(argv: Sequence[str]) -> int:
    """Run a shell by an ssh command line without a command; return its status."""
    # The login shell is dash, which starts faster than bash but cannot edit lines.
    terminal = ["-t", "exec bash -l"] if sys.stdin.isatty() else []
    return subprocess.run([*argv, *terminal], check=False).returncode
