"""What a site wants of its clients' connections: versions, certificates; and how handshakes end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_world import until
from hypothesis import given
from hypothesis import strategies as st
from test_http_h1 import FakeApp
from tls_files import NOW, member, pem_for, write_certificate

from atoll.config.tls import USUAL, TlsSpec
from atoll.control.certificates import ensure_authority
from atoll.http.accept import Listener
from atoll.http.client_hello import server_name
from atoll.http.limits import Limits
from atoll.http.tls import CertificateStore

WANT = {
    "strict.test": TlsSpec(minimum="1.3"),
    "members.test": TlsSpec(clients="require", client_ca="clients.pem"),
    "guests.test": TlsSpec(clients="request", client_ca="clients.pem"),
    "broken.test": TlsSpec(clients="require", client_ca="missing.pem"),
}


class Site:
    """A listener whose sites want different things."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.authority = ensure_authority(folder / "members", NOW)
        (folder / "members/ca.pem").rename(folder / "clients.pem")
        for name in ("localhost", *WANT):
            write_certificate(folder, name)
        self.store = CertificateStore(folder, "localhost")
        self.store.apply(self.policy)
        self.app = FakeApp()
        if limits is not None:
            self.app.limits = limits
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.address = sock.getsockname()
        self.listener = Listener(self.app, sock, self.store)

    def policy(self, name: str) -> TlsSpec:
        """What the name wants, with the folder's authorities."""
        found = WANT.get(name, USUAL)
        if not found.client_ca:
            return found
        return TlsSpec(clients=found.clients, client_ca=str(self.folder / found.client_ca))

    async def ask(self, name: str, certificate: bytes = b"", version: ssl.TLSVersion | None = None) -> bytes:
        """A request to `name`; b"" when there is no answer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if certificate:
            (self.folder / "client.pem").write_bytes(certificate)
            context.load_cert_chain(self.folder / "client.pem")
        try:
            reader, writer = await asyncio.open_connection(*self.address, ssl=context, server_hostname=name)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            data = await asyncio.wait_for(reader.read(), 5)
            writer.close()
        except (ssl.SSLError, ConnectionError):
            return b""
        return data

    async def ended_badly(self, failed: int, timed_out: int = 0) -> None:
        """Wait until so many handshakes have failed."""
        counts = self.listener.handshakes
        await until(lambda: (counts.failed, counts.timed_out) == (failed, timed_out))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    site.listener.close()


@pytest.mark.parametrize(
    ("name", "version", "answered"),
    [
        ("strict.test", ssl.TLSVersion.TLSv1_3, True),
        ("strict.test", ssl.TLSVersion.TLSv1_2, False),
        ("localhost", ssl.TLSVersion.TLSv1_2, True),
    ],
)
async def test_a_site_may_want_tls_1_3_alone(
    site: Site, name: str, version: ssl.TLSVersion, answered: bool
) -> None:
    assert bool(await site.ask(name, version=version)) is answered
    if not answered:
        await site.ended_badly(failed=1)


async def test_a_required_certificate_is_asked_for_and_its_subject_known(site: Site) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert (await site.ask("members.test", member(site.authority, "alice"), version)).startswith(
            b"HTTP/1.1 200"
        )
    for exchange in site.app.seen:
        assert exchange.conn.client_certificate is not None
        assert exchange.conn.client_certificate.subject == "CN=alice,O=Example"
        assert exchange.conn.client_certificate.serial == "0abc"
        assert exchange.conn.server_name == "members.test"
    assert len(site.app.seen) == 2


async def test_without_it_nobody_is_served(site: Site) -> None:
    assert await site.ask("members.test") == b""
    assert await site.ask("members.test", pem_for("stranger")) == b""
    await site.ended_badly(failed=2)
    assert site.app.seen == []


async def test_a_requested_certificate_may_be_missing_but_not_false(site: Site) -> None:
    assert await site.ask("guests.test")
    assert await site.ask("guests.test", member(site.authority, "bob"))
    assert await site.ask("guests.test", pem_for("stranger")) == b""
    guest, bob = site.app.seen
    assert guest.conn.client_certificate is None
    assert bob.conn.client_certificate is not None
    assert bob.conn.client_certificate.subject == "CN=bob,O=Example"


async def test_a_site_without_its_authorities_serves_nobody_and_says_so(site: Site) -> None:
    assert await site.ask("broken.test", member(site.authority, "alice")) == b""
    await site.ended_badly(failed=1)
    ((where, reason),) = site.store.certificates.faults.items()
    assert where.endswith("missing.pem")
    assert "client authorities" in reason


async def test_a_hello_in_small_pieces_still_says_its_name(site: Site) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(inward, outward, server_hostname="strict.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outward.read()
    assert server_name(hello) == "strict.test"
    reader, writer = await asyncio.open_connection(*site.address)
    for at in range(0, len(hello), 100):
        writer.write(hello[at : at + 100])
        await asyncio.sleep(0.002)
    inward.write(await asyncio.wait_for(reader.read(65_536), 5))
    while client.version() is None:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            inward.write(await asyncio.wait_for(reader.read(65_536), 5))
    assert client.getpeercert(binary_form=True) is not None
    writer.close()


async def test_a_client_that_says_nothing_after_its_hello_is_counted(tmp_path: Path) -> None:
    site = Site(tmp_path, Limits(tls_handshake_s=0.05))
    site.store.apply(None)
    reader, writer = await asyncio.open_connection(*site.address)
    writer.write(b"\x16\x03\x01\x02\x00")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await site.ended_badly(failed=0, timed_out=1)
    writer.close()
    site.listener.close()


async def test_bytes_that_are_no_handshake_are_counted(site: Site) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x80" * 64):
        reader, writer = await asyncio.open_connection(*site.address)
        writer.write(data)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    await site.ended_badly(failed=3)


@given(st.binary(max_size=300))
def test_no_first_bytes_break_the_reading_of_a_name(data: bytes) -> None:
    assert server_name(data) is None or isinstance(server_name(data), str)
