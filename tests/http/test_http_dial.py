"""Connecting to origins: which address, in which order, how long, and whom to believe."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio
from dns_server import DnsServer
from edge_world import Server, page
from tls_files import member, pem_for, write_certificate

from atoll.config.origins import OriginTlsSpec
from atoll.control.certificates import ensure_authority
from atoll.errors import AtollError, RemoteError
from atoll.http.addresses import NEVER, PRIVATE, literal, refusal
from atoll.http.dial import client_context, in_order
from atoll.http.upstream import Dialer, Resolver, Target, UpstreamPool, fetch, render_request

LONG_S = 20.0
NAME = "origin.test"


@pytest_asyncio.fixture
async def dns() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def tls_origin(context: ssl.SSLContext) -> AsyncIterator[int]:
    """An origin that speaks HTTP/1.1 over TLS and says which client certificate it saw; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            tls = writer.get_extra_info("ssl_object")
            seen = tls.getpeercert() or {}
            names = [value for part in seen.get("subject", ()) for key, value in part if key == "commonName"]
            writer.write(page(f"{names} {tls.version()}".encode()))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def get(target: Target, dialer: Dialer | None = None, timeout_s: float = 5.0) -> bytes:
    """What the origin answers to a request on a pool of its own."""
    pool = UpstreamPool(target, timeout_s, dialer=dialer)
    try:
        reader = await fetch(pool, render_request(b"GET", b"/", b"h", [], None), None, LONG_S)
        return await reader.read_all(1000)
    finally:
        pool.close()


async def refused(target: Target, dialer: Dialer | None = None, timeout_s: float = 5.0) -> RemoteError:
    with pytest.raises(RemoteError) as raised:
        await get(target, dialer, timeout_s)
    return raised.value


# --- addresses


@pytest.mark.parametrize("network", [*PRIVATE, *NEVER])
def test_no_name_may_lead_to_a_special_address(network: str) -> None:
    last = ip_network(network)[-1]
    assert refusal(last, allow_private=False)
    assert bool(refusal(last, allow_private=True)) == (network in NEVER)


@pytest.mark.parametrize(
    "text",
    [
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1", "2002:0a00:0001::",
        "::127.0.0.1", "fd00:ec2::254", "2001:0:0a00:1::", "100.100.100.200",
    ],
)  # fmt: skip
def test_nor_to_one_in_disguise(text: str) -> None:
    assert refusal(ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_are_fine(text: str) -> None:
    assert refusal(ip_address(text), allow_private=False) == ""


def test_this_machine_is_fine_where_it_is_allowed() -> None:
    assert refusal(ip_address("::1"), allow_private=True) == ""
    assert literal("[::1]") == ip_address("::1")
    assert literal("1.2.3") is None  # what some libraries read as 1.2.0.3 is a name


def test_families_take_turns_and_each_address_of_one_is_first_some_time() -> None:
    found = [ip_address(text) for text in ("1.1.1.1", "2.2.2.2", "::a", "::b", "::c")]
    orders = [[str(address) for address in in_order(found, turn)] for turn in range(6)]
    assert orders[0] == ["::a", "1.1.1.1", "::b", "2.2.2.2", "::c"]
    assert {order[0] for order in orders} == {"::a", "::b", "::c"}
    assert {order[1] for order in orders} == {"1.1.1.1", "2.2.2.2"}
    assert str(in_order(found, 0, found[2:])[0]) == "1.1.1.1"


# --- names


async def test_a_name_is_looked_up_and_must_not_lead_inside(dns: DnsServer, origin: Server) -> None:
    dns.records = {(NAME, "A"): (60, ["127.0.0.1"])}
    dialer = Dialer(Resolver([dns.address]))
    error = await refused(Target(host=NAME, port=origin.port), dialer)
    assert "leads to 127.0.0.1 (this machine), and allow_private is not set" in error.message
    assert not origin.asked
    allowed = Target(host=NAME, port=origin.port, allow_private=True)
    assert await get(allowed, dialer) == b"hello /"


async def test_metadata_services_are_no_origins(dns: DnsServer) -> None:
    dns.records = {(NAME, "A"): (60, ["169.254.169.254"]), (NAME, "AAAA"): (60, ["fd00:ec2::254"])}
    error = await refused(Target(host=NAME, port=80), Dialer(Resolver([dns.address])))
    assert "allow_private" in error.message


async def test_a_literal_address_is_the_operator_s_word(origin: Server) -> None:
    assert await get(Target(host="127.0.0.1", port=origin.port)) == b"hello /"


async def test_localhost_is_no_question_for_dns(dns: DnsServer, origin: Server) -> None:
    dialer = Dialer(Resolver([dns.address]))
    assert "allow_private" in (await refused(Target(host="localhost", port=origin.port), dialer)).message
    assert await get(Target(host="localhost", port=origin.port, allow_private=True), dialer) == b"hello /"
    assert not dns.asked


async def test_what_was_judged_is_what_is_dialled(dns: DnsServer, origin: Server) -> None:
    """A name that answers something harmless when it is judged and something else afterwards."""
    dns.records = {(NAME, "A"): (1, ["127.0.0.2"])}
    resolver = Resolver([dns.address])
    asked = await resolver.addresses(NAME)
    dns.records = {(NAME, "A"): (1, ["127.0.0.1"])}
    error = await refused(Target(host=NAME, port=origin.port, allow_private=True), Dialer(resolver))
    assert "127.0.0.2" in error.message
    assert [str(address) for address in asked] == ["127.0.0.2"]
    assert not origin.asked


# --- happy eyeballs


def full() -> socket.socket:
    """A socket on which nobody gets through: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.3", 0))
    listener.listen(0)
    return listener


async def test_the_next_address_does_not_wait_for_a_silent_one(dns: DnsServer, origin: Server) -> None:
    silent = socket.socket()
    silent.bind(("127.0.0.3", origin.port))
    silent.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for client in fill:
        client.setblocking(False)
        client.connect_ex(("127.0.0.3", origin.port))
    dns.records = {(NAME, "A"): (60, ["127.0.0.3", "127.0.0.1"])}
    dialer = Dialer(Resolver([dns.address]))
    target = Target(host=NAME, port=origin.port, allow_private=True)
    for _ in range(2):  # whichever of the two comes first
        began_s = monotonic()
        assert await get(target, dialer) == b"hello /"
        assert monotonic() - began_s < 2.0
    for each in (silent, *fill):
        each.close()


async def test_an_address_that_refuses_is_passed_over_at_once(dns: DnsServer, origin: Server) -> None:
    dns.records = {(NAME, "A"): (60, ["127.0.0.4", "127.0.0.5", "127.0.0.1"]), (NAME, "AAAA"): (60, ["::1"])}
    dialer = Dialer(Resolver([dns.address]))
    began_s = monotonic()
    for _ in range(4):
        assert await get(Target(host=NAME, port=origin.port, allow_private=True), dialer) == b"hello /"
    assert monotonic() - began_s < 1.0


async def test_when_nobody_listens_the_reason_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = await refused(Target(host="127.0.0.1", port=port))
    assert error.status == 502
    assert error.message == "connect failed: Connection refused (127.0.0.1)"


async def test_a_connection_that_takes_too_long_is_given_up() -> None:
    listener = full()
    fill = [socket.socket() for _ in range(4)]
    for client in fill:
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
    host, port = listener.getsockname()
    error = await refused(Target(host=host, port=port), timeout_s=0.2)
    assert (error.status, error.message) == (504, "connect timeout")
    for each in (listener, *fill):
        each.close()


# --- TLS


def server_context(folder: Path, name: str = NAME) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    return context


def believing(folder: Path, **more: object) -> OriginTlsSpec:
    return OriginTlsSpec(ca=str(folder / "ca" / "ca.pem"), server_name=NAME, **more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_certificate(tmp_path, NAME)
    return tmp_path


async def test_an_origin_is_believed_by_its_authority_and_name(folder: Path) -> None:
    async with tls_origin(server_context(folder)) as port:
        target = Target(host="127.0.0.1", port=port, secure=True, tls=believing(folder))
        assert await get(target) == b"[] TLSv1.3"


async def test_the_name_is_sent_and_is_the_url_s_own(folder: Path, dns: DnsServer) -> None:
    asked: list[str | None] = []
    context = server_context(folder)
    context.sni_callback = lambda tls, name, _: asked.append(name)
    dns.records = {(NAME, "A"): (60, ["127.0.0.1"])}
    tls = OriginTlsSpec(ca=str(folder / "ca" / "ca.pem"))
    async with tls_origin(context) as port:
        target = Target(host=NAME, port=port, secure=True, tls=tls, allow_private=True)
        assert await get(target, Dialer(Resolver([dns.address])))
    assert asked == [NAME]


@pytest.mark.parametrize("what", ["another name", "another authority", "nobody's", "too old"])
async def test_whoever_cannot_prove_itself_is_not_asked(folder: Path, tmp_path: Path, what: str) -> None:
    tls, context = believing(folder), server_context(folder)
    if what == "another name":
        tls = OriginTlsSpec(ca=tls.ca, server_name="other.test")
    elif what == "another authority":
        other = folder / "other"
        other.mkdir()
        write_certificate(other, NAME)
        context = server_context(other)
    elif what == "nobody's":
        tls = OriginTlsSpec(server_name=NAME)  # the system's authorities
    else:
        (folder / "old.pem").write_bytes(pem_for(NAME, days=-1 + 1))
        context = server_context(folder, "old")
        tls = OriginTlsSpec(ca=str(folder / "old.pem"), server_name=NAME)
    async with tls_origin(context) as port:
        error = await refused(Target(host="127.0.0.1", port=port, secure=True, tls=tls))
    assert error.status == 502
    assert error.message.startswith("its certificate is not believed: ")


async def test_only_who_says_so_believes_anybody(folder: Path) -> None:
    async with tls_origin(server_context(folder)) as port:
        tls = OriginTlsSpec(verify=False, server_name="whoever.test")
        assert await get(Target(host="127.0.0.1", port=port, secure=True, tls=tls)) == b"[] TLSv1.3"


async def test_our_own_certificate_is_shown_to_origins_that_ask(folder: Path) -> None:
    authority = ensure_authority(folder / "ca", dt.datetime.now(dt.UTC))
    (folder / "edge.pem").write_bytes(member(authority, "edge-7"))
    context = server_context(folder)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca" / "ca.pem")
    async with tls_origin(context) as port:
        shown = believing(folder, certificate=str(folder / "edge.pem"))
        assert (await get(Target(host="127.0.0.1", port=port, secure=True, tls=shown))).startswith(
            b"['edge-7']"
        )
        error = await refused(Target(host="127.0.0.1", port=port, secure=True, tls=believing(folder)))
        assert error.status == 502


async def test_an_old_protocol_is_refused_where_the_new_one_is_asked_for(folder: Path) -> None:
    context = server_context(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_origin(context) as port:
        assert await get(Target(host="127.0.0.1", port=port, secure=True, tls=believing(folder)))
        only = believing(folder, minimum="1.3")
        error = await refused(Target(host="127.0.0.1", port=port, secure=True, tls=only))
    assert error.message.startswith("TLS failed")


async def test_plain_http_is_no_tls(origin: Server) -> None:
    error = await refused(Target(host="127.0.0.1", port=origin.port, secure=True), timeout_s=0.3)
    assert error.message.startswith(("TLS failed", "connect timeout"))


@pytest.mark.parametrize("field", ["ca", "certificate"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, field: str) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in (tmp_path / "bad.pem", tmp_path / "missing.pem"):
        tls = OriginTlsSpec(**{field: str(path)})  # type: ignore[arg-type]
        with pytest.raises(AtollError) as raised:
            client_context(Target(host="h", port=1, secure=True, tls=tls), ["http/1.1"])
        assert str(path) in raised.value.message
        assert raised.value.where == f"tls.{field}"


async def test_files_that_cannot_be_used_cost_their_origin_s_requests_alone(folder: Path) -> None:
    tls = OriginTlsSpec(ca=str(folder / "later.pem"), server_name=NAME)
    async with tls_origin(server_context(folder)) as port:
        pool = UpstreamPool(Target(host="127.0.0.1", port=port, secure=True, tls=tls))

        async def ask() -> int:
            request = render_request(b"GET", b"/", b"h", [], None)
            return (await fetch(pool, request, None, LONG_S)).status

        with pytest.raises(RemoteError, match=r"later\.pem cannot be used"):
            await ask()
        (folder / "later.pem").write_bytes((folder / "ca" / "ca.pem").read_bytes())
        assert await ask() == 200
        (folder / "later.pem").write_text("damaged")
        assert await ask() == 200  # what was there before
        other = folder / "other"
        other.mkdir()
        write_certificate(other, NAME)
        (folder / "later.pem").write_bytes((other / "ca" / "ca.pem").read_bytes())
        with pytest.raises(RemoteError, match="not believed"):
            await ask()
        pool.close()
