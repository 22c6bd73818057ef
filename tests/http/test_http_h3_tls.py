"""QUIC's certificates: the files that TCP uses, followed as they change; its tickets: good once, bounded."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic.tls import CipherSuite, SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from h3_world import H3World, h3_running
from tls_files import NOW, pem_for, put, write_certificate

from atoll.errors import AtollError
from atoll.http.certificates import Certificates
from atoll.http.quic_tls import QuicLeaves, Tickets, read_quic_leaf


@pytest.fixture
async def h3() -> AsyncIterator[H3World]:
    async with h3_running() as h3:
        yield h3


async def test_what_is_issued_serves_over_http_3_at_once(h3: H3World) -> None:
    for names in (("shop.test", "b.test"), ("b.test", "shop.test")):
        put(h3.world.folder / "issued/x.pem", pem_for(*names))
        async with h3.client() as client:
            certificate: x509.Certificate = client.quic.tls._peer_certificate
            shown = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert tuple(shown.get_values_for_type(x509.DNSName)) == names
            assert (await client.ask("/")).status == 200


def test_a_bad_file_keeps_the_one_before_and_is_named(tmp_path: Path) -> None:
    for name in ("localhost", "a.test"):
        write_certificate(tmp_path, name)
    files = Certificates(tmp_path)
    leaves = QuicLeaves(files, tmp_path / "localhost.pem")
    good = leaves.find("a.test")
    key, _, _ = pem_for("a.test").partition(b"-----BEGIN CERT")
    put(
        tmp_path / "a.test.pem", key + b"-----BEGIN CERT" + pem_for("a.test").partition(b"-----BEGIN CERT")[2]
    )
    assert leaves.find("a.test") is good
    assert "another one's" in files.faults[str(tmp_path / "a.test.pem")]
    put(tmp_path / "a.test.pem", pem_for("a.test"))
    assert leaves.find("a.test") is not good
    assert files.faults == {}


@pytest.mark.parametrize("data", [b"", b"nonsense", pem_for("a.test").partition(b"-----BEGIN CERT")[0]])
def test_what_is_no_certificate_with_its_key_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pem").write_bytes(data)
    with pytest.raises(AtollError, match="no usable certificate") as caught:
        read_quic_leaf(tmp_path / "x.pem")
    assert caught.value.where.endswith("x.pem")


def test_key_and_chain_may_come_in_either_order(tmp_path: Path) -> None:
    key, mark, certificate = pem_for("a.test").partition(b"-----BEGIN CERT")
    (tmp_path / "x.pem").write_bytes(mark + certificate + key)
    assert len(read_quic_leaf(tmp_path / "x.pem").chain) == 1


async def test_rsa_serves_too(h3: H3World) -> None:
    key = rsa.generate_private_key(65_537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(h3.world.folder / "issued/x.pem", encoded + certificate.public_bytes(serialization.Encoding.PEM))
    async with h3.client() as client:
        assert isinstance(client.quic.tls._peer_certificate.public_key(), rsa.RSAPublicKey)


def ticket(identity: bytes) -> SessionTicket:
    return SessionTicket(0, CipherSuite.AES_128_GCM_SHA256, NOW, NOW, b"secret", "", identity)


def test_tickets_are_good_once_for_one_name_and_bounded() -> None:
    tickets = Tickets(most=3)
    for number in range(5):
        tickets.keep("a.test", ticket(b"%d" % number))
    assert len(tickets) == 3
    assert tickets.take("a.test", b"0") is None
    assert tickets.take("a.test", b"4") is not None
    assert tickets.take("a.test", b"4") is None
    assert tickets.take("b.test", b"3") is None
    assert tickets.take("a.test", b"3") is None  # asked for under another name, it is spent
