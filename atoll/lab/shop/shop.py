"""The shop: pages, a JSON API and pictures, each kind with the caching that fits it.

Pages are weakly tagged by what they show, without the time they were made at: a cache that revalidates keeps
the page it has. Orders and everything about them are nobody else's business and are never stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import RemoteError
from atoll.http.fields import combined
from atoll.lab.shop import pages
from atoll.lab.shop.catalogue import CATALOGUE_DATE_S, CATEGORIES, PRODUCTS
from atoll.lab.shop.database import Database, Item, Listing, Order
from atoll.lab.shop.images import draw
from atoll.lab.shop.pages import Layout, Place
from atoll.lab.shop.web import (
    HTML,
    JSON,
    NO_STORE,
    Request,
    Response,
    Routes,
    WebApp,
    digest,
    whole_number,
)

# What may be kept, where and for how long, by kind of answer.
CACHE: Final = {
    "page": "public, max-age=30, stale-while-revalidate=60, stale-if-error=86400",
    "cart": "public, max-age=300",
    "asset": "public, max-age=31536000, immutable",
    "image": "public, max-age=86400",
    "list": "public, max-age=30, stale-while-revalidate=30",
    "product": "public, max-age=10, must-revalidate",
    "private": "private, no-store",
}
MAX_ITEMS: Final = 50
MAX_QUANTITY: Final = 99
SLOWEST_MS: Final = 60_000
_STATIC: Final = Path(__file__).parent / "static"
_ASSETS: Final = {"shop.css": "text/css; charset=utf-8", "shop.js": "text/javascript; charset=utf-8"}


class OrderForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /api/orders` takes."""

    items: list[Item]


class Shop:
    """One origin's shop; `app` is the ASGI application. `clock` gives seconds since the epoch."""

    def __init__(self, place: Place, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._assets = {name: (_STATIC / name).read_bytes() for name in _ASSETS}
        self._images = {f"{product.id}.png": draw(product) for product in PRODUCTS}
        style, script = (f"/assets/{name}?v={digest(body)}" for name, body in self._assets.items())
        self._layout = Layout(place, style, script)
        common = [(b"x-origin-region", place.region.encode()), (b"server", b"island-supply")]
        self.app = WebApp(self._routes(), common, self._missing)

    def _routes(self) -> Routes:
        return {
            ("GET", "/"): self._index,
            ("GET", "/products/*"): self._product,
            ("GET", "/cart"): self._cart,
            ("GET", "/assets/*"): self._asset,
            ("GET", "/images/*"): self._image,
            ("GET", "/health"): self._health,
            ("GET", "/api/products"): self._api_products,
            ("GET", "/api/products/*"): self._api_product,
            ("GET", "/api/orders/*"): self._api_order,
            ("POST", "/api/orders"): self._api_take_order,
            ("GET", "/api/slow"): self._slow,
        }

    # --- pages

    async def _index(self, request: Request) -> Response:
        category = request.query.get("category", "")
        if category and category not in CATEGORIES:
            return self._missing(request)
        products = self._database.products(category)
        return self._page(pages.index(self._layout, products, category, self._clock()), products)

    async def _product(self, request: Request) -> Response:
        found = self._database.product(request.argument)
        if found is None:
            return self._missing(request)
        return self._page(pages.product(self._layout, found, self._clock()), [found])

    async def _cart(self, _request: Request) -> Response:
        page = pages.cart(self._layout, self._clock())
        return msgspec.structs.replace(self._page(page, []), cache=CACHE["cart"])

    def _page(self, body: bytes, shown: list[Listing]) -> Response:
        tag = digest(repr(self._layout).encode(), msgspec.json.encode(shown))
        return Response(body=body, kind=HTML, cache=CACHE["page"], tag=tag, modified_s=_newest_s(shown))

    def _missing(self, request: Request) -> Response:
        if request.path.startswith("/api/"):
            raise RemoteError("nothing is here", 404, "see /api/products", request.path)
        page = pages.missing(self._layout, request.path, self._clock())
        return Response(body=page, kind=HTML, status=404, cache="public, max-age=10")

    # --- things that never change

    async def _asset(self, request: Request) -> Response:
        body = self._assets.get(request.argument)
        if body is None:
            return self._missing(request)
        kind = _ASSETS[request.argument]
        return Response(body=body, kind=kind, cache=CACHE["asset"], tag=digest(body))

    async def _image(self, request: Request) -> Response:
        body = self._images.get(request.argument)
        if body is None:
            return self._missing(request)
        return Response(
            body=body,
            kind="image/png",
            cache=CACHE["image"],
            tag=digest(body),
            modified_s=CATALOGUE_DATE_S,
        )

    # --- API

    async def _health(self, _request: Request) -> Response:
        self._database.check()
        place = self._layout.place
        return _json({"ok": True, "origin": place.host, "region": place.region}, NO_STORE)

    async def _api_products(self, request: Request) -> Response:
        products = self._database.products(request.query.get("category", ""), request.query.get("q", ""))
        tag = digest(msgspec.json.encode(products))
        return _json({"products": products}, CACHE["list"], tag, _newest_s(products))

    async def _api_product(self, request: Request) -> Response:
        found = self._database.product(request.argument)
        if found is None:
            raise RemoteError(f"no product named {request.argument!r}", 404, "see /api/products")
        return _json(found, CACHE["product"], digest(msgspec.json.encode(found)), found.updated_s)

    async def _api_order(self, request: Request) -> Response:
        found = self._database.order(request.argument)
        if found is None:
            raise RemoteError("no such order here", 404, "an order is kept by the origin that took it")
        return _json(found, CACHE["private"])

    async def _api_take_order(self, request: Request) -> Response:
        order: Order = self._database.take_order(_order_form(request).items, self._clock())
        location = ((b"location", f"/api/orders/{order.id}".encode()),)
        return msgspec.structs.replace(_json(order, CACHE["private"]), status=201, extra=location)

    async def _slow(self, request: Request) -> Response:
        wait_ms = whole_number(request.query.get("ms", "1000"), "ms", 0, SLOWEST_MS)
        await asyncio.sleep(wait_ms / 1000)
        return _json({"waited_ms": wait_ms}, NO_STORE)


def _json(value: object, cache: str, tag: str = "", modified_s: float = 0.0) -> Response:
    return Response(body=msgspec.json.encode(value), kind=JSON, cache=cache, tag=tag, modified_s=modified_s)


def _newest_s(products: list[Listing]) -> float:
    return max((product.updated_s for product in products), default=CATALOGUE_DATE_S)


def _order_form(request: Request) -> OrderForm:
    """The order in a request's body.

    Raises:
        RemoteError: it is no JSON (415, 400) or not an order (422); says which field is wrong.
    """
    kind = combined(request.headers, b"content-type") or b""
    if kind.split(b";")[0].strip().lower() != b"application/json":
        raise RemoteError("an order is JSON", 415, "send Content-Type: application/json")
    try:
        form = msgspec.json.decode(request.body, type=OrderForm)
    except msgspec.ValidationError as error:
        raise RemoteError(
            str(error), 422, 'e.g. {"items": [{"product": "sea-chart", "quantity": 1}]}'
        ) from error
    except msgspec.DecodeError as error:
        raise RemoteError(f"not JSON: {error}", 400) from error
    if not 1 <= len(form.items) <= MAX_ITEMS:
        raise RemoteError(f"an order of {len(form.items)} items", 422, f"1 to {MAX_ITEMS}", "items")
    for number, item in enumerate(form.items):
        if not 1 <= item.quantity <= MAX_QUANTITY:
            raise RemoteError(
                f"{item.quantity} pieces", 422, f"1 to {MAX_QUANTITY}", f"items[{number}].quantity"
            )
    return form
