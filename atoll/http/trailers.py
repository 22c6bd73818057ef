"""Which trailer fields are passed on (RFC 9110 §6.5.1). Pure.

A trailer field arrives when routing, framing, authentication and what the content is have long been acted
upon: one that speaks of these could only mean something else to the next one who reads it, and is dropped.
"""

from __future__ import annotations

from typing import Final

from atoll.http.fields import HOP_BY_HOP, Headers, get_all, is_token, valid_field_value

FORBIDDEN: Final = HOP_BY_HOP | {
    # framing and routing
    b"content-length",
    b"host",
    b"max-forwards",
    b"via",
    # what a request asks for, and on which condition
    b"cache-control",
    b"expect",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"pragma",
    b"range",
    # who asks
    b"authorization",
    b"cookie",
    b"forwarded",
    b"www-authenticate",
    b"authentication-info",
    # what the answer is, and how long it is good for
    b"age",
    b"cdn-cache-control",
    b"clear-site-data",
    b"date",
    b"expires",
    b"location",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"surrogate-control",
    b"vary",
    b"warning",
    # what the content is
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-range",
    b"content-security-policy",
    b"content-type",
}
"""Names that mean nothing, or something dangerous, behind a body."""

_PREFIXES: Final = (b"atoll-", b"access-control-", b"cf-", b"x-forwarded-", b"sec-", b"proxy-")


def allowed_trailers(trailers: Headers) -> Headers:
    """`trailers` without those that may not be any, or that no field could be."""
    return [
        field
        for field in trailers
        if field[0] not in FORBIDDEN
        and not field[0].startswith(_PREFIXES)
        and is_token(field[0])
        and valid_field_value(field[1])
    ]


def takes_trailers(headers: Headers) -> bool:
    """Whether a request's `TE` says that its client, and all proxies before us, keep trailers (§10.1.4)."""
    members = (member for value in get_all(headers, b"te") for member in value.split(b","))
    return any(member.strip(b" \t").lower() == b"trailers" for member in members)
