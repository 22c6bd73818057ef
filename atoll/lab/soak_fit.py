"""What a soak's numbers say: slopes, drift, and curves drawn in one line of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_LEAST: Final = 3


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """How much the second grows with each unit of the first, by least squares; None of fewer than three."""
    if len(points) < _LEAST:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return None
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def floors(points: Sequence[tuple[float, float]], width: float = 60.0) -> list[tuple[float, float]]:
    """The lowest point of each `width` of the first coordinate: what is there at all times."""
    lowest: dict[int, tuple[float, float]] = {}
    for point in points:
        place = int(point[0] // width)
        if place not in lowest or point[1] < lowest[place][1]:
            lowest[place] = point
    return list(lowest.values())


def drift(values: Sequence[float]) -> float | None:
    """The last third's median as a multiple of the first third's; None of fewer than three values."""
    third = len(values) // 3
    if not third:
        return None
    before = median(values[:third])
    return median(values[-third:]) / before if before else None


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A curve of `width` characters at most, from the lowest value to the highest."""
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    columns = [
        max(values[int(i * step) : max(int(i * step) + 1, int((i + 1) * step))])
        for i in range(min(width, len(values)))
    ]
    low, high = min(columns), max(columns)
    if high == low:
        return _BARS[0] * len(columns)
    return "".join(_BARS[int((value - low) / (high - low) * (len(_BARS) - 1))] for value in columns)
