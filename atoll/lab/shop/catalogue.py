"""What the shop sells, and how each thing is drawn. Pure: tables, the same in every region.

A drawing is a list of shapes on a 960 × 720 field, painted in order; `atoll.lab.shop.images` knows how.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

CATALOGUE_DATE_S: Final = 1_767_225_600.0  # 2026-01-01: `Last-Modified` of all that never changes

Colour = tuple[int, int, int]


class Disk(msgspec.Struct, frozen=True, tag=True):
    """A filled ellipse around a point."""

    x: float
    y: float
    rx: float
    ry: float
    colour: Colour


class Polygon(msgspec.Struct, frozen=True, tag=True):
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    colour: Colour


Shape = Disk | Polygon


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to buy. `price` is in cents."""

    id: str
    name: str
    category: str
    price: int
    stock: int
    words: str
    sky: tuple[Colour, Colour]  # of its picture, from top to bottom
    shapes: tuple[Shape, ...]


def box(x: float, y: float, width: float, height: float, colour: Colour) -> Polygon:
    """A rectangle by its upper left corner."""
    return Polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height)), colour)


def line(x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> Polygon:
    """A straight stroke."""
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
    return Polygon(((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)), colour)


def lower_half(x: float, y: float, rx: float, ry: float, colour: Colour) -> Polygon:
    """The lower half of an ellipse around a point."""
    angles = [math.pi * step / 24 for step in range(25)]
    return Polygon(tuple((x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles), colour)


_INK: Final = (20, 43, 61)
_PAPER: Final = (250, 244, 232)
_BRASS: Final = (214, 166, 84)
_CORAL: Final = (233, 101, 83)
_SAND: Final = (240, 214, 164)
_LAGOON: Final = (38, 154, 166)
_DEEP: Final = (16, 84, 112)
_PALM: Final = (58, 125, 92)
_WOOD: Final = (140, 90, 60)
_DAWN: Final = ((253, 226, 196), (248, 180, 150))
_NOON: Final = ((214, 240, 244), (142, 208, 216))
_DUSK: Final = ((58, 66, 112), (226, 128, 120))
_MEADOW: Final = ((236, 244, 220), (176, 214, 170))
_SHADOW: Final = Disk(480, 620, 250, 26, (98, 130, 134))

PRODUCTS: Final = (
    Product(
        id="brass-compass",
        name="Brass compass",
        category="navigation",
        price=6_400,
        stock=120,
        words="Finds north on any island. The needle swings in oil and settles within two seconds.",
        sky=_DAWN,
        shapes=(
            _SHADOW,
            Disk(480, 360, 240, 240, _BRASS),
            Disk(480, 360, 205, 205, _PAPER),
            Polygon(((480, 190), (515, 360), (445, 360)), _CORAL),
            Polygon(((480, 530), (515, 360), (445, 360)), _INK),
            Disk(480, 360, 22, 22, _BRASS),
        ),
    ),
    Product(
        id="hurricane-lantern",
        name="Hurricane lantern",
        category="light",
        price=3_900,
        stock=200,
        words="Burns through the night in any wind. The glass lifts off without a tool.",
        sky=_DUSK,
        shapes=(
            Disk(480, 380, 260, 260, (122, 98, 128)),
            box(385, 540, 190, 70, _INK),
            Disk(480, 390, 120, 160, (252, 214, 140)),
            Polygon(((480, 300), (520, 420), (480, 460), (440, 420)), _CORAL),
            Polygon(((400, 240), (560, 240), (525, 180), (435, 180)), _INK),
            line(360, 560, 360, 250, 14, _INK),
            line(600, 560, 600, 250, 14, _INK),
        ),
    ),
    Product(
        id="canvas-hammock",
        name="Canvas hammock",
        category="camp",
        price=8_900,
        stock=60,
        words="Two palms, one knot each. Holds two people who like each other.",
        sky=_NOON,
        shapes=(
            Disk(760, 150, 70, 70, (255, 240, 190)),
            box(140, 160, 36, 460, _WOOD),
            box(784, 160, 36, 460, _WOOD),
            Polygon(((160, 300), (330, 470), (630, 470), (800, 300), (640, 400), (320, 400)), _CORAL),
            Disk(480, 455, 180, 60, _CORAL),
            Disk(480, 425, 190, 46, (246, 150, 128)),
            Disk(158, 150, 130, 46, _PALM),
            Disk(802, 150, 130, 46, _PALM),
        ),
    ),
    Product(
        id="sea-chart",
        name="Sea chart",
        category="navigation",
        price=2_200,
        stock=400,
        words="Five islands and the reefs between them, on paper that takes salt water.",
        sky=_DAWN,
        shapes=(
            _SHADOW,
            Polygon(((220, 190), (740, 150), (760, 560), (240, 600)), _PAPER),
            Disk(400, 330, 90, 60, _SAND),
            Disk(400, 325, 60, 36, _PALM),
            Disk(610, 440, 70, 46, _SAND),
            Disk(610, 436, 44, 26, _PALM),
            line(330, 520, 460, 450, 8, _CORAL),
            line(460, 450, 600, 300, 8, _CORAL),
            Disk(600, 300, 18, 18, _CORAL),
        ),
    ),
    Product(
        id="snorkel-set",
        name="Snorkel set",
        category="water",
        price=4_600,
        stock=150,
        words="Tempered glass, soft seal, a tube that closes when a wave comes over.",
        sky=_NOON,
        shapes=(
            Disk(480, 900, 900, 420, _LAGOON),
            line(700, 130, 700, 420, 40, _CORAL),
            Disk(440, 360, 240, 140, _INK),
            Disk(330, 360, 100, 96, (190, 232, 238)),
            Disk(550, 360, 100, 96, (190, 232, 238)),
            Disk(440, 420, 46, 60, _INK),
            line(700, 420, 560, 480, 40, _CORAL),
        ),
    ),
    Product(
        id="coconut-bowl",
        name="Coconut bowl",
        category="table",
        price=1_400,
        stock=320,
        words="Polished by hand, oiled twice. No two are the same; all of them are round.",
        sky=_MEADOW,
        shapes=(
            _SHADOW,
            lower_half(480, 380, 250, 230, _WOOD),
            Disk(480, 380, 250, 74, (108, 66, 42)),
            Disk(480, 384, 216, 56, _PAPER),
        ),
    ),
    Product(
        id="signal-flags",
        name="Signal flags",
        category="navigation",
        price=5_200,
        stock=90,
        words="Twenty-six letters that can be read from the next island.",
        sky=_NOON,
        shapes=(
            line(150, 170, 810, 230, 10, _INK),
            box(200, 190, 130, 130, _CORAL),
            box(245, 190, 40, 130, _PAPER),
            box(360, 205, 130, 130, _DEEP),
            Polygon(((360, 205), (490, 205), (360, 335)), _BRASS),
            box(520, 218, 130, 130, _PAPER),
            Disk(585, 283, 44, 44, _CORAL),
            box(680, 232, 110, 130, _PALM),
            Disk(480, 900, 800, 320, _LAGOON),
        ),
    ),
    Product(
        id="folding-kayak",
        name="Folding kayak",
        category="water",
        price=79_000,
        stock=20,
        words="Packs into a bag, unfolds in ten minutes, crosses the lagoon in twenty.",
        sky=_DUSK,
        shapes=(
            Disk(480, 330, 90, 90, (252, 206, 150)),
            box(0, 430, 960, 290, _DEEP),
            Polygon(((120, 440), (840, 440), (700, 530), (260, 530)), _CORAL),
            Disk(480, 442, 90, 20, _INK),
            line(330, 300, 640, 560, 14, _SAND),
            Disk(330, 300, 34, 22, _SAND),
            Disk(640, 560, 34, 22, _SAND),
        ),
    ),
    Product(
        id="solar-charger",
        name="Solar charger",
        category="light",
        price=11_900,
        stock=75,
        words="Twenty watts at noon. Folds to the size of a book.",
        sky=_MEADOW,
        shapes=(
            Disk(760, 170, 90, 90, (252, 214, 120)),
            _SHADOW,
            Polygon(((230, 560), (330, 240), (700, 240), (740, 560)), _INK),
            Polygon(((270, 540), (355, 265), (505, 265), (490, 540)), _DEEP),
            Polygon(((515, 540), (530, 265), (675, 265), (705, 540)), _DEEP),
            line(300, 440, 700, 440, 6, _INK),
            line(330, 350, 690, 350, 6, _INK),
        ),
    ),
    Product(
        id="tide-clock",
        name="Tide clock",
        category="navigation",
        price=9_800,
        stock=45,
        words="One hand, twelve hours and twenty-five minutes to a turn: the moon's own time.",
        sky=_DAWN,
        shapes=(
            _SHADOW,
            Disk(480, 360, 235, 235, _DEEP),
            Disk(480, 360, 205, 205, _PAPER),
            lower_half(480, 390, 190, 172, _LAGOON),
            line(480, 360, 590, 250, 16, _CORAL),
            Disk(480, 360, 22, 22, _INK),
        ),
    ),
    Product(
        id="rope-set",
        name="Rope set",
        category="camp",
        price=2_700,
        stock=260,
        words="Three lengths, spliced ends. Comes with a card of nine knots.",
        sky=_MEADOW,
        shapes=(
            _SHADOW,
            Disk(480, 470, 240, 130, _SAND),
            Disk(480, 455, 190, 100, (206, 170, 116)),
            Disk(480, 440, 170, 88, _SAND),
            Disk(480, 425, 110, 56, (206, 170, 116)),
            Disk(480, 415, 90, 44, _SAND),
            line(560, 430, 760, 250, 26, _SAND),
        ),
    ),
    Product(
        id="enamel-mug",
        name="Enamel mug",
        category="table",
        price=1_800,
        stock=500,
        words="For coffee at the first light and soup at the last.",
        sky=_NOON,
        shapes=(
            _SHADOW,
            Disk(650, 400, 110, 110, _DEEP),
            Disk(650, 400, 74, 74, (172, 221, 228)),
            box(300, 230, 340, 370, _PAPER),
            box(300, 360, 340, 90, _CORAL),
            Disk(470, 600, 170, 26, _PAPER),
            Disk(470, 230, 170, 36, _DEEP),
            Disk(470, 236, 146, 26, _WOOD),
        ),
    ),
)

BY_ID: Final = {product.id: product for product in PRODUCTS}
CATEGORIES: Final = tuple(sorted({product.category for product in PRODUCTS}))
