"""Generates the SSH keys of one machine; they are used for this machine only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.host import private

USER = "root"


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key in OpenSSH's formats: the private file, and the public line without a comment."""

    private: bytes
    public: str


@dataclass(frozen=True)
class GuestKeys:
    """`host` identifies the guest's SSH server, `client` the harness."""

    host: KeyPair
    client: KeyPair

    @classmethod
    def generate(cls) -> GuestKeys:
        """Generate two new pairs."""
        return cls(_generate(), _generate())

    def guest_files(self) -> Mapping[str, bytes]:
        """Return the key files of the guest, for its run disk."""
        return {"host_key": self.host.private, "authorized_keys": f"{self.client.public}\n".encode()}

    def write_client_files(self, directory: Path, host: str, port: int) -> tuple[Path, Path]:
        """Write an identity and a known_hosts file for the system's ssh client; return both paths."""
        identity, known_hosts = directory / "id", directory / "known_hosts"
        private.write(identity, self.client.private)
        private.write(known_hosts, f"[{host}]:{port} {self.host.public}\n".encode())
        return identity, known_hosts


def _generate() -> KeyPair:
    # Slow to import, and only a process that boots a machine needs it.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private, public.decode())
