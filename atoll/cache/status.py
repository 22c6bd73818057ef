"""`Cache-Status` values (RFC 9211): what the cache did with a request, one member per cache.

The member is `atoll-<pop>` with its parameters in a fixed order. Every value is a valid structured field
whatever the detail says: what is no token becomes a quoted string, what a string cannot hold becomes `?`.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Forward = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request went on towards the origin (RFC 9211 §2.2)."""

_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_MAX_DETAIL: Final = 200


def hit(pop: str, ttl_s: int, detail: str = "") -> bytes:
    """Answered from the cache; `ttl_s` is below zero when what was served is stale."""
    return _member(pop, ["hit", f"ttl={ttl_s}"], detail)


def forward(
    pop: str,
    fwd: Forward,
    *,
    fwd_status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl_s: int | None = None,
    detail: str = "",
) -> bytes:
    """Sent on because of `fwd`; `fwd_status` is None when nobody answered."""
    parameters = [f"fwd={fwd}"]
    if fwd_status is not None:
        parameters.append(f"fwd-status={fwd_status}")
    if ttl_s is not None:
        parameters.append(f"ttl={ttl_s}")
    if stored:
        parameters.append("stored")
    if collapsed:
        parameters.append("collapsed")
    return _member(pop, parameters, detail)


def appended(existing: bytes | None, member: bytes) -> bytes:
    """The list with this cache's member at its end: the cache nearest to the user comes last (§2)."""
    return member if not existing else existing + b", " + member


def quoted(value: str) -> str:
    """`value` as a token where it is one, as a string otherwise (RFC 8941 §3.3.3)."""
    if _TOKEN.fullmatch(value):
        return value
    printable = _UNPRINTABLE.sub("?", value)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _member(pop: str, parameters: list[str], detail: str) -> bytes:
    if detail:
        parameters.append(f"detail={quoted(detail[:_MAX_DETAIL])}")
    return "; ".join([quoted(f"atoll-{pop}"), *parameters]).encode("ascii")
