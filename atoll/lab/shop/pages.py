"""The shop's pages as HTML. Pure: a place, products and a time in, text out.

Every page says which origin made it and when, so that a copy from a cache can be told from a fresh one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import msgspec

from atoll.lab.shop.catalogue import CATEGORIES
from atoll.lab.shop.database import Listing


class Place(msgspec.Struct, frozen=True):
    """Where an origin stands. `region` is a continent code, `X-Origin-Region`."""

    host: str
    region: str
    city: str


class Layout(msgspec.Struct, frozen=True):
    """What all pages share: the place, and the addresses of style and script (they name a version)."""

    place: Place
    style: str
    script: str

    def page(self, title: str, body: str, now_s: float, here: str = "") -> bytes:
        """A whole page."""
        made = datetime.fromtimestamp(now_s, UTC).strftime("%H:%M:%S")
        origin = f"{self.place.region} · {escape(self.place.city)}"
        return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Island Supply</title>
<link rel="stylesheet" href="{self.style}"><link rel="icon" href="data:,">
<script type="module" src="{self.script}"></script></head>
<body>
<div class="where"><div class="wrap">
<span><i class="dot {self.place.region}"></i>Origin <b>{origin}</b></span>
<span>Page made at <b>{made} UTC</b></span><span id="edge"></span></div></div>
<header class="top"><div class="wrap"><a class="brand" href="/">Island<i>·</i>Supply</a>
<nav>{_navigation(here)}</nav><nav class="cart"><a href="/cart">Cart <span id="count"></span></a></nav>
</div></header>
{body}
<footer><div class="wrap">A small shop with three origins, so that there is something to serve.
The <a href="/api/products">API</a> lists what it sells.</div></footer>
</body></html>
""".encode()


def _navigation(here: str) -> str:
    links = [
        f'<a href="/?category={name}"{" class=here" if name == here else ""}>{name.title()}</a>'
        for name in CATEGORIES
    ]
    return "".join(links)


def money(cents: int) -> str:
    """`64.00`."""
    return f"{cents // 100}.{cents % 100:02d}"


def index(layout: Layout, products: Sequence[Listing], category: str, now_s: float) -> bytes:
    """All products, or those of a category."""
    title = category.title() if category else "Things for islands"
    words = "Twelve things that are good to have when the next shop is a boat trip away."
    cards = "".join(_card(product) for product in products)
    body = f"""<section class="hero"><div class="wrap"><h1>{escape(title)}</h1><p>{words}</p></div></section>
<main class="wrap grid">{cards}</main>"""
    return layout.page(title, body, now_s, category)


def _card(product: Listing) -> str:
    return (
        f'<a class="card" href="/products/{product.id}">'
        f'<img src="/images/{product.id}.png" alt="" width="480" height="360" loading="lazy">'
        f"<div><strong>{money(product.price)}</strong><h2>{escape(product.name)}</h2>"
        f"<span>{escape(product.category)}</span></div></a>"
    )


def product(layout: Layout, item: Listing, now_s: float) -> bytes:
    """One product."""
    body = f"""<main class="wrap product">
<div class="picture">
<img src="/images/{item.id}.png" alt="{escape(item.name)}" width="480" height="360"></div>
<div><span class="soft">{escape(item.category.title())}</span><h1>{escape(item.name)}</h1>
<p>{escape(item.words)}</p><p class="price">{money(item.price)}</p>
<span class="soft">{item.stock} in stock in {escape(layout.place.city)}</span><br>
<button data-product="{item.id}"{"" if item.stock else " disabled"}>Add to cart</button></div></main>"""
    return layout.page(item.name, body, now_s, item.category)


def cart(layout: Layout, now_s: float) -> bytes:
    """The cart: the same page for everybody, filled in by the browser."""
    body = """<main class="wrap plain"><h1>Your cart</h1>
<table><thead><tr><th>Product</th><th>Pieces</th><th>Price</th></tr></thead><tbody id="lines"></tbody>
<tfoot><tr><th>Total</th><th></th><th id="total">0.00</th></tr></tfoot></table>
<p id="said" class="note" hidden></p><button id="order" disabled>Order</button></main>"""
    return layout.page("Cart", body, now_s)


def missing(layout: Layout, path: str, now_s: float) -> bytes:
    """Nothing is there."""
    body = f"""<main class="wrap plain"><h1>Nothing on this island</h1>
<p><code>{escape(path)}</code> leads nowhere. <a href="/">Back to the shop</a></p></main>"""
    return layout.page("Not found", body, now_s)
