"""Pictures without a library: shapes painted in rows of palette numbers, written as PNG (RFC 2083). Pure.

A row is a `bytearray`, so painting a shape is one slice a row. The palette holds the sky's gradient first,
then one colour for each that the shapes use. Pictures are drawn large and shown half that size, which is
what smooths their edges.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from atoll.lab.shop.catalogue import Colour, Disk, Polygon, Product, Shape

WIDTH: Final = 960
HEIGHT: Final = 720
_SKY_STEPS: Final = 160  # palette entries for the gradient; the rest are for shapes

Span = tuple[int, int, int]  # row, first column, column after the last


def draw(product: Product) -> bytes:
    """The picture of a product, PNG."""
    palette = _gradient(*product.sky)
    rows = [bytearray(bytes([y * _SKY_STEPS // HEIGHT]) * WIDTH) for y in range(HEIGHT)]
    for shape in product.shapes:
        if shape.colour not in palette[_SKY_STEPS:]:
            palette.append(shape.colour)
        number = palette.index(shape.colour, _SKY_STEPS)
        for row, left, right in spans(shape):
            rows[row][left:right] = bytes([number]) * (right - left)
    return encode_png(rows, palette)


def spans(shape: Shape) -> Iterator[Span]:
    """The pieces of rows that a shape covers, inside the picture."""
    found = _disk_spans(shape) if isinstance(shape, Disk) else _polygon_spans(shape)
    for row, left, right in found:
        clipped = max(left, 0), min(right, WIDTH)
        if 0 <= row < HEIGHT and clipped[0] < clipped[1]:
            yield row, *clipped


def _disk_spans(disk: Disk) -> Iterator[Span]:
    for row in range(int(disk.y - disk.ry), int(disk.y + disk.ry) + 1):
        inside = 1 - ((row - disk.y) / disk.ry) ** 2
        if inside > 0:
            half = disk.rx * inside**0.5
            yield row, round(disk.x - half), round(disk.x + half)


def _polygon_spans(polygon: Polygon) -> Iterator[Span]:
    """Between every second crossing of a row with the outline (the even-odd rule)."""
    points = polygon.points
    edges = list(zip(points, (*points[1:], points[0]), strict=True))
    low, high = min(y for _, y in points), max(y for _, y in points)
    for row in range(int(low), int(high) + 1):
        crossings = sorted(
            x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            for (x0, y0), (x1, y1) in edges
            if (y0 <= row + 0.5) != (y1 <= row + 0.5)
        )
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            yield row, round(left), round(right)


def _gradient(top: Colour, bottom: Colour) -> list[Colour]:
    return [
        (
            top[0] + (bottom[0] - top[0]) * step // _SKY_STEPS,
            top[1] + (bottom[1] - top[1]) * step // _SKY_STEPS,
            top[2] + (bottom[2] - top[2]) * step // _SKY_STEPS,
        )
        for step in range(_SKY_STEPS)
    ]


def encode_png(rows: list[bytearray], palette: list[Colour]) -> bytes:
    """A PNG of 8-bit palette numbers; `rows` are all of one length."""
    header = len(rows[0]).to_bytes(4, "big") + len(rows).to_bytes(4, "big") + b"\x08\x03\x00\x00\x00"
    colours = b"".join(bytes(colour) for colour in palette)
    pixels = zlib.compress(b"".join(b"\x00" + row for row in rows), 6)
    parts = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return len(data).to_bytes(4, "big") + kind + data + checksum.to_bytes(4, "big")
