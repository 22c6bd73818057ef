"""The shop's answers, asked in process."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from atoll.lab.shop.catalogue import BY_ID, PRODUCTS
from atoll.lab.shop.database import Database, Item
from atoll.lab.shop.pages import Place
from atoll.lab.shop.shop import CACHE, Shop

NOW_S = 1_800_000_000.0


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(tmp_path: Path, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(tmp_path / "shop.sqlite")
    shop = Shop(Place("asia-origin.example.com", "AS", "Tokyo"), database, clock)
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example.com") as opened:
        yield opened
    database.close()


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("/", "text/html; charset=utf-8", CACHE["page"]),
        ("/?category=light", "text/html; charset=utf-8", CACHE["page"]),
        ("/products/tide-clock", "text/html; charset=utf-8", CACHE["page"]),
        ("/cart", "text/html; charset=utf-8", CACHE["cart"]),
        ("/assets/shop.css", "text/css; charset=utf-8", CACHE["asset"]),
        ("/assets/shop.js", "text/javascript; charset=utf-8", CACHE["asset"]),
        ("/images/rope-set.png", "image/png", CACHE["image"]),
        ("/api/products", "application/json", CACHE["list"]),
        ("/api/products/rope-set", "application/json", CACHE["product"]),
        ("/health", "application/json", "no-store"),
        ("/api/slow?ms=0", "application/json", "no-store"),
    ],
)
async def test_each_kind_of_answer_has_its_caching(
    client: httpx.AsyncClient, path: str, kind: str, cache: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == cache
    assert answer.headers["x-origin-region"] == "AS"
    assert int(answer.headers["content-length"]) == len(answer.content) > 0


async def test_pages_say_who_made_them_and_when(client: httpx.AsyncClient, clock: Clock) -> None:
    first = (await client.get("/")).text
    clock.now_s += 61
    second = (await client.get("/")).text
    assert "AS · Tokyo" in first
    assert "08:00:00 UTC" in first
    assert "08:01:01 UTC" in second


async def test_everything_a_page_refers_to_is_there(client: httpx.AsyncClient) -> None:
    seen = {"/"}
    waiting = ["/"]
    while waiting:
        answer = await client.get(waiting.pop())
        assert answer.status_code == 200, answer.url
        if answer.headers["content-type"].startswith("text/html"):
            found = set(re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)) - seen
            seen |= found
            waiting += found
    assert sum(path.startswith("/images/") for path in seen) == len(PRODUCTS)


@pytest.mark.parametrize("path", ["/", "/products/sea-chart", "/images/sea-chart.png", "/api/products"])
async def test_what_the_client_has_is_not_sent_again(
    client: httpx.AsyncClient, clock: Clock, path: str
) -> None:
    full = await client.get(path)
    clock.now_s += 1000
    tagged = await client.get(path, headers={"if-none-match": full.headers["etag"]})
    dated = await client.get(path, headers={"if-modified-since": full.headers["last-modified"]})
    assert (tagged.status_code, dated.status_code) == (304, 304)
    assert tagged.content == b""
    assert tagged.headers["etag"] == full.headers["etag"]
    assert tagged.headers["cache-control"] == full.headers["cache-control"]


async def test_an_order_changes_what_the_product_is_tagged_with(client: httpx.AsyncClient) -> None:
    before = await client.get("/products/sea-chart")
    order = await client.post("/api/orders", json={"items": [{"product": "sea-chart", "quantity": 3}]})
    after = await client.get("/products/sea-chart", headers={"if-none-match": before.headers["etag"]})
    assert order.status_code == 201
    assert order.headers["cache-control"] == "private, no-store"
    assert order.json()["total"] == 3 * BY_ID["sea-chart"].price
    assert after.status_code == 200
    assert f"{BY_ID['sea-chart'].stock - 3} in stock" in after.text


async def test_an_order_can_be_read_again(client: httpx.AsyncClient) -> None:
    items = [{"product": "rope-set", "quantity": 1}, {"product": "sea-chart", "quantity": 2}]
    order = await client.post("/api/orders", json={"items": items})
    again = await client.get(order.headers["location"])
    assert again.json() == order.json()
    assert again.json()["items"] == items


async def test_an_order_is_taken_whole_or_not_at_all(client: httpx.AsyncClient) -> None:
    many = [{"product": "rope-set"}, *({"product": "folding-kayak", "quantity": 20} for _ in range(2))]
    refused = await client.post("/api/orders", json={"items": many})
    assert refused.status_code == 409
    assert refused.json() == {
        "error": "only 0 of folding-kayak left",
        "hint": "order fewer",
        "where": "items[2]",
    }
    stock = {each["id"]: each["stock"] for each in (await client.get("/api/products")).json()["products"]}
    assert stock["rope-set"] == BY_ID["rope-set"].stock
    assert stock["folding-kayak"] == BY_ID["folding-kayak"].stock


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{}", "text/plain", 415, "JSON"),
        (b"{", "application/json", 400, "not JSON"),
        (b"{}", "application/json", 422, "items"),
        (b'{"items": []}', "application/json", 422, "an order of 0 items"),
        (b'{"items": [{"product": "sea-chart", "quantity": 0}]}', "application/json", 422, "0 pieces"),
        (b'{"items": [{"product": "sea-chart", "quantity": 100}]}', "application/json", 422, "100 pieces"),
        (b'{"items": [{"product": "sea-chart", "quantity": 1.5}]}', "application/json", 422, "int"),
        (b'{"items": [{"product": "unicorn"}]}', "application/json", 422, "no product named"),
        (b'{"items": [{"product": "sea-chart", "price": 0}]}', "application/json", 422, "price"),
        (b'{"items": "' + b"x" * 70_000 + b'"}', "application/json", 413, "too large"),
    ],
)
async def test_bad_orders_are_refused_with_a_reason(
    client: httpx.AsyncClient, body: bytes, kind: str, status: int, words: str
) -> None:
    answer = await client.post("/api/orders", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/products/unicorn", 404),
        ("GET", "/images/unicorn.png", 404),
        ("GET", "/assets/../shop.py", 404),
        ("GET", "/?category=unicorns", 404),
        ("GET", "/api/unicorns", 404),
        ("GET", "/api/products/unicorn", 404),
        ("GET", "/api/orders/unicorn", 404),
        ("DELETE", "/api/products", 405),
        ("POST", "/", 405),
        ("GET", "/api/slow?ms=soon", 400),
        ("GET", "/api/slow?ms=-1", 400),
        ("GET", "/api/slow?ms=60001", 400),
        ("GET", "/api/slow?ms=%D9%A1", 400),
    ],
)
async def test_what_is_not_there_or_not_understood(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    if path.startswith("/api/"):
        assert answer.json()["error"]


async def test_methods_are_told(client: httpx.AsyncClient) -> None:
    refused = await client.delete("/api/products")
    asked = await client.options("/api/orders")
    head = await client.head("/")
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (asked.status_code, asked.headers["allow"]) == (204, "POST")
    assert head.content == b""
    assert int(head.headers["content-length"]) > 0


async def test_slow_answers_take_their_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    monkeypatch.setattr("atoll.lab.shop.shop.asyncio.sleep", sleep)
    answer = await client.get("/api/slow?ms=250")
    assert answer.json() == {"waited_ms": 250}
    assert waits == [0.25]


async def test_products_can_be_searched(client: httpx.AsyncClient) -> None:
    found = (await client.get("/api/products?q=MOON&category=navigation")).json()["products"]
    assert [each["id"] for each in found] == ["tide-clock"]
    assert (await client.get("/api/products?q=moon&category=table")).json()["products"] == []


async def test_without_its_database_an_origin_is_not_healthy(tmp_path: Path, clock: Clock) -> None:
    database = Database(tmp_path / "shop.sqlite")
    shop = Shop(Place("us-origin.example.com", "NA", "Ashburn"), database, clock)
    database.close()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://x") as client:
        answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["error"] == "the database does not answer"


def test_a_database_keeps_its_stock_when_it_is_opened_again(tmp_path: Path) -> None:
    first = Database(tmp_path / "shop.sqlite")
    first.take_order([Item("tide-clock", 5)], NOW_S)
    first.close()
    second = Database(tmp_path / "shop.sqlite")
    found = second.product("tide-clock")
    second.close()
    assert found is not None
    assert (found.stock, found.updated_s) == (BY_ID["tide-clock"].stock - 5, NOW_S)
