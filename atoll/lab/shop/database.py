"""The shop's database: products with their stock, and orders. SQLite, one file an origin.

An order and the stock it takes are one transaction: either all of it is in stock or nothing changes.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import RemoteError
from atoll.lab.shop.catalogue import CATALOGUE_DATE_S, PRODUCTS

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS products (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, words TEXT NOT NULL,
    price INTEGER NOT NULL, stock INTEGER NOT NULL CHECK (stock >= 0), updated_s REAL NOT NULL,
    position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, created_s REAL NOT NULL, total INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    order_id TEXT NOT NULL REFERENCES orders, product TEXT NOT NULL REFERENCES products,
    quantity INTEGER NOT NULL, price INTEGER NOT NULL);
"""
_COLUMNS: Final = "id, name, category, words, price, stock, updated_s"


class Listing(msgspec.Struct, frozen=True):
    """A product as the API shows it. `price` is in cents."""

    id: str
    name: str
    category: str
    words: str
    price: int
    stock: int
    updated_s: float


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many of a product."""

    product: str
    quantity: int = 1


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was taken. `total` is in cents."""

    id: str
    created_s: float
    total: int
    items: tuple[Item, ...]


class Database:
    """An open database; the catalogue is in it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(_SCHEMA)
        self._connection.executemany(
            "INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (p.id, p.name, p.category, p.words, p.price, p.stock, CATALOGUE_DATE_S, position)
                for position, p in enumerate(PRODUCTS)
            ],
        )

    def close(self) -> None:
        """No more questions."""
        self._connection.close()

    def check(self) -> None:
        """Ask for something small: an origin without its database is not healthy.

        Raises:
            sqlite3.Error: it does not answer.
        """
        self._connection.execute("SELECT 1 FROM products LIMIT 1").fetchone()

    def products(self, category: str = "", words: str = "") -> list[Listing]:
        """Products of a category whose name or description has `words`; everything by default."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM products WHERE (?1 = '' OR category = ?1)"  # noqa: S608 - a constant
            " AND (?2 = '' OR instr(lower(name || ' ' || words), lower(?2)) > 0) ORDER BY position",
            (category, words),
        )
        return [Listing(*row) for row in rows]

    def product(self, product_id: str) -> Listing | None:
        """One product."""
        query = f"SELECT {_COLUMNS} FROM products WHERE id = ?"  # noqa: S608 - a constant
        row = self._connection.execute(query, (product_id,)).fetchone()
        return Listing(*row) if row else None

    def order(self, order_id: str) -> Order | None:
        """An order that was taken."""
        row = self._connection.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        if row is None:
            return None
        query = "SELECT product, quantity FROM items WHERE order_id = ? ORDER BY rowid"
        items = tuple(Item(*item) for item in self._connection.execute(query, (order_id,)))
        return Order(id=row[0], created_s=row[1], total=row[2], items=items)

    def take_order(self, items: Sequence[Item], now_s: float) -> Order:
        """Take an order: all of it or nothing.

        Raises:
            RemoteError: a product does not exist (422) or there is not enough of it (409).
        """
        order_id = secrets.token_hex(8)
        with self._connection:  # commits, or rolls back on the way out of an exception
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO orders VALUES (?, ?, 0)", (order_id, now_s))
            total = sum(self._take(order_id, number, item, now_s) for number, item in enumerate(items))
            self._connection.execute("UPDATE orders SET total = ? WHERE id = ?", (total, order_id))
        return Order(id=order_id, created_s=now_s, total=total, items=tuple(items))

    def _take(self, order_id: str, number: int, item: Item, now_s: float) -> int:
        """Move one line of an order out of the stock; what it costs."""
        where = f"items[{number}]"
        found = self.product(item.product)
        if found is None:
            raise RemoteError(f"no product named {item.product!r}", 422, "see /api/products", where)
        if found.stock < item.quantity:
            raise RemoteError(f"only {found.stock} of {found.id} left", 409, "order fewer", where)
        self._connection.execute(
            "UPDATE products SET stock = stock - ?, updated_s = ? WHERE id = ?",
            (item.quantity, now_s, found.id),
        )
        self._connection.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?)", (order_id, found.id, item.quantity, found.price)
        )
        return found.price * item.quantity
