"""What a configuration value may be, whichever format it came in: bounds that every reader behind shares.

Text that is Unicode, integers that JavaScript holds exactly, nesting that no reader runs out of stack for.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**53

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

TOO_DEEP: Final = "nested too deeply"
DEPTH_HINT: Final = f"at most {MAX_DEPTH} tables and lists may be in each other"
INTEGER_HINT: Final = "integers from -2**53 to 2**53, which every number here holds exactly; or text"
TEXT_HINT: Final = "text is Unicode: half of a surrogate pair stands for nothing"


class Mistake(msgspec.Struct, frozen=True):
    """A value out of bounds: where in the document, what, and what would be right."""

    path: tuple[str | int, ...]
    message: str
    hint: str


def first_mistake(value: object, path: tuple[str | int, ...] = ()) -> Mistake | None:
    """The first value inside `value` that is out of bounds."""
    if len(path) > MAX_DEPTH:
        return Mistake(path[:MAX_DEPTH], TOO_DEEP, DEPTH_HINT)
    if isinstance(value, str):
        return None if is_text(value) else Mistake(path, "not Unicode text", TEXT_HINT)
    if isinstance(value, int):
        return None if is_integer(value) else Mistake(path, "an integer too large", INTEGER_HINT)
    for key, item in _items(value):
        if isinstance(key, str) and not is_text(key):
            return Mistake(path, "a name that is not Unicode text", TEXT_HINT)
        found = first_mistake(item, (*path, key))
        if found is not None:
            return found
    return None


def is_text(text: str) -> bool:
    """Whether `text` can be written in UTF-8."""
    return _SURROGATE.search(text) is None


def is_integer(number: int) -> bool:
    """Whether `number` is one that a JavaScript number holds exactly."""
    return -MAX_INTEGER <= number <= MAX_INTEGER


def _items(value: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()
