"""A local certificate authority: one leaf certificate for every name the network serves.

One certificate a name, so that browsers do not coalesce connections of two cities onto one PoP. Keys are
EC P-256 and readable by their owner only; leaves last 90 days and are made anew when a third of that is
left, the authority lasts ten years. Files appear by rename: a worker never reads half a certificate.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 90
RENEW_DAYS: Final = 30


class Authority(msgspec.Struct, frozen=True):
    """A certificate that signs, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def network_names(network: NetworkSpec) -> tuple[str, ...]:
    """Every name a browser may use: cities, sites in cities, sites' own hosts, and localhost."""
    names = {"localhost"}
    for eyeball in network.eyeballs:
        names.add(f"{eyeball.city}.localhost")
        names.update(f"{site.name}.{eyeball.city}.localhost" for site in network.sites)
    for site in network.sites:
        names.update((site.host, *site.aliases))
    return tuple(sorted(names))


def ensure_authority(folder: Path, now: dt.datetime) -> Authority:
    """The authority in `folder`, made when there is none or it is about to end.

    Raises:
        AtollError: what is there is not a certificate with its key.
    """
    certificate_file, key_file = folder / "ca.pem", folder / "ca.key"
    if certificate_file.exists() and key_file.exists():
        authority = _load_authority(certificate_file, key_file)
        if _lasts(authority.certificate, now):
            return authority
    authority = _new_authority(now)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(key_file, _key_pem(authority.key))
    _write(certificate_file, authority.certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def ensure_leaves(folder: Path, names: Iterable[str], now: dt.datetime) -> tuple[str, ...]:
    """Make `leaf/<name>.pem` for each name that has none, or an old one; the names made."""
    authority = ensure_authority(folder, now)
    leaves = folder / "leaf"
    leaves.mkdir(exist_ok=True, mode=0o700)
    made = tuple(name for name in names if not _is_current(leaves / f"{name}.pem", authority, now))
    for name in made:
        _write(leaves / f"{name}.pem", issue(authority, name, now))
    return made


def issue(authority: Authority, name: str, now: dt.datetime) -> bytes:
    """A key and a certificate for `name`, PEM, key first."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name[:64], authority.certificate.subject, key.public_key(), now, LEAF_DAYS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _new_authority(now: dt.datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atoll local authority")])
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
    certificate = (
        _builder("Atoll local authority", name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _load_authority(certificate_file: Path, key_file: Path) -> Authority:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, OSError) as error:
        hint = "remove ca.pem and ca.key to have new ones made"
        raise AtollError(f"not a usable authority: {error}", hint, str(certificate_file.parent)) from error
    assert isinstance(key, ec.EllipticCurvePrivateKey), "ca.key is always made as an EC key"
    return Authority(certificate, key)


def _is_current(pem: Path, authority: Authority, now: dt.datetime) -> bool:
    """Whether the leaf in `pem` is the present authority's and lasts."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.read_bytes())
        certificate.verify_directly_issued_by(authority.certificate)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    return _lasts(certificate, now)


def _lasts(certificate: x509.Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_after_utc - now > dt.timedelta(days=RENEW_DAYS)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes) -> None:
    """Write by rename, owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)
