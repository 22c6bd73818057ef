"""Response heads on the wire (RFC 9112 §4, §5): status lines and field lines, names in their usual case.

Pure. Field names are lowercase inside Atoll, as HTTP/2 wants them; HTTP/1.1 clients and people who read
`curl -i` are used to `X-Cache`.
"""

from __future__ import annotations

from http import HTTPStatus

from atoll.http.fields import Headers

STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_SPECIAL = {
    b"etag": b"ETag",
    b"www-authenticate": b"WWW-Authenticate",
    b"content-md5": b"Content-MD5",
    b"dnt": b"DNT",
    b"te": b"TE",
}
_MAX_NAMES = 4096
_names: dict[bytes, bytes] = {}


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` with its line end."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def field_prefix(name: bytes) -> bytes:
    """`X-Cache: ` for `x-cache`."""
    prefix = _names.get(name)
    if prefix is None:
        prefix = _SPECIAL.get(name, name.title()) + b": "
        if len(_names) < _MAX_NAMES:
            _names[name] = prefix
    return prefix


def field_lines(headers: Headers) -> bytes:
    """All field lines, without the empty line that ends a head."""
    known = _names.get
    return b"".join([(known(name) or field_prefix(name)) + value + b"\r\n" for name, value in headers])


def body_allowed(method: bytes, status: int) -> bool:
    """Whether a response may carry a body (RFC 9110 §6.4.1)."""
    return method != b"HEAD" and status >= 200 and status not in (204, 304)
