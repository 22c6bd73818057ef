"""What is settled at the door: challenges, the way to https, and connections a site does not want."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from edge_world import ROUTES, Response, World, get, page, read_response, running
from tls_files import member, write_certificate

from atoll.config.admission import AdmissionSpec, ClientCertificateSpec
from atoll.config.spec import RouteSpec, SiteSpec
from atoll.config.tls import TlsSpec
from atoll.control.certificates import Authority, ensure_authority
from atoll.edge.door import Door, policies
from atoll.http.accept import Listener
from atoll.http.tls import CertificateStore

HOSTS = ("shop.test", "members.test", "others.test", "moved.test", "modern.test")


class House:
    """An edge worker behind doors of both kinds, and sites with wishes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.challenges = folder / "challenges"
        self.challenges.mkdir()
        now = dt.datetime.now(dt.UTC)
        self.members: Authority = ensure_authority(folder / "members", now)
        self.others: Authority = ensure_authority(folder / "others", now)
        for host in ("localhost", *HOSTS):
            write_certificate(folder, host)
        wishes = {
            "members.test": TlsSpec(clients="require", client_ca=str(folder / "members/ca.pem")),
            "others.test": TlsSpec(clients="require", client_ca=str(folder / "others/ca.pem")),
            "moved.test": TlsSpec(redirect_port=443),
            "modern.test": TlsSpec(minimum="1.3"),
        }
        sites = [
            SiteSpec(name=host.split(".", maxsplit=1)[0], host=host, routes=ROUTES, tls=tls)
            for host, tls in wishes.items()
        ]
        world.edge.apply(world.snapshot(2, *sites))
        self.folder = folder
        self.clear, self.clear_at = self._listen(None)
        self.store = CertificateStore(folder, "localhost")
        self.store.apply(policies(world.edge.table))
        self.secure, self.secure_at = self._listen(self.store)

    def _listen(self, tls: CertificateStore | None) -> tuple[Listener, tuple[str, int]]:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        return Listener(Door(self.world.edge, self.challenges, 4433), sock, tls), sock.getsockname()

    async def ask(self, request: bytes) -> Response:
        """Over plain HTTP."""
        reader, writer = await asyncio.open_connection(*self.clear_at)
        writer.write(request)
        response = await read_response(reader)
        writer.close()
        return response

    async def ask_securely(
        self,
        name: str,
        request: bytes,
        certificate: bytes = b"",
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> Response:
        """On a connection opened to `name`."""
        context = ssl.create_default_context()
        context.maximum_version = version
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            (self.folder / "client.pem").write_bytes(certificate)
            context.load_cert_chain(self.folder / "client.pem")
        reader, writer = await asyncio.open_connection(*self.secure_at, ssl=context, server_hostname=name)
        writer.write(request)
        response = await read_response(reader)
        writer.close()
        return response


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running() as world:
        house = House(world, tmp_path)
        yield house
        house.clear.close()
        house.secure.close()


@pytest.mark.parametrize("host", [b"shop.test", b"moved.test", b"nobody.test", b"members.test"])
async def test_a_challenge_is_answered_for_every_host(house: House, host: bytes) -> None:
    (house.challenges / "to-ken_1").write_bytes(b"to-ken_1.thumbprint")
    response = await house.ask(get(b"/.well-known/acme-challenge/to-ken_1", host=host))
    assert (response.status, response.body) == (200, b"to-ken_1.thumbprint")
    assert house.world.origin.asked == []


@pytest.mark.parametrize(
    "token", [b"unknown", b"..%2f..%2fsecret", b"../localhost.pem", b"a/b", b"", b"x" * 200]
)
async def test_other_challenges_are_the_origins(house: House, token: bytes) -> None:
    response = await house.ask(get(b"/.well-known/acme-challenge/" + token))
    assert response.body == b"hello /.well-known/acme-challenge/" + token


async def test_what_the_door_answers_is_counted_once(house: House) -> None:
    (house.challenges / "token").write_bytes(b"token.thumbprint")
    before = house.world.edge.counters.bypass
    await house.ask(get(b"/.well-known/acme-challenge/token"))
    await house.ask(get(b"/a", host=b"moved.test"))
    await house.ask(get(b"/a", host=b"members.test"))
    counters = house.world.edge.counters
    assert (counters.requests, counters.bypass - before) == (3, 3)


async def test_a_site_that_asks_for_tls_1_3_is_not_had_with_less_on_another_name_s_connection(
    house: House,
) -> None:
    house.world.origin.answer = lambda asked: page(b"x", b"max-age=600")
    request = get(b"/a", host=b"modern.test")
    for _ in range(3):  # known well enough to be answered from prepared bytes, were it another site's
        assert (await house.ask_securely("shop.test", request)).status == 200
    old = ssl.TLSVersion.TLSv1_2
    assert (await house.ask_securely("shop.test", request, version=old)).status == 421
    assert (await house.ask_securely("shop.test", get(b"/a"), version=old)).status == 200
    assert (await house.ask(request)).status == 200  # in the clear is another matter: see `redirect_port`


async def test_a_certificate_is_believed_by_the_site_alone_that_has_asked_for_it(house: House) -> None:
    rule = AdmissionSpec(client_certificate=ClientCertificateSpec())
    route = RouteSpec(path="/*", pool="shop", admission=rule)
    members = TlsSpec(clients="require", client_ca=str(house.folder / "members/ca.pem"))
    careless = SiteSpec(name="careless", host="careless.test", routes=(route,))
    careful = SiteSpec(name="members", host="members.test", routes=(route,), tls=members)
    house.world.edge.apply(house.world.snapshot(3, careless, careful))
    house.store.apply(policies(house.world.edge.table))
    alice = member(house.members, "alice")
    allowed = await house.ask_securely("members.test", get(b"/a", host=b"members.test"), alice)
    assert allowed.status == 200
    refused = await house.ask_securely("members.test", get(b"/a", host=b"careless.test"), alice)
    assert refused.status == 403


@pytest.mark.parametrize(
    ("host", "place"),
    [(b"moved.test", "https://moved.test/a?b=c"), (b"Moved.test:8080", "https://moved.test/a?b=c")],
)
async def test_a_site_may_send_everybody_to_https(house: House, host: bytes, place: str) -> None:
    response = await house.ask(get(b"/a?b=c", host=host, method=b"POST"))
    assert (response.status, response.field("location")) == (308, place)
    assert house.world.origin.asked == []
    assert (await house.ask_securely("moved.test", get(b"/a", host=b"moved.test"))).status == 200


async def test_a_port_of_its_own_is_named(house: House) -> None:
    site = SiteSpec(name="odd", host="odd.test", routes=ROUTES, tls=TlsSpec(redirect_port=8443))
    house.world.edge.apply(house.world.snapshot(3, site))
    assert (await house.ask(get(b"/", host=b"odd.test"))).field("location") == "https://odd.test:8443/"


async def test_a_verified_client_is_named_to_the_origin_and_a_false_name_is_dropped(house: House) -> None:
    alice = member(house.members, "alice")
    request = get(b"/x", b"Client-Cert: :Zm9yZ2Vk:", host=b"members.test")
    assert (await house.ask_securely("members.test", request, alice)).status == 200
    (asked,) = house.world.origin.asked
    der = base64.b64decode(asked.fields[b"client-cert"].strip(b":"))
    assert b"alice" in der
    assert (await house.ask(get(b"/y", b"Client-Cert: :Zm9yZ2Vk:"))).status == 200
    assert b"client-cert" not in house.world.origin.asked[-1].fields


@pytest.mark.parametrize("opened", ["shop.test", "others.test", "localhost"])
async def test_a_connection_opened_to_another_name_is_not_good_enough(house: House, opened: str) -> None:
    """Also one with a certificate: it was held to the other site's authorities."""
    certificate = member(house.others, "mallory") if opened == "others.test" else b""
    response = await house.ask_securely(opened, get(b"/x", host=b"members.test"), certificate)
    assert response.status == 421
    assert house.world.origin.asked == []


async def test_what_one_client_may_see_is_not_remembered_for_another(house: House) -> None:
    house.world.origin.answer = lambda asked: (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\nsecret"
    )
    request = get(b"/x", host=b"members.test")
    for _ in range(3):
        assert (
            await house.ask_securely("members.test", request, member(house.members, "alice"))
        ).body == b"secret"
    assert (await house.ask_securely("shop.test", request)).status == 421
    assert (await house.ask(request)).status == 421


@pytest.mark.parametrize(
    ("path", "hits"),
    [(b"/page", 0), (b"/kept", 3), (b"/fn/x", 0)],
    ids=["from the origin", "hits", "function"],
)
async def test_tls_says_where_http_3_is_spoken(house: House, path: bytes, hits: int) -> None:
    kept = b"max-age=60" if hits else b"no-store"
    house.world.origin.answer = lambda asked: page(b"x", kept)
    for _ in range(4):
        response = await house.ask_securely("shop.test", get(path))
        assert response.field("alt-svc") == 'h3=":4433"; ma=86400'
    assert house.world.edge.counters.hits == hits
    assert (await house.ask(get(path))).field("alt-svc") == ""


async def test_sites_that_want_otherwise_do_not_say_it(house: House) -> None:
    alice = member(house.members, "alice")
    assert (await house.ask_securely("members.test", get(b"/", host=b"members.test"), alice)).field(
        "alt-svc"
    ) == ""
    quiet = SiteSpec(name="quiet", host="quiet.test", routes=ROUTES, tls=TlsSpec(http3=False))
    house.world.edge.apply(house.world.snapshot(3, quiet))
    house.store.apply(policies(house.world.edge.table))
    assert (await house.ask_securely("quiet.test", get(b"/", host=b"quiet.test"))).field("alt-svc") == ""
    assert (await house.ask_securely("shop.test", get(b"/"))).field("alt-svc") != ""


async def test_usual_sites_need_no_look_into_the_hello(house: House) -> None:
    house.world.edge.apply(house.world.snapshot(3))
    assert policies(house.world.edge.table) is None
    strict = msgspec.structs.replace(
        house.world.snapshot(4).network.sites[0], tls=TlsSpec(minimum="1.3"), name="shop2", host="shop2.test"
    )
    house.world.edge.apply(house.world.snapshot(4, strict))
    policy = policies(house.world.edge.table)
    assert policy is not None
    assert policy("shop2.test").minimum == "1.3"
    assert policy("shop.test").usual
    assert policy("nobody.test").usual
