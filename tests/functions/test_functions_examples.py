"""The two examples on real workerd: what the origins are asked, what the user gets."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from function_hosts import EXAMPLES, Bench, Message, Reply, ask

pytestmark = pytest.mark.real

TOKYO = {"colo": "nrt", "country": "JP", "continent": "AS", "city": "Tokyo"}


def cf(**fields: str) -> dict[str, str]:
    return {"CF-Blob": json.dumps({**TOKYO, **fields})}


def page(request: Message) -> Reply:
    return 200, {"content-type": "text/html; charset=utf-8"}, f"page of {request.url}".encode()


def only_us(request: Message) -> Reply:
    """Every origin but the American one fails its health check."""
    healthy = urlsplit(request.url).hostname == "us-origin.example.com"
    return page(request) if healthy or urlsplit(request.url).path != "/health" else (503, {}, b"")


async def test_smart_routing_asks_the_origin_of_the_users_continent(bench: Bench) -> None:
    bench.bindings.origin = page
    host = await bench.run(EXAMPLES / "smart-routing")
    answer = await ask(host.plan.socket, "/shoes?size=42", cf())
    assert answer is not None
    assert answer.status == 200
    assert answer.headers["x-cache"] == "MISS"
    assert answer.headers["x-origin"] == "https://asia-origin.example.com"
    (health,) = bench.bindings.asked("/health")
    assert health.url == "https://asia-origin.example.com/health"
    assert health.headers["atoll-timeout-ms"] == "2000"
    assert "atoll-backend" not in health.headers
    (fetched,) = bench.bindings.asked("/shoes")
    assert fetched.headers["atoll-backend"] == "https://asia-origin.example.com"
    assert fetched.headers["atoll-timeout-ms"] == "10000"
    assert fetched.headers["x-edge-location"] == "nrt"
    assert fetched.headers["atoll-function"].startswith("default/smart-routing/")
    assert fetched.url == "http://www.example.com/shoes?size=42"


async def test_smart_routing_misses_then_hits(bench: Bench) -> None:
    bench.bindings.origin = page
    host = await bench.run(EXAMPLES / "smart-routing")
    first = await ask(host.plan.socket, "/", cf())
    await asyncio.wait_for(bench.bindings.stored.wait(), 5)
    second = await ask(host.plan.socket, "/", cf())
    assert first is not None
    assert second is not None
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert second.body == first.body
    assert second.headers["cache-control"] == "public, max-age=60"
    assert len(bench.bindings.asked("/")) == 1


@pytest.mark.parametrize(
    ("continent", "origin"),
    [
        ("NA", "https://us-origin.example.com"),
        ("EU", "https://eu-origin.example.com"),
        ("AS", "https://asia-origin.example.com"),
        ("SA", "https://us-origin.example.com"),
    ],
)
async def test_smart_routing_reads_request_cf(bench: Bench, continent: str, origin: str) -> None:
    bench.bindings.origin = page
    host = await bench.run(EXAMPLES / "smart-routing")
    answer = await ask(host.plan.socket, "/", cf(continent=continent))
    assert answer is not None
    assert answer.headers["x-origin"] == origin


async def test_smart_routing_fails_over_to_the_primary_origin(bench: Bench) -> None:
    bench.bindings.origin = only_us
    host = await bench.run(EXAMPLES / "smart-routing")
    answer = await ask(host.plan.socket, "/", cf(continent="OC"))
    assert answer is not None
    assert answer.headers["x-origin"] == "https://us-origin.example.com"


async def test_ab_test_keeps_a_user_in_their_variant(bench: Bench) -> None:
    bench.bindings.origin = page
    host = await bench.run(EXAMPLES / "ab-test")
    for variant, backend in (("A", "version-a.example.com"), ("B", "version-b.example.com")):
        cookie = {"Cookie": f"a=1; experiment_variant={variant}"}
        answer = await ask(host.plan.socket, f"/cart-{variant}", cookie, host="ab.example.com")
        assert answer is not None
        assert answer.headers["x-experiment-variant"] == variant
        assert f"experiment_variant={variant}; Path=/" in answer.headers["set-cookie"]
        (fetched,) = bench.bindings.asked(f"/cart-{variant}")
        assert urlsplit(fetched.url).hostname == backend


async def test_ab_test_gives_new_users_both_variants(bench: Bench) -> None:
    bench.bindings.origin = page
    host = await bench.run(EXAMPLES / "ab-test")
    answers = [await ask(host.plan.socket, "/", host="ab.example.com") for _ in range(40)]
    assert {answer.headers["x-experiment-variant"] for answer in answers if answer} == {"A", "B"}
