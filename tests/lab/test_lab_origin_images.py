"""Pictures are PNGs that a decoder of its own can read back."""

import zlib

import pytest

from atoll.lab.shop.catalogue import PRODUCTS, Disk, Polygon, Product, box, lower_half
from atoll.lab.shop.images import HEIGHT, WIDTH, draw, encode_png, spans

RED, BLUE = (200, 10, 10), (10, 10, 200)


def decode(png: bytes) -> tuple[int, int, bytes, bytes]:
    """Width, height, palette and pixels without filter bytes; checks every checksum."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert int.from_bytes(png[at + 8 + size : at + 12 + size], "big") == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height = (int.from_bytes(chunks[b"IHDR"][i : i + 4], "big") for i in (0, 4))
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    rows = [raw[y * (width + 1) : (y + 1) * (width + 1)] for y in range(height)]
    assert all(row[0] == 0 for row in rows)
    return width, height, chunks[b"PLTE"], b"".join(row[1:] for row in rows)


def colour_at(png: bytes, x: int, y: int) -> tuple[int, ...]:
    width, _, palette, pixels = decode(png)
    number = pixels[y * width + x]
    return tuple(palette[number * 3 : number * 3 + 3])


def picture(*shapes: Disk | Polygon) -> bytes:
    return draw(
        Product(
            id="x",
            name="x",
            category="x",
            price=1,
            stock=1,
            words="",
            sky=((0, 0, 0), (160, 160, 160)),
            shapes=shapes,
        )
    )


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.id)
def test_every_product_has_a_picture(product: Product) -> None:
    png = draw(product)
    width, height, palette, pixels = decode(png)
    assert (width, height) == (WIDTH, HEIGHT)
    assert max(pixels) < len(palette) // 3 <= 256
    assert png == draw(product)


def test_later_shapes_cover_earlier_ones() -> None:
    png = picture(Disk(480, 360, 100, 50, RED), box(480, 340, 10, 40, BLUE))
    assert colour_at(png, 400, 360) == RED
    assert colour_at(png, 485, 360) == BLUE
    assert colour_at(png, 370, 360) != RED
    assert colour_at(png, 480, 420) != RED


def test_the_sky_runs_from_top_to_bottom() -> None:
    png = picture()
    assert colour_at(png, 5, 0) == (0, 0, 0)
    assert colour_at(png, 5, HEIGHT - 1) == (159, 159, 159)


@pytest.mark.parametrize(
    "shape",
    [
        Disk(-50, 100, 200, 200, RED),
        Disk(WIDTH, HEIGHT, 300, 300, RED),
        box(-10, -10, 2000, 2000, RED),
        lower_half(900, 700, 200, 200, RED),
        Disk(5000, 5000, 10, 10, RED),
    ],
)
def test_shapes_are_cut_at_the_edges(shape: Disk | Polygon) -> None:
    for row, left, right in spans(shape):
        assert 0 <= row < HEIGHT
        assert 0 <= left < right <= WIDTH


def test_a_triangle_covers_half_of_its_box() -> None:
    covered = sum(right - left for _, left, right in spans(Polygon(((0, 0), (400, 0), (0, 400)), RED)))
    assert covered == pytest.approx(400 * 400 / 2, rel=0.01)


def test_a_disk_covers_its_area() -> None:
    covered = sum(right - left for _, left, right in spans(Disk(480, 360, 200, 100, RED)))
    assert covered == pytest.approx(3.14159 * 200 * 100, rel=0.01)


def test_rows_are_written_as_given() -> None:
    png = encode_png([bytearray(b"\x00\x01"), bytearray(b"\x01\x01")], [RED, BLUE])
    assert decode(png) == (2, 2, bytes(RED + BLUE), b"\x00\x01\x01\x01")
