"""The ssh command line for a person: it uses the machine's keys and nothing of the user's configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.guest.base import Endpoint
from harness.guest.keys import GuestKeys
from harness.guest.shell import ssh_argv


def test_only_this_machine_is_trusted(tmp_path: Path) -> None:
    """The command reads no user configuration and accepts no other host key; a path may have a space."""
    directory = tmp_path / "a run"
    directory.mkdir()
    endpoint = Endpoint("127.0.0.1", 2222, GuestKeys.generate(), directory)
    argv = ssh_argv(endpoint)
    done = subprocess.run([*argv[:1], "-G", *argv[1:]], capture_output=True, text=True, check=True)
    options = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert options["stricthostkeychecking"] == "true"
    assert options["userknownhostsfile"] == str(directory / "known_hosts")
    assert (directory / "known_hosts").read_text().startswith("[127.0.0.1]:2222 ssh-ed25519 ")
    assert (directory / "id").stat().st_mode & 0o777 == 0o600


def test_ssh_keygen_reads_the_keys(tmp_path: Path) -> None:
    """OpenSSH accepts the keys that cryptography writes."""
    keys = GuestKeys.generate()
    identity, _known_hosts = keys.write_client_files(tmp_path, "127.0.0.1", 22)
    done = subprocess.run(["ssh-keygen", "-y", "-f", identity], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == keys.client.public
