"""Which paths an origin may take a request's path for. Pure.

Routes are matched with the path as it was sent; origins decode percent signs, resolve dot segments, merge
slashes, take backslashes for slashes, drop parameters after semicolons (RFC 3986 §6.2.2, and what servers do
beyond it). A path that another route's rules would be asked for once it is read like that must not get around
them by its spelling.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_UNUSUAL: Final = re.compile(rb"[%\\;]|//|/\.")
_DECODINGS: Final = 3  # an origin that decodes more than twice is beyond help
_SLASHES: Final = re.compile(rb"[/\\]+")


def readings(path: bytes) -> list[bytes]:
    """Other paths that `path` may be read as; none for an ordinary one."""
    if _UNUSUAL.search(path) is None:
        return []
    found: dict[bytes, None] = {}
    spelled = path
    for _ in range(_DECODINGS):
        for text in (spelled, _without_parameters(spelled)):
            found[_resolved(text)] = None
        decoded = unquote_to_bytes(spelled)
        if decoded == spelled:
            break
        spelled = decoded
    found.pop(path, None)
    return list(found)


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _resolved(path: bytes) -> bytes:
    """Slashes merged, dot segments taken out (RFC 3986 §5.2.4)."""
    kept: list[bytes] = []
    segments = _SLASHES.sub(b"/", path).split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments and segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
