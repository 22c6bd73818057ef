"""A route's rules in a whole edge worker: what is refused, what passes, and what the hot table may repeat."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import jwt
import mmdb_file
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from edge_world import Asked, Response, Server, World, get, page, post, read_response, reset, until, world
from http2_client import Client

from atoll.config.admission import (
    AccessSpec,
    AdmissionSpec,
    ChallengeSpec,
    ClientCertificateSpec,
    CorsSpec,
    RateLimitSpec,
    SecurityHeadersSpec,
    SignedUrlSpec,
    SigningKeySpec,
    TokenKeySpec,
    TokenSpec,
)
from atoll.config.geo import GeoDatabaseSpec
from atoll.config.spec import RouteSpec
from atoll.edge.admission.challenge import worked
from atoll.edge.admission.signed_url import sign
from atoll.edge.geo_database import GeoDatabase
from atoll.edge.hot import HotTable
from atoll.errors import AtollError

__all__ = ["world"]
SECRET = "s" * 32


def serve(world: World, spec: AdmissionSpec, *more: RouteSpec, cache: bool = True) -> None:
    """Put `spec` before everything but functions."""
    world.edge.apply(
        world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", admission=spec, cache=cache), *more))
    )


def hot_keys(table: HotTable) -> int:
    """How many requests are answered by their bytes alone."""
    return len(table)


async def log_of(world: World) -> list[dict[str, object]]:
    world.log.flush()
    return [json.loads(line) for line in (world.folder / "access.log").read_text().splitlines()]


async def test_a_refusal_is_small_clear_logged_and_counted(world: World) -> None:
    serve(world, AdmissionSpec(access=AccessSpec(deny=("127.0.0.2/32",))))
    assert (await world.ask(get(b"/a"))).status == 200
    refused = await world.ask(get(b"/a"), "127.0.0.2")
    assert refused.status == 403
    assert refused.body == b"403 Forbidden: Requests from this address are not accepted here.\n"
    assert refused.field("cache-status") == 'atoll-nrt; detail="refused by access"'
    assert refused.field("cache-control") == "no-store"
    html = await world.ask(get(b"/a", b"Accept: text/html,*/*"), "127.0.0.2")
    assert html.body.startswith(b"<!doctype html>")
    head = await world.ask(get(b"/a", method=b"HEAD"), "127.0.0.2")
    assert (head.status, head.body) == (403, b"")
    assert world.edge.stats(0).refused == {"shop.test/* access": 3}
    lines = [line for line in await log_of(world) if line.get("trouble") or line.get("status") == 403]
    assert len(lines) == 3
    assert "refused by access" in json.dumps(lines[0])


async def test_identical_bytes_from_another_address_are_asked_anew(world: World) -> None:
    """Whoever warms the hot table must not open the door for others."""
    serve(world, AdmissionSpec(access=AccessSpec(allow=("127.0.0.1/32",), otherwise="deny")))
    world.origin.answer = lambda asked: page(b"members", b"max-age=60")
    for _ in range(3):
        assert (await world.ask(get(b"/a"))).body == b"members"
    assert len(world.origin.asked) == 1
    assert (await world.ask(get(b"/a"), "127.0.0.2")).status == 403
    assert hot_keys(world.app.table) == 0


async def test_routes_without_rules_are_served_hot_as_ever(world: World) -> None:
    serve(
        world,
        AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1),)),
        RouteSpec(path="/free/*", pool="shop"),
    )
    world.origin.answer = lambda asked: page(b"free", b"max-age=60")
    for _ in range(3):
        assert (await world.ask(get(b"/free/a"))).status == 200
    assert hot_keys(world.app.table) == 1


@pytest.mark.parametrize(
    "path", [b"/%61dmin/x", b"//admin/x", b"/a/../admin/x", b"/a/..%2Fadmin/x", b"/admin;v=1/x"]
)
async def test_no_spelling_gets_around_a_routes_rules(world: World, path: bytes) -> None:
    members = AdmissionSpec(access=AccessSpec(otherwise="deny", allow=("192.0.2.0/24",)))
    routes = (RouteSpec(path="/*", pool="shop"), RouteSpec(path="/admin/*", pool="shop", admission=members))
    world.edge.apply(world.snapshot(2, routes=routes))
    assert (await world.ask(get(b"/admin/x"))).status == 403
    assert (await world.ask(get(path))).status == 400
    assert (await world.ask(get(b"/a%20b/c.d;e"))).status == 200
    assert [asked.target for asked in world.origin.asked] == [b"/a%20b/c.d;e"]


async def test_a_limit_holds_for_cached_responses_on_one_connection(world: World) -> None:
    serve(world, AdmissionSpec(limits=(RateLimitSpec(name="api", rate=3, per_s=600.0),)))
    world.origin.answer = lambda asked: page(b"x", b"max-age=60")
    reader, writer = await world.connect()
    answers: list[Response] = []
    for _ in range(5):
        writer.write(get(b"/a"))
        answers.append(await read_response(reader))
    writer.close()
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.field("ratelimit").partition(";t=")[0] for answer in answers] == [
        '"api";r=2',
        '"api";r=1',
        '"api";r=0',
        '"api";r=0',
        '"api";r=0',
    ]
    assert answers[0].field("ratelimit-policy") == '"api";q=3;w=600'
    assert 199 <= int(answers[4].field("retry-after")) <= 200
    assert (await world.ask(get(b"/a"), "127.0.0.2")).status == 200
    # What it has counted is not forgotten when something else changes.
    spec = AdmissionSpec(limits=(RateLimitSpec(name="api", rate=3, per_s=600.0),), methods=("GET",))
    serve(world, spec)
    assert (await world.ask(get(b"/a"))).status == 429


async def test_cors_fields_are_added_as_responses_leave(world: World) -> None:
    serve(world, AdmissionSpec(cors=CorsSpec(origins=("https://app.example", "https://b.example"))))
    world.origin.answer = lambda asked: page(
        b"data", b"max-age=60", b"Access-Control-Allow-Origin: https://origin.example"
    )
    asked = {
        b"https://app.example": "https://app.example",
        b"https://b.example": "https://b.example",
        b"https://evil.example": "",
    }
    for _ in range(3):  # fetched, from the store, from the hot table
        for origin, granted in asked.items():
            answer = await world.ask(get(b"/data", b"Origin: " + origin))
            assert answer.body == b"data"
            assert answer.field("access-control-allow-origin") == granted
            assert answer.field("vary") == "Origin"
        assert (await world.ask(get(b"/data"))).field("access-control-allow-origin") == ""
    assert len(world.origin.asked) == 1  # one stored response for all
    assert hot_keys(world.app.table) == 4
    preflight = await world.ask(
        get(
            b"/data",
            b"Origin: https://app.example",
            b"Access-Control-Request-Method: GET",
            method=b"OPTIONS",
        )
    )
    assert preflight.status == 204
    assert preflight.field("access-control-allow-origin") == "https://app.example"
    assert preflight.field("access-control-max-age") == "600"
    assert len(world.origin.asked) == 1
    assert world.edge.stats(0).refused == {}


async def test_security_fields_are_on_everything_but_keep_the_origins_own(world: World) -> None:
    strict = AdmissionSpec(security=SecurityHeadersSpec(preset="strict"))
    serve(world, strict, RouteSpec(path="/fn/*", function="fn", admission=strict))
    world.origin.answer = lambda asked: page(b"x", b"max-age=60", b"Content-Security-Policy: default-src x")
    world.function.answer = lambda asked: page(b"from a function")
    for path in (b"/a", b"/a", b"/a"):
        answer = await world.ask(get(path))
        assert answer.field("x-content-type-options") == "nosniff"
        assert answer.all("content-security-policy") == ["default-src x"]
        assert answer.field("strict-transport-security") == ""  # not on http
    assert hot_keys(world.app.table) == 1
    for _ in range(2):
        answer = await world.ask(get(b"/fn/a"))
        assert answer.body == b"from a function"
        assert answer.all("x-frame-options") == ["DENY"]
    world.origin.stop()
    failed = await world.ask(get(b"/b"))
    assert failed.status in (502, 503, 504)
    assert failed.field("x-frame-options") == "DENY"


async def test_methods_and_lengths(world: World) -> None:
    serve(world, AdmissionSpec(methods=("GET", "POST"), max_body=10), cache=False)
    gone = await world.ask(get(b"/a", method=b"DELETE"))
    assert (gone.status, gone.field("allow")) == (405, "GET, POST, HEAD")
    assert (await world.ask(post(b"/a", b"x" * 11))).status == 413
    assert world.origin.asked == []
    chunked = get(b"/a", b"Transfer-Encoding: chunked", method=b"POST")
    assert (await world.ask(chunked + b"6\r\n123456\r\n5\r\n12345\r\n0\r\n\r\n")).status == 413
    assert (await world.ask(chunked + b"5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n")).status == 200


async def test_a_function_gets_no_longer_bodies_either(world: World) -> None:
    serve(world, AdmissionSpec(), RouteSpec(path="/fn/*", function="fn", admission=AdmissionSpec(max_body=5)))
    chunked = get(b"/fn/a", b"Transfer-Encoding: chunked", method=b"POST")
    assert (await world.ask(chunked + b"6\r\n123456\r\n0\r\n\r\n")).status == 413


async def test_a_signed_url_is_cached_as_what_it_is_signed_for(world: World) -> None:
    key = SigningKeySpec(id="k", secret=SECRET)
    serve(world, AdmissionSpec(signed_url=SignedUrlSpec(keys=(key,))))
    world.origin.answer = lambda asked: page(asked.target, b"max-age=60")
    for expires_s in (2_000_000_000, 2_000_000_001):
        answer = await world.ask(get(sign("/v?a=1", key, expires_s).encode()))
        assert answer.body == b"/v?a=1"
    assert len(world.origin.asked) == 1
    assert (await world.ask(get(b"/v?a=1"))).status == 403
    assert (await world.ask(get(sign("/v?a=1", key, 1).encode()))).status == 403


async def test_a_token_opens_and_its_claims_reach_the_origin(world: World) -> None:
    token_spec = TokenSpec(
        keys=(TokenKeySpec(alg="HS256", secret=SECRET),), strip=True, forward={"sub": "X-User"}
    )
    serve(world, AdmissionSpec(token=token_spec), cache=False)
    shut = await world.ask(get(b"/a", b"X-User: root"))
    assert (shut.status, shut.field("www-authenticate")) == (401, "Bearer")
    token = jwt.encode({"exp": time.time() + 60, "sub": "ann"}, SECRET).encode()
    opened = await world.ask(get(b"/a", b"X-User: root", b"Authorization: Bearer " + token))
    assert opened.status == 200
    (asked,) = world.origin.asked
    assert asked.fields[b"x-user"] == b"ann"
    assert b"authorization" not in asked.fields


class Endpoint:
    """An issuer of tokens that publishes its keys."""

    def __init__(self) -> None:
        self.server = Server()
        self.keys: dict[str, ed25519.Ed25519PrivateKey] = {}
        self.server.answer = self.answer

    def answer(self, asked: Asked) -> bytes:
        algorithm = jwt.get_algorithm_by_name("EdDSA")
        listed = [
            {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid} for kid, key in self.keys.items()
        ]
        return page(json.dumps({"keys": listed}).encode(), b"max-age=300")

    def spec(self) -> AdmissionSpec:
        url = f"http://127.0.0.1:{self.server.port}/keys"
        return AdmissionSpec(token=TokenSpec(jwks_url=url, strip=True))

    def request(self, kid: str) -> bytes:
        key = self.keys.setdefault(kid, ed25519.Ed25519PrivateKey.generate())
        token = jwt.encode({"exp": time.time() + 60}, key, algorithm="EdDSA", headers={"kid": kid})
        return get(b"/a", b"Authorization: Bearer " + token.encode())


async def test_published_keys_are_fetched_once_kept_and_asked_for_when_unknown(world: World) -> None:
    endpoint = Endpoint()
    await endpoint.server.start()
    serve(world, endpoint.spec())
    endpoint.server.hold = asyncio.Event()
    one = endpoint.request("one")
    waiting = [asyncio.ensure_future(world.ask(one)) for _ in range(5)]
    await endpoint.server.until_asked()
    endpoint.server.hold.set()
    assert [(await answer).status for answer in waiting] == [200] * 5
    assert len(endpoint.server.asked) == 1
    other = endpoint.request("other")
    ring = next(iter(world.edge.gate._compiled.rules.values())).tokens[0].ring
    assert (await world.ask(other)).status == 401  # asked for a moment ago
    assert len(endpoint.server.asked) == 1
    ring.tried(0.0)
    assert (await world.ask(other)).status == 200
    assert len(endpoint.server.asked) == 2
    endpoint.server.stop()
    ring.tried(0.0)
    assert (await world.ask(endpoint.request("third"))).status == 401
    assert (await world.ask(one)).status == 200  # with what there is


async def test_without_any_keys_tokens_cannot_be_checked(world: World) -> None:
    endpoint = Endpoint()
    await endpoint.server.start()
    spec = endpoint.spec()
    endpoint.server.stop()
    serve(world, spec)
    answer = await world.ask(endpoint.request("one"))
    assert (answer.status, answer.field("retry-after")) == (503, "10")
    assert world.origin.asked == []


async def test_a_client_that_leaves_while_keys_are_fetched_asks_nothing(world: World) -> None:
    endpoint = Endpoint()
    await endpoint.server.start()
    serve(world, endpoint.spec())
    endpoint.server.hold = asyncio.Event()
    client = world.deaf_client()
    client.sendall(endpoint.request("one"))
    await endpoint.server.until_asked()
    reset(client)
    await until(lambda: not world.listener.connections)
    endpoint.server.hold.set()
    assert (await world.ask(endpoint.request("one"))).status == 200
    assert len(world.origin.asked) == 1
    endpoint.server.stop()


async def test_a_browser_works_its_way_in(world: World) -> None:
    serve(world, AdmissionSpec(challenge=ChallengeSpec(secret=SECRET, difficulty=6)))
    asked = await world.ask(get(b"/a"))
    assert asked.status == 403
    assert asked.field("content-security-policy").startswith("default-src 'none'; script-src 'sha256-")
    assert asked.field("content-type") == "text/html; charset=utf-8"
    found = re.search(rb'data-ticket="([^"]+)"', asked.body)
    assert found is not None
    shown = next(s for s in (b"%b.%d" % (found[1], n) for n in range(9999)) if worked(s, 6))
    opened = await world.ask(get(b"/a", b"Cookie: a=1; atoll-pass=" + shown))
    assert opened.status == 200
    assert world.origin.asked[0].fields[b"cookie"] == b"a=1"
    assert (await world.ask(get(b"/a", b"Cookie: atoll-pass=" + shown), "127.0.0.2")).status == 403


async def test_a_connection_without_a_certificate_is_refused(world: World) -> None:
    serve(world, AdmissionSpec(client_certificate=ClientCertificateSpec()))
    assert (await world.ask(get(b"/a"))).status == 403


async def test_rules_on_trial_are_counted_and_refuse_nobody(world: World) -> None:
    limit = RateLimitSpec(name="a", rate=1, per_s=600.0, dry_run=True)
    serve(world, AdmissionSpec(limits=(limit,), access=AccessSpec(deny=("127.0.0.1",), dry_run=True)))
    assert [(await world.ask(get(b"/a"))).status for _ in range(2)] == [200, 200]
    assert world.edge.stats(0).refused == {
        "shop.test/* access (dry run)": 2,
        "shop.test/* limit:a (dry run)": 1,
    }


async def test_a_snapshot_with_rules_that_make_no_sense_changes_nothing(world: World) -> None:
    with pytest.raises(AtollError):
        serve(world, AdmissionSpec(access=AccessSpec()))
    assert world.edge.snapshot.seq == 1
    assert (await world.ask(get(b"/a"))).status == 200


async def test_requests_over_http2_are_asked_too(world: World) -> None:
    serve(world, AdmissionSpec(limits=(RateLimitSpec(name="a", rate=2, per_s=600.0),)))
    world.origin.answer = lambda asked: page(b"x", b"max-age=60")
    client = Client(await world.connect())
    statuses = []
    for _ in range(4):
        stream = client.ask("/a")
        await client.complete(stream)
        statuses.append(client.heads[stream][":status"])
    client.writer.close()
    assert statuses == ["200", "200", "429", "429"]


# --- where clients are


def test_a_database_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    mmdb_file.write(path, {"192.0.2.0/24": {"country": {"iso_code": "DE"}, "continent": {"code": "EU"}}})
    asns = tmp_path / "asn.mmdb"
    mmdb_file.write(asns, {"192.0.2.0/25": {"autonomous_system_number": 64500}})
    database = GeoDatabase(GeoDatabaseSpec(country=str(path), asn=str(asns), reload_s=0.0))
    found = database.find("192.0.2.1")
    assert found is not None
    assert (found.country, found.continent, found.asn) == ("DE", "EU", 64500)
    assert database.find("198.51.100.1") is None
    assert database.find("no address") is None
    mmdb_file.write(
        path, {"192.0.2.0/24": {"country_code": "fr", "asn": "AS64501", "location": {"latitude": 1.5}}}
    )
    os.utime(path, ns=(1, 1))
    found = database.find("192.0.2.200")
    assert found is not None
    assert (found.country, found.asn, found.lat) == ("FR", 64501, 1.5)
    path.write_bytes(b"broken")
    assert database.find("192.0.2.200") == found  # what was opened stays
    database.close()


def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match="cannot be opened"):
        GeoDatabase(GeoDatabaseSpec(country=str(tmp_path / "none.mmdb")))


async def test_countries_come_from_the_database(world: World) -> None:
    path = world.folder / "country.mmdb"
    mmdb_file.write(path, {"127.0.0.2/32": {"country": {"iso_code": "DE"}}})
    routes = (
        RouteSpec(path="/*", pool="shop", admission=AdmissionSpec(access=AccessSpec(deny_countries=("DE",)))),
    )
    snapshot = world.snapshot(2, routes=routes)
    network = msgspec.structs.replace(snapshot.network, geo=GeoDatabaseSpec(country=str(path)))
    world.edge.apply(msgspec.structs.replace(snapshot, network=network))
    assert (await world.ask(get(b"/a"))).status == 200
    assert (await world.ask(get(b"/a"), "127.0.0.2")).status == 403
