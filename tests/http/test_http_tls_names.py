"""Which certificate a name gets, and that files which change are followed, good ones only."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from pathlib import Path

import pytest
from edge_world import until
from test_http_h1 import FakeApp
from test_http_tls import visit
from tls_files import pem_for, put, write_certificate

from atoll.http.accept import Listener
from atoll.http.certificates import Certificates, read_leaf, wildcard_of
from atoll.http.tls import CertificateStore, TlsCounts, server_context


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    folder = tmp_path / "leaf"
    folder.mkdir()
    for name in ("localhost", "www.example.com"):
        write_certificate(folder, name)
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("shop.example.com", "issued/several.pem"),
        ("SHOP.Example.com.", "issued/several.pem"),
        ("example.com", "issued/several.pem"),
        ("other.example.com", "issued/wild.pem"),
        ("www.example.com", "issued/wild.pem"),  # a public authority's word goes before the network's own
        ("deep.other.example.com", None),  # a wildcard stands for one label
        ("localhost", "leaf/localhost.pem"),
        ("unknown.test", None),
        ("../leaf/localhost", None),
        ("a..b", None),
        ("", None),
    ],
)
def test_files_by_name(leaves: Path, name: str, file: str | None) -> None:
    issued = leaves.parent / "issued"
    put(issued / "several.pem", pem_for("example.com", "Shop.example.com"))
    put(issued / "wild.pem", pem_for("*.example.com"))
    found = Certificates(leaves, issued).find(name)
    assert found == (leaves.parent / file if file else None)


def test_of_two_files_for_a_name_the_one_that_lasts_longest_is_used(leaves: Path) -> None:
    issued = leaves.parent / "issued"
    put(issued / "a.pem", pem_for("example.com", days=80))
    put(issued / "b.pem", pem_for("example.com", days=20))
    found = Certificates(leaves, issued)
    assert found.find("example.com") == issued / "a.pem"
    put(issued / "c.pem", pem_for("example.com", days=90))
    assert found.find("example.com") == issued / "c.pem"
    (issued / "c.pem").unlink()
    assert found.find("example.com") == issued / "a.pem"


def test_files_that_come_within_one_tick_of_the_clock_are_both_found(leaves: Path) -> None:
    issued = leaves.parent / "issued"
    put(issued / "a.pem", pem_for("a.test"))
    found = Certificates(leaves, issued)
    assert found.find("a.test") is not None
    before = os.stat(issued)
    put(issued / "b.pem", pem_for("b.test"))
    os.utime(issued, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found.find("b.test") == issued / "b.pem"


@pytest.mark.parametrize("name", ["a.b.c", "b.c"])
def test_a_wildcard_is_of_the_leftmost_label(name: str) -> None:
    assert wildcard_of(name) == f"*.{name.split('.', 1)[1]}"


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_leaf(data)


def test_a_bad_file_takes_nothing_away_and_is_named(leaves: Path, caplog: pytest.LogCaptureFixture) -> None:
    issued = leaves.parent / "issued"
    put(issued / "a.pem", pem_for("a.test"))
    found = Certificates(leaves, issued)
    assert found.find("a.test") == issued / "a.pem"
    put(issued / "a.pem", b"half a certi")
    put(issued / "b.pem", pem_for("b.test"))
    with caplog.at_level(logging.ERROR, "atoll.tls"):
        assert found.find("a.test") == issued / "a.pem"
        assert found.find("b.test") == issued / "b.pem"
    assert list(found.faults) == [str(issued / "a.pem")]
    assert str(issued / "a.pem") in caplog.text


class Served:
    """A TLS listener on a folder, and a client's look at it."""

    def __init__(self, leaves: Path) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.address = sock.getsockname()
        self.store = CertificateStore(leaves, "localhost", leaves.parent / "issued")
        self.listener = Listener(FakeApp(), sock, self.store)

    async def shown(self, name: str) -> str:
        """The first name of the certificate that a client gets."""
        return (await visit(self.address, name))[0]

    @property
    def counts(self) -> TlsCounts:
        """The listener's."""
        return self.listener.handshakes


async def test_a_certificate_put_into_the_folder_serves_at_once_and_open_connections_stay(
    leaves: Path,
) -> None:
    served = Served(leaves)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(*served.address, ssl=context, server_hostname="a.test")
    assert await served.shown("a.test") == "localhost"
    put(leaves.parent / "issued/x.pem", pem_for("a.test", "b.test"))
    assert await served.shown("b.test") == "a.test"
    put(leaves.parent / "issued/x.pem", pem_for("b.test", "a.test"))
    assert await served.shown("a.test") == "b.test"
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
    writer.close()
    served.listener.close()


@pytest.mark.parametrize("where", ["issued", "leaf"])
async def test_a_certificate_with_another_key_keeps_the_one_before(leaves: Path, where: str) -> None:
    """What only OpenSSL notices: both halves are good, and do not belong together."""
    served = Served(leaves)
    file = leaves.parent / where / "a.test.pem"
    good, other = pem_for("a.test"), pem_for("a.test")
    put(file, good)
    assert await served.shown("a.test") == "a.test"
    key, certificate = other.split(b"-----BEGIN CERTIFICATE-----")
    put(file, key + b"-----BEGIN CERTIFICATE-----" + good.split(b"-----BEGIN CERTIFICATE-----")[1])
    assert await served.shown("a.test") == "a.test"
    assert "MISMATCH" in served.store.certificates.faults[str(file)].upper()
    assert certificate not in str(served.store.certificates.faults).encode()
    put(file, other)
    assert await served.shown("a.test") == "a.test"
    assert served.store.certificates.faults == {}
    served.listener.close()


async def test_the_default_follows_its_file_too(leaves: Path) -> None:
    served = Served(leaves)
    assert await served.shown("") == "localhost"
    put(leaves / "localhost.pem", pem_for("new.localhost"))
    assert await served.shown("unknown.test") == "new.localhost"
    put(leaves / "localhost.pem", b"")
    assert await served.shown("unknown.test") == "new.localhost"
    served.listener.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_resumes_over_a_change_of_certificates(leaves: Path, version: ssl.TLSVersion) -> None:
    served = Served(leaves)
    put(leaves.parent / "issued/x.pem", pem_for("a.test"))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version

    def talk(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        plain = socket.create_connection(served.address)
        with context.wrap_socket(plain, server_hostname="a.test", session=session) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            while client.recv(4096):
                pass
            return client.session, client.session_reused

    session, reused = await asyncio.to_thread(talk, None)
    assert not reused
    put(leaves.parent / "issued/x.pem", pem_for("a.test"))
    _, reused = await asyncio.to_thread(talk, session)
    assert reused
    assert (served.counts.done, served.counts.resumed) == (2, 1)
    served.listener.close()


@pytest.mark.parametrize(
    ("ciphers", "accepted"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES256-SHA384", False),  # CBC
        ("AES128-GCM-SHA256", False),  # no forward secrecy
    ],
)
async def test_suites_of_tls_1_2(leaves: Path, ciphers: str, accepted: bool) -> None:
    served = Served(leaves)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    if accepted:
        _, writer = await asyncio.open_connection(*served.address, ssl=context, server_hostname="localhost")
        writer.close()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*served.address, ssl=context, server_hostname="localhost")
        await until(lambda: served.counts.failed == 1)
    served.listener.close()


def test_old_versions_are_not_offered(leaves: Path) -> None:
    context = server_context(leaves / "localhost.pem")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
