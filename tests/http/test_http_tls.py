"""TLS listeners: SNI, ALPN, certificates that change on disk, PROXY protocol before the handshake."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from test_http_h1 import FakeApp
from tls_files import write_certificate

from atoll.errors import AtollError
from atoll.http.accept import Listener
from atoll.http.proxy_protocol import build
from atoll.http.tls import CertificateStore, server_context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("localhost", "tokyo.localhost"):
        write_certificate(tmp_path, name)
    return tmp_path


def listen(folder: Path) -> tuple[FakeApp, Listener, tuple[str, int]]:
    app = FakeApp()
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(app, sock, CertificateStore(folder, "localhost").default)
    return app, listener, sock.getsockname()


async def visit(address: tuple[str, int], name: str, proxy: bytes = b"") -> tuple[str, bytes]:
    """The first name of the certificate that the server shows for `name`, and the answer to a request."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = socket.create_connection(address)
    client.sendall(proxy)
    client.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=client, ssl=context, server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return names.value.get_values_for_type(x509.DNSName)[0], data


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tokyo.localhost", "tokyo.localhost"),
        ("TOKYO.localhost", "tokyo.localhost"),
        ("unknown.localhost", "localhost"),
        ("localhost", "localhost"),
    ],
)
async def test_the_certificate_is_chosen_by_name(folder: Path, name: str, shown: str) -> None:
    _, listener, address = listen(folder)
    assert (await visit(address, name))[0] == shown
    listener.close()


async def test_the_proxy_header_comes_before_the_handshake(folder: Path) -> None:
    app, listener, address = listen(folder)
    _, data = await visit(address, "localhost", build("198.18.7.10", 4242, "192.0.2.1", 443))
    listener.close()
    assert b"X-Seen: 198.18.7.10\r\n" in data
    assert app.seen[0].conn.scheme == b"https"
    assert app.seen[0].conn.tls_version == "TLSv1.3"


async def test_a_name_that_appears_later_is_served(folder: Path) -> None:
    _, listener, address = listen(folder)
    assert (await visit(address, "paris.localhost"))[0] == "localhost"
    write_certificate(folder, "paris.localhost")
    assert (await visit(address, "paris.localhost"))[0] == "paris.localhost"
    listener.close()


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")])
async def test_alpn_chooses_the_engine(folder: Path, offered: list[str], chosen: str) -> None:
    _, listener, address = listen(folder)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(offered)
    reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
    if chosen == "h2":
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        frame = await asyncio.wait_for(reader.readexactly(9), 5)
        assert frame[3] == 4  # SETTINGS
    writer.close()
    listener.close()


@pytest.mark.parametrize("name", ["", "../localhost", "a/b", "-x", "x" * 300])
def test_a_name_that_is_none_is_never_looked_up(folder: Path, name: str) -> None:
    assert CertificateStore(folder, "localhost").lookup(name) is None


def test_a_broken_certificate_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nonsense")
    with pytest.raises(AtollError, match="no usable certificate") as caught:
        server_context(tmp_path / "x.pem")
    assert caught.value.where.endswith("x.pem")
