"""Requests and responses as HTTP/2 has them, for a client (RFC 9113 §8). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from atoll.http.fields import HOP_BY_HOP, Headers, get, is_token, strip_hop_by_hop, valid_field_value

_FOR_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


class Head(NamedTuple):
    """A response's head; `length` is the content's, if it is said."""

    status: int
    headers: Headers
    length: int | None


def request_fields(head: bytes, scheme: bytes) -> Headers:
    """A request's head in HTTP/1.1 format as HTTP/2's fields (§8.3.1)."""
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    host = b""
    fields: Headers = []
    for line in lines:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name == b"host":
            host = value
        elif name not in HOP_BY_HOP or (name == b"te" and value == b"trailers"):
            fields.append((name, value.replace(b"\t", b" ")))
    pseudo = [(b":method", method), (b":scheme", scheme), (b":authority", host), (b":path", target)]
    return pseudo + fields


def read_head(fields: Headers) -> Head | str:
    """A response's head, or what is wrong with it (§8.2, §8.3.2)."""
    if not fields or fields[0][0] != b":status":
        return "no status"
    status = fields[0][1]
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) <= 599:
        return "a status that is none"
    headers = fields[1:]
    wrong = wrong_with(headers)
    if wrong:
        return wrong
    length = get(headers, b"content-length")
    return Head(int(status), strip_hop_by_hop(headers), None if length is None else int(length))


def wrong_with(fields: Headers) -> str:
    """What is wrong with fields that are no pseudo-fields, e.g. trailers; "" if nothing is."""
    lengths = set()
    for name, value in fields:
        if not is_token(name) or name != name.lower():
            return "a field's name that is none"
        if not valid_field_value(value):
            return "a field's value that is none"
        if name in _FOR_CONNECTIONS:
            return "a field for connections"
        if name == b"content-length":
            lengths.add(value)
    if lengths and (len(lengths) > 1 or not all(v.isdigit() and len(v) < 19 for v in lengths)):
        return "a length that is none"
    return ""
