"""What workerd said when it would not start, as a person should read it. Pure."""

from __future__ import annotations

import re
from typing import Final

from atoll.errors import AtollError

LONGEST: Final = 2000

_PREFIX: Final = re.compile(r"^service [^:\n]*(?::\S+)*: ", re.MULTILINE)
_NOISE: Final = re.compile(r"^(?:stack: |\*\*\* Received signal|note: run with ).*\n?", re.MULTILINE)
_ECHO: Final = "No event handlers were registered. This script does nothing."
_PLACE: Final = re.compile(r"^\s+at (?:.*\()?(?P<file>[^():\s]+):(?P<line>\d+)(?::\d+)?\)?$", re.MULTILINE)


def startup_error(name: str, output: str) -> AtollError:
    """The error of a function that did not start; `output` is what its host wrote since it was launched."""
    text = _PREFIX.sub("", _NOISE.sub("", output)).strip()
    if text != _ECHO:
        text = text.removesuffix(_ECHO).strip()
    place = _PLACE.search(text)
    where = f"{place['file']}:{place['line']}" if place else name
    return AtollError(text[:LONGEST] or "the function's host ended without a word", where=where)
