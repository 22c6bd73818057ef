"""`Cache-Status` values (RFC 9211): what the cache did with a request, one member per cache.

The member is `atoll-<pop>` with its parameters in a fixed order. Every value is a valid structured field
(RFC 9651) whatever it is made of: a detail that is no token becomes a quoted string, what a string cannot
hold becomes `?`, or is percent-encoded where it must stay readable, in keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import http_sf

Forward = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request went on towards the origin (RFC 9211 §2.2):

- `bypass`: the route, or an extension, does not use the cache for it
- `method`: its method's semantics ask for the origin
- `uri-miss`, `vary-miss`: nothing is stored for the URL; or nothing that its fields select
- `miss`: nothing usable is stored, and which of the two it is is not known
- `request`: something fresh is stored, and the request's own directives do not take it
- `stale`: what is stored is stale
- `partial`: not all the bytes it asks for are stored
"""

_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_UNPRINTABLE_BYTE: Final = re.compile(rb"[^!-~]")
_MAX_DETAIL: Final = 200
_MAX_KEY: Final = 1024
_MAX_BEHIND: Final = 4096  # bytes of other caches' members that are passed on
_LARGEST: Final = 999_999_999_999_999  # RFC 9651 §3.3.1


def hit(pop: str, ttl_s: int, detail: str = "", *, key: bytes | None = None) -> bytes:
    """Answered from the cache; `ttl_s` is below zero when what was served is stale."""
    return _member(pop, ["hit", f"ttl={_integer(ttl_s)}"], key, detail)


def forward(
    pop: str,
    fwd: Forward,
    *,
    fwd_status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl_s: int | None = None,
    key: bytes | None = None,
    detail: str = "",
) -> bytes:
    """Sent on because of `fwd`; `fwd_status` is None when nobody answered.

    `ttl_s` is what is left of the response's freshness as it was stored; `collapsed` says that another
    request's answer was waited for; `key` is the primary cache key, for those who may see it.
    """
    parameters = [f"fwd={fwd}"]
    if fwd_status is not None:
        parameters.append(f"fwd-status={_integer(fwd_status)}")
    if ttl_s is not None:
        parameters.append(f"ttl={_integer(ttl_s)}")
    if stored:
        parameters.append("stored")
    if collapsed:
        parameters.append("collapsed")
    return _member(pop, parameters, key, detail)


def appended(existing: Sequence[bytes], member: bytes) -> bytes:
    """The list with this cache's member at its end: the cache nearest to the user comes last (§2).

    `existing` are the lines that came from behind. What is no list is dropped: one broken member would make
    the whole field unreadable (RFC 9651 §4.2).
    """
    behind = b", ".join(filter(None, (line.strip(b" \t") for line in existing)))
    return b"%b, %b" % (behind, member) if behind and _is_list(behind) else member


@lru_cache(maxsize=256)
def _is_list(value: bytes) -> bool:
    if len(value) > _MAX_BEHIND:
        return False
    try:
        http_sf.parse(value, tltype="list")
    except ValueError:
        return False
    return True


def quoted(value: str) -> str:
    """`value` as a token where it is one, as a string otherwise (RFC 9651 §3.3.3)."""
    return value if _TOKEN.fullmatch(value) else _string(_UNPRINTABLE.sub("?", value))


def _string(printable: str) -> str:
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _key(key: bytes) -> str:
    """§2.7: a string. Keys are URLs, in which what is not printable is percent-encoded."""
    escaped = _UNPRINTABLE_BYTE.sub(lambda byte: b"%%%02X" % byte[0][0], key[:_MAX_KEY])
    return _string(escaped.decode("ascii"))


def _integer(value: int) -> int:
    return max(-_LARGEST, min(value, _LARGEST))


def _member(pop: str, parameters: list[str], key: bytes | None, detail: str) -> bytes:
    if key is not None:
        parameters.append(f"key={_key(key)}")
    if detail:
        parameters.append(f"detail={quoted(detail[:_MAX_DETAIL])}")
    return "; ".join([quoted(f"atoll-{pop}"), *parameters]).encode("ascii")
