"""Specs of admission and compression travel as other specs do, and keep their secrets to themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from networks import network, pop

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
from atoll.config.compression import TYPES, CompressionSpec
from atoll.config.geo import GeoDatabaseSpec
from atoll.config.spec import RouteSpec, SiteSpec, Snapshot
from atoll.edge.admission.decide import Rules
from atoll.http.negotiate import terms_of

SECRET = "never to be seen in a log, nor elsewhere, by anybody who looks"
FULL = AdmissionSpec(
    access=AccessSpec(allow=("192.0.2.0/24",), deny_asns=(64500,), deny_countries=("DE",), otherwise="deny"),
    limits=(RateLimitSpec(name="api", rate=10, per_s=60.0, burst=20, by=("address", "claim:sub")),),
    cors=CorsSpec(origins=("https://app.example",), credentials=True),
    methods=("GET", "POST"),
    max_body=1_000_000,
    challenge=ChallengeSpec(secret=SECRET),
    signed_url=SignedUrlSpec(keys=(SigningKeySpec(id="k", secret=SECRET),)),
    token=TokenSpec(keys=(TokenKeySpec(alg="HS256", secret=SECRET),), forward={"sub": "X-User"}),
    client_certificate=ClientCertificateSpec(fingerprints=("ab" * 32,)),
    security=SecurityHeadersSpec(preset="strict"),
)


def snapshot() -> Snapshot:
    """A network all of whose new values are used."""
    here = pop("lhr", 0)
    route = RouteSpec(path="/*", cache=False, admission=FULL, compression=CompressionSpec(min_bytes=100))
    site = SiteSpec(name="www", host="www.example.com", routes=(route,))
    spec = msgspec.structs.replace(network(here), sites=(site,), geo=GeoDatabaseSpec(asn="/var/lib/asn.mmdb"))
    return Snapshot(seq=1, pop=here, network=spec)


@pytest.mark.parametrize(
    ("encode", "decode"),
    [(msgspec.json.encode, msgspec.json.decode), (msgspec.msgpack.encode, msgspec.msgpack.decode)],
)
def test_a_snapshot_with_rules_arrives_as_it_was(
    encode: Callable[[object], bytes], decode: Callable[..., Any]
) -> None:
    assert decode(encode(snapshot()), type=Snapshot) == snapshot()


def test_secrets_are_not_printed() -> None:
    assert SECRET not in repr(snapshot())
    assert SECRET not in str(FULL)


def test_every_rule_of_the_full_spec_is_compiled() -> None:
    site = snapshot().network.sites[0]
    names = [rule.name for rule in Rules(site, site.routes[0], FULL, {}, {}).rules]
    assert names == [
        "access",
        "cors",
        "methods",
        "body",
        "challenge",
        "signed-url",
        "token",
        "client-certificate",
        "limit:api",
    ]


def test_an_empty_spec_asks_nothing() -> None:
    route = RouteSpec(admission=AdmissionSpec())
    rules = Rules(
        SiteSpec(name="www", host="www.example.com", routes=(route,)), route, AdmissionSpec(), {}, {}
    )
    assert rules.rules == []
    assert rules.repeatable


def test_every_type_that_is_compressed_by_default_is_a_media_type() -> None:
    terms = terms_of(CompressionSpec())
    assert all(terms.compressible(kind.replace("*", "x").encode()) for kind in TYPES)
