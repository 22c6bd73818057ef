"""A request's preferences in one spelling, so that a few variants serve everybody (RFC 9111 §4.1).

`Accept-Encoding` is reduced to what the edge can serve, `Accept-Language` to its order. What is left says in
which order something is wanted, not by how much: `en, de;q=0.7` and `en, de;q=0.3` are the same wish. A
normalised request must be the one that is looked up with and the one that the origin sees: a key that says
less than the origin was told would hand one client's variant to another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from atoll.http.fields import Headers, combined

CODINGS: Final = (b"br", b"zstd", b"gzip")
"""Content codings that the edge can serve, the most welcome first."""

MAX_RANKS: Final = 10
"""Steps of preference that are kept: `q` from 1 down to 0.1."""

MAX_LANGUAGES: Final = 32

_ALIASES: Final = {b"x-gzip": b"gzip"}  # RFC 9110 §8.4.1.3
_IDENTITY: Final = b"identity"
_REFUSED: Final = _IDENTITY + b";q=0"
_WEIGHT: Final = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_LANGUAGE: Final = re.compile(rb"\*|[a-z0-9]{1,8}(?:-[a-z0-9*]{1,8}){0,8}")
_SHORT: Final = 128  # longer values are worked out each time: a client must not fill memory with them


def normalised(request: Headers) -> Headers:
    """`request` with its `Accept-Encoding` and `Accept-Language`, if it has any, in one spelling."""
    coding = combined(request, b"accept-encoding")
    language = combined(request, b"accept-language")
    if coding is None and language is None:
        return request
    fields = [field for field in request if field[0] not in (b"accept-encoding", b"accept-language")]
    if coding is not None:
        fields.append((b"accept-encoding", normal_codings(coding)))
    languages = b"" if language is None else normal_languages(language)
    return [*fields, (b"accept-language", languages)] if languages else fields


def normal_codings(value: bytes) -> bytes:
    """The codings of `CODINGS` that are acceptable, by rank; `identity` when none is (RFC 9110 §12.5.3).

    `identity` is named only where it is wanted more than a coding, or refused: else it is the last resort
    anyway.
    """
    return _codings_short(value) if len(value) <= _SHORT else _codings(value)


def normal_languages(value: bytes) -> bytes:
    """The language ranges in lowercase and by rank; empty when there are none (RFC 9110 §12.5.4)."""
    return _languages_short(value) if len(value) <= _SHORT else _languages(value)


def _codings(value: bytes) -> bytes:
    weights: dict[bytes, int] = {}
    for name, weight in _members(value):
        coding = _ALIASES.get(name, name)
        weights[coding] = max(weight, weights.get(coding, 0))
    others = weights.get(b"*", 0)
    wanted = {coding: weights.get(coding, others) for coding in CODINGS}
    accepted = {coding: weight for coding, weight in wanted.items() if weight}
    identity = weights.get(_IDENTITY)
    if identity is None and b"*" in weights and not others:
        identity = 0
    if identity and any(weight < identity for weight in accepted.values()):
        accepted[_IDENTITY] = identity
    ranked = _ranked(accepted)
    if identity == 0:
        return ranked + b", " + _REFUSED if ranked else _REFUSED
    return ranked or _IDENTITY


def _languages(value: bytes) -> bytes:
    weights: dict[bytes, int] = {}
    for name, weight in _members(value):
        if _LANGUAGE.fullmatch(name) is not None:
            weights[name] = max(weight, weights.get(name, 0))
    wanted = sorted(weights.items(), key=lambda each: (-each[1], each[0]))[:MAX_LANGUAGES]
    refused = [name + b";q=0" for name, weight in wanted if not weight]
    ranked = _ranked({name: weight for name, weight in wanted if weight})
    return b", ".join([ranked, *refused] if ranked else refused)


_codings_short = lru_cache(maxsize=1024)(_codings)
_languages_short = lru_cache(maxsize=1024)(_languages)


def _members(value: bytes) -> Iterator[tuple[bytes, int]]:
    """Lowercase members with their weights in thousandths; one whose weight is none is left out."""
    for member in value.lower().split(b","):
        name, semicolon, parameter = (part.strip(b" \t") for part in member.partition(b";"))
        weight = _weight(parameter) if semicolon else 1000
        if name and weight is not None:
            yield name, weight


def _weight(parameter: bytes) -> int | None:
    key, _, digits = (part.strip(b" \t") for part in parameter.partition(b"="))
    if key != b"q" or _WEIGHT.fullmatch(digits) is None:
        return None
    whole, _, thousandths = digits.partition(b".")
    return int(whole) * 1000 + int(thousandths.ljust(3, b"0"))


def _ranked(weights: dict[bytes, int]) -> bytes:
    """Names by falling weight, of equal ones as they stand in `weights`; the weight says only the rank."""
    ranks = {weight: rank for rank, weight in enumerate(sorted(set(weights.values()), reverse=True))}
    by_rank = sorted((ranks[weight], at, name) for at, (name, weight) in enumerate(weights.items()))
    return b", ".join(
        name if rank == 0 else b"%b;q=0.%d" % (name, MAX_RANKS - rank)
        for rank, _, name in by_rank
        if rank < MAX_RANKS
    )
