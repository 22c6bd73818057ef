"""The local authority: what it issues verifies, is renewed in time and is nobody else's to read."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from atoll.config.spec import EyeballSpec, NetworkSpec, SiteSpec
from atoll.control.certificates import ensure_authority, ensure_leaves, network_names
from atoll.errors import AtollError

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def test_names_cover_cities_sites_and_hosts() -> None:
    city = EyeballSpec(
        city="tokyo",
        asn=1,
        country="JP",
        continent="AS",
        lat=0,
        lon=0,
        address4="192.0.2.9",
        address6="2001:db8::9",
    )
    network = NetworkSpec(
        name="n", prefixes=(), anycast4="", anycast6="", pops=(), eyeballs=(city,), origins=(), pools=(),
        sites=(SiteSpec(name="www", host="www.example.com", aliases=("example.com",)),), default_site="www",
    )  # fmt: skip
    assert network_names(network) == (
        "example.com", "localhost", "tokyo.localhost", "www.example.com", "www.tokyo.localhost",
    )  # fmt: skip


def test_a_leaf_verifies_against_the_authority_by_name(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    assert ensure_leaves(tmp_path, ["tokyo.localhost"], now) == ("tokyo.localhost",)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "leaf/tokyo.localhost.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    shake_hands(client, server, "tokyo.localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "london.localhost")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _turn in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_only_missing_and_ending_leaves_are_made(tmp_path: Path) -> None:
    ensure_leaves(tmp_path, ["a.test"], NOW)
    assert ensure_leaves(tmp_path, ["a.test", "b.test"], NOW) == ("b.test",)
    assert ensure_leaves(tmp_path, ["a.test"], NOW + dt.timedelta(days=59)) == ()
    assert ensure_leaves(tmp_path, ["a.test"], NOW + dt.timedelta(days=61)) == ("a.test",)


def test_a_damaged_leaf_is_made_again(tmp_path: Path) -> None:
    ensure_leaves(tmp_path, ["a.test"], NOW)
    (tmp_path / "leaf/a.test.pem").write_text("not a certificate")
    assert ensure_leaves(tmp_path, ["a.test"], NOW) == ("a.test",)


def test_another_authority_means_other_leaves(tmp_path: Path) -> None:
    ensure_leaves(tmp_path, ["a.test"], NOW)
    (tmp_path / "ca.key").unlink()
    assert ensure_leaves(tmp_path, ["a.test"], NOW) == ("a.test",)
    leaf = x509.load_pem_x509_certificate((tmp_path / "leaf/a.test.pem").read_bytes())
    leaf.verify_directly_issued_by(ensure_authority(tmp_path, NOW).certificate)


def test_keys_are_the_owners(tmp_path: Path) -> None:
    ensure_leaves(tmp_path / "ca", ["a.test"], NOW)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "ca").rglob("*")}
    assert modes == {"ca.pem": 0o600, "ca.key": 0o600, "leaf": 0o700, "a.test.pem": 0o600}


def test_an_authority_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    ensure_authority(tmp_path, NOW)
    (tmp_path / "ca.key").write_text("damaged")
    with pytest.raises(AtollError, match="not a usable authority"):
        ensure_authority(tmp_path, NOW)
