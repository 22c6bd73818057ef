"""Which content coding a response gets (RFC 9110 §8.4, §12.5.3), and what that does to its fields. Pure.

A coding is chosen by the client's weights; among equal ones the edge's own order counts. What has a coding
already is left alone, and so is what must not be transformed.

**Entity tags become weak.** Two codings of a representation must not share a strong tag (§8.8.3). A suffix
for each coding would have to be taken off again in every condition, here and on the way to the origin; a
weak tag equals the stored one by the comparison that `If-None-Match` uses (§8.8.3.2), so conditions work as
they are. What is lost is `If-Range` and `If-Match` with a compressed response's tag: both want byte for
byte the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, cast, get_args

from atoll.config.compression import CompressionSpec
from atoll.errors import AtollError
from atoll.http.cache_control import CacheControl
from atoll.http.fields import Headers

Coding = Literal[b"br", b"zstd", b"gzip"]

CODINGS: Final[tuple[Coding, ...]] = get_args(Coding)
_ALIASES: Final = {b"x-gzip": b"gzip"}  # RFC 9110 §8.4.1.3
_IDENTITY: Final = b"identity"
_WEIGHT: Final = re.compile(rb"q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/(?:\*|(?:\*\+)?[a-z0-9!#$&^_.+-]+)")
_SHORT: Final = 256  # longer fields are read each time: a client must not fill memory with them
_NO_CONTENT: Final = frozenset((204, 205, 206, 304))  # or only a part of it
_OF_THE_BYTES: Final = frozenset(
    (b"accept-ranges", b"content-digest", b"content-length", b"content-md5", b"digest", b"repr-digest")
)
"""Fields that say something of the bytes as they were."""


class Terms:
    """A `CompressionSpec` compiled."""

    __slots__ = ("_endings", "_exact", "_families", "codings", "min_bytes", "uncached")

    def __init__(self, spec: CompressionSpec) -> None:
        named = tuple(coding.encode() for coding in spec.codings)
        if not named or not set(named) <= set(CODINGS) or len(set(named)) < len(named):
            raise AtollError(f"{spec.codings} are no codings", "br, zstd, gzip", "compression.codings")
        if spec.min_bytes < 0:
            raise AtollError(f"{spec.min_bytes} bytes is no length", where="compression.min_bytes")
        self.codings = cast(tuple[Coding, ...], named)
        self.min_bytes = spec.min_bytes
        self.uncached = spec.uncached
        self._exact: set[bytes] = set()
        self._families: list[bytes] = []
        self._endings: list[tuple[bytes, bytes]] = []
        for pattern in spec.types:
            if _TYPE.fullmatch(pattern) is None:
                hint = "text/*, application/*+json or a type, in lowercase"
                raise AtollError(f"{pattern!r} is no media type", hint, "compression.types")
            family, star, ending = pattern.encode().partition(b"*")
            if not star:
                self._exact.add(family)
            elif ending:
                self._endings.append((family, ending))
            else:
                self._families.append(family)

    def compressible(self, content_type: bytes | None) -> bool:
        """Whether content of this type shrinks."""
        if content_type is None:
            return False
        kind = content_type.partition(b";")[0].strip(b" \t").lower()
        if kind in self._exact or any(kind.startswith(family) for family in self._families):
            return True
        return any(kind.startswith(family) and kind.endswith(ending) for family, ending in self._endings)


@lru_cache(maxsize=256)
def terms_of(spec: CompressionSpec) -> Terms:
    """The terms of a spec; the same spec is compiled once.

    Raises:
        AtollError: it names what there is not.
    """
    return Terms(spec)


def varies(
    terms: Terms,
    stored_encoding: bytes | None,
    content_type: bytes | None,
    length: int | None,
    cc: CacheControl,
) -> bool:
    """Whether clients with other wishes get other bytes: then the response says so in `Vary`.

    `stored_encoding` is the content's `Content-Encoding`, `length` None when it is not known, `cc` its
    directives. `preferred` says which coding it is for one client.
    """
    if cc.no_transform or (stored_encoding is not None and stored_encoding.lower() != _IDENTITY):
        return False
    return (length is None or length >= terms.min_bytes) and terms.compressible(content_type)


def may_be_encoded(status: int) -> bool:
    """Whether a response with this status has a whole representation as its content."""
    return status >= 200 and status not in _NO_CONTENT


def preferred(codings: tuple[Coding, ...], accept_encoding: bytes | None) -> Coding | None:
    """The coding of `codings` that a client wants most; None when it wants none, or says nothing."""
    if accept_encoding is None:
        return None
    if len(accept_encoding) > _SHORT:
        return _preferred(codings, accept_encoding)
    return _preferred_short(codings, accept_encoding)


def _preferred(codings: tuple[Coding, ...], accept_encoding: bytes) -> Coding | None:
    weights = _weights(accept_encoding)
    others = weights.get(b"*", 0)
    best = max(codings, key=lambda coding: weights.get(coding, others))
    weight = weights.get(best, others)
    # Identity is acceptable unless it is refused, but wanted only as much as it says (§12.5.3).
    return best if weight and weight >= weights.get(_IDENTITY, 0) else None


_preferred_short = lru_cache(maxsize=1024)(_preferred)


def _weights(accept_encoding: bytes) -> dict[bytes, int]:
    """Codings in lowercase with their weights in thousandths; a member with a malformed one is not wanted."""
    weights: dict[bytes, int] = {}
    for member in accept_encoding.lower().split(b","):
        name, semicolon, parameter = (part.strip(b" \t") for part in member.partition(b";"))
        found = _WEIGHT.fullmatch(parameter) if semicolon else None
        if not name:
            continue
        weight = 0 if semicolon and found is None else 1000
        if found is not None:
            whole, _, digits = found[1].partition(b".")
            weight = int(whole) * 1000 + int(digits.ljust(3, b"0"))
        coding = _ALIASES.get(name, name)
        weights[coding] = max(weight, weights.get(coding, 0))
    return weights


def encoded_fields(headers: Headers, coding: Coding) -> Headers:
    """The fields of a response whose content gets `coding`; without a length."""
    kept = [field for field in headers if field[0] not in _OF_THE_BYTES and field[0] != b"content-encoding"]
    return varied([*weakened(kept), (b"content-encoding", coding)])


def weakened(headers: Headers) -> Headers:
    """`headers` with a weak entity tag, if they have a strong one."""
    return [
        (name, b"W/" + value) if name == b"etag" and value.startswith(b'"') else (name, value)
        for name, value in headers
    ]


def varied(headers: Headers) -> Headers:
    """`headers` that say that other clients may get another coding."""
    return with_vary(headers, (b"Accept-Encoding",))


def with_vary(headers: Headers, names: tuple[bytes, ...]) -> Headers:
    """`headers` whose `Vary` names `names` too; `*` says everything already."""
    values = [value for name, value in headers if name == b"vary"]
    listed = {member.strip(b" \t").lower() for value in values for member in value.split(b",")}
    missing = [name for name in names if name.lower() not in listed]
    if not missing or b"*" in listed:
        return headers
    merged = b", ".join([*(value for value in values if value), *missing])
    return [*(field for field in headers if field[0] != b"vary"), (b"vary", merged)]
