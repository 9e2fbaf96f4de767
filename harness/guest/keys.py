"""The keys of one machine: who the host is and who may come in, made for it and forgotten with it."""

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
    """`host` is what the guest must prove to be, `client` what the harness proves to be."""

    host: KeyPair
    client: KeyPair

    @classmethod
    def generate(cls) -> GuestKeys:
        """Two fresh pairs."""
        return cls(_generate(), _generate())

    def guest_files(self) -> Mapping[str, bytes]:
        """What the guest needs of them, for its run disk."""
        return {"host_key": self.host.private, "authorized_keys": f"{self.client.public}\n".encode()}

    def write_client_files(self, directory: Path, host: str, port: int) -> tuple[Path, Path]:
        """Writes an identity and a known_hosts file for the system's ssh client; returns both paths."""
        identity, known_hosts = directory / "id", directory / "known_hosts"
        private.write(identity, self.client.private)
        private.write(known_hosts, f"[{host}]:{port} {self.host.public}\n".encode())
        return identity, known_hosts


def _generate() -> KeyPair:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private, public.decode())
