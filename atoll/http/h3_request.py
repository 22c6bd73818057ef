"""A request's fields as HTTP/3 sends them, read into what the edge knows (RFC 9114 §4.2, §4.3.1). Pure.

What is malformed is refused with a reason; names arrive in lowercase or not at all, so the decoder's output
is judged here, byte by byte but in few steps.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from atoll.http.fields import GOOD_TARGET, Headers, is_token, valid_field_value, valid_host
from atoll.http.limits import Limits

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_SPECIAL: Final = frozenset((b"content-length", b"expect", b"host", b"te"))
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))


class H3Request(msgspec.Struct, frozen=True):
    """A well-formed request. `fields` have no host and at most one cookie; `length` is -1 when not said."""

    method: bytes
    authority: bytes
    target: bytes
    fields: Headers
    protocol: bytes = b""  # of an extended CONNECT (RFC 9220), lowercase
    length: int = -1
    waits: bool = False  # for leave to send its body


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not served, and the status that says so."""

    status: int
    reason: str


def read_request(headers: Headers, limits: Limits) -> H3Request | Refusal:
    """Judge and take apart a request's field section."""
    pseudo: dict[bytes, bytes] = {}
    for at, (name, value) in enumerate(headers):
        if not name.startswith(b":"):
            return _judge(pseudo, headers[at:], limits)
        if name not in _PSEUDO or name in pseudo:
            return Refusal(400, "a pseudo-header field that is unknown or twice there")
        pseudo[name] = value
    return _judge(pseudo, [], limits)


def _judge(pseudo: dict[bytes, bytes], regular: Headers, limits: Limits) -> H3Request | Refusal:
    target = pseudo.get(b":path", b"")
    refused = _refused(pseudo, target, regular, limits)
    if refused is not None:
        return refused
    fields: Headers = []
    cookies: list[bytes] = []
    special: dict[bytes, bytes] = {}
    for name, value in regular:
        if not _NAME.fullmatch(name) or not valid_field_value(value) or name in _CONNECTION:
            return Refusal(400, "a field that HTTP/3 does not have")
        if name in _SPECIAL and special.setdefault(name, value) != value:
            return Refusal(400, "two values of what has one")
        if name == b"cookie":
            cookies.append(value)  # RFC 9114 §4.2.1: crumbs are joined before they leave HTTP/3
        elif name != b"host":
            fields.append((name, value))
    refused = _refused_special(special)
    if refused is not None:
        return refused
    host = pseudo.get(b":authority") or special.get(b"host", b"")
    if not valid_host(host) or special.get(b"host", host) != host:
        return Refusal(400, "authority is missing, ambiguous or invalid")
    if cookies:
        fields.append((b"cookie", b"; ".join(cookies)))
    return H3Request(
        method=pseudo[b":method"],
        authority=host.lower(),
        target=target,
        fields=fields,
        protocol=pseudo.get(b":protocol", b"").lower(),
        length=int(special.get(b"content-length", -1)),
        waits=b"expect" in special,
    )


def _refused_special(special: dict[bytes, bytes]) -> Refusal | None:
    if special.get(b"te", b"trailers").lower() != b"trailers":
        return Refusal(400, "TE may say trailers alone")
    if not _DIGITS.fullmatch(special.get(b"content-length", b"0")):
        return Refusal(400, "content-length is no number")
    if special.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Refusal(417, "an expectation that nobody here knows")
    return None


def _refused(pseudo: dict[bytes, bytes], target: bytes, regular: Headers, limits: Limits) -> Refusal | None:
    method, protocol = pseudo.get(b":method", b""), pseudo.get(b":protocol")
    if not is_token(method) or pseudo.get(b":scheme") not in (b"https", b"http"):
        return Refusal(400, "method or scheme is missing or invalid")
    if protocol is not None and (method != b"CONNECT" or not is_token(protocol)):
        return Refusal(400, "a protocol without CONNECT, or that is no token")
    if target.translate(None, GOOD_TARGET):
        return Refusal(400, "invalid byte in the target")
    if len(target) > limits.target:
        return Refusal(414, "target too long")
    if (method == b"CONNECT" and protocol is None) or (not target.startswith(b"/") and target != b"*"):
        return Refusal(400, "target is not a path")
    if len(regular) > limits.fields:
        return Refusal(431, "too many fields")
    if sum(len(name) + len(value) + 32 for name, value in regular) > limits.head:
        return Refusal(431, "request head too large")
    return None
