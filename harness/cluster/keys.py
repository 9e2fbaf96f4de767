"""Makes and finds the certificates of a cluster: a private authority, and a pair for each role.

Whoever has one of these pairs can run code on every host of the cluster, so the files are private.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Security

from harness.errors import ConfigError
from harness.host import paths, private

ROLES = ("scheduler", "worker", "client")
AUTHORITY = "ca.pem"
_DAYS = 3650


def make(folder: Path) -> list[Path]:
    """Write an authority and a pair for each role into a new private folder; return the files.

    The authority's own key is not kept, so no further certificate can be made. Raises ConfigError.
    """
    try:
        private.make(folder)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: not empty", hint="name a new folder: keys are never replaced")
        key, authority = _authority()
        written = [folder / AUTHORITY]
        private.write(written[0], authority.public_bytes(serialization.Encoding.PEM))
        for role in ROLES:
            own = ec.generate_private_key(ec.SECP256R1())
            pair = _pem(own) + _certificate(role, own, key, authority)
            written.append(folder / f"{role}.pem")
            private.write(written[-1], pair)
    except OSError as error:
        raise ConfigError(f"{folder}: the keys cannot be written: {error.strerror or error}") from error
    return written


def security(folder: Path) -> Security:
    """Return the settings of Dask for the keys in `folder`, which this user alone can read and replace.

    Raises ConfigError.
    """
    hint = "make them with `harness cluster keys DIR`, and copy the folder to each host"
    own = f"chown -R {os.getuid()} {folder} && chmod 700 {folder}; or copy them to a folder of your own"
    files = {role: folder / f"{role}.pem" for role in ROLES}
    try:
        if reason := private.refusal(paths.real(folder)):
            raise PermissionError(reason)
        for path in (folder / AUTHORITY, *(path for path in files.values() if path.exists())):
            private.read(path)
    except PermissionError as error:
        raise ConfigError(f"the keys cannot be trusted: {error}", hint=own) from error
    except OSError as error:
        raise ConfigError(f"{folder}: no keys of a cluster: {error}", hint=hint) from error
    present = {role: str(path) for role, path in files.items() if path.exists()}
    if not present:
        raise ConfigError(f"{folder}: no keys of a cluster: no {' or '.join(ROLES)}.pem", hint=hint)
    words = {f"tls_{role}_{kind}": path for role, path in present.items() for kind in ("cert", "key")}
    return Security(tls_ca_file=str(folder / AUTHORITY), require_encryption=True, **words)


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("harness cluster authority", key, "harness cluster authority")
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(usage, critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _certificate(
    role: str,
    own: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> bytes:
    issuer = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = _builder(f"harness cluster {role}", own, str(issuer))
    names = x509.SubjectAlternativeName([x509.DNSName(f"{role}.harness.invalid")])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
