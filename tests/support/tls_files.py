"""Certificate files as tests need them: of the network's own authority, of others, of clients."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.control.certificates import Authority, ensure_authority, issue

NOW: Final = dt.datetime.now(dt.UTC)


def write_certificate(folder: Path, name: str) -> None:
    """`<name>.pem`, issued by an authority in the folder."""
    (folder / f"{name}.pem").write_bytes(issue(ensure_authority(folder / "ca", NOW), name, NOW))


def pem_for(*names: str, days: int = 90) -> bytes:
    """A key and a self-signed certificate for several names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded + certificate.public_bytes(serialization.Encoding.PEM)


def put(path: Path, data: bytes) -> None:
    """Write by rename, as whoever issues certificates does."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def member(authority: Authority, name: str) -> bytes:
    """A client's key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [(x509.NameOID.ORGANIZATION_NAME, "Example"), (x509.NameOID.COMMON_NAME, name)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(*part) for part in parts]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
        .sign(authority.key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded + certificate.public_bytes(serialization.Encoding.PEM)
