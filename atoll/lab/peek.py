"""Which name does a client ask for? Read from its first bytes, without consuming or answering anything.

`http_name` reads an HTTP/1 head (RFC 9112 §3.2: an absolute-form target wins over `Host`), `tls_name` the
server name of a TLS ClientHello (RFC 6066 §3), which may be spread over several records. Both answer three
ways: None (more bytes are needed), a host name in lower case, or "" (these bytes carry none: HTTP/2 by prior
knowledge, a malformed start, more than `MAX_PEEK`). Judging malformed input is the PoP's business: it gets
every byte as it came. `city_of` then reads the user's city off the name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from atoll.http.client_hello import server_name as tls_name

__all__ = ["MAX_PEEK", "city_of", "http_name", "tls_name"]

MAX_PEEK: Final = 16 * 1024

_PREFACE: Final = b"PRI * HTTP/2.0"
_MAX_METHOD: Final = 32


def http_name(data: bytes) -> str | None:
    """The host an HTTP/1 request asks for."""
    start = len(data) - len(data.lstrip(b"\r\n"))  # RFC 9112 §2.2: empty lines before are ignored
    end = data.find(b"\n", start)
    if end < 0:
        if not _may_be_method(data[start : start + _MAX_METHOD]):
            return ""
        return _more(data)
    name = _target_name(data[start:end])
    if name is not None:
        return name
    return _host_field(data, end + 1)


def _may_be_method(head: bytes) -> bool:
    method, space, _ = head.partition(b" ")
    if not space and len(head) >= _MAX_METHOD:
        return False
    return all(33 <= byte < 127 for byte in method)


def _target_name(line: bytes) -> str | None:
    """The name in the request line; "" for a line that is none, None when the fields must tell."""
    parts = line.rstrip(b"\r").split(b" ")
    if len(parts) != 3 or line.startswith(_PREFACE) or not parts[2].startswith(b"HTTP/1."):
        return ""
    method, target, _ = parts
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        return _name_of(rest.split(b"/", 1)[0].split(b"?", 1)[0])
    return _name_of(target) if method == b"CONNECT" else None


def _host_field(data: bytes, start: int) -> str | None:
    while True:
        end = data.find(b"\n", start)
        if end < 0:
            return _more(data)
        line = data[start:end].rstrip(b"\r")
        if not line:
            return ""
        field, colon, value = line.partition(b":")
        if colon and field.lower() == b"host":
            return _name_of(value)
        start = end + 1


def _name_of(authority: bytes) -> str:
    """Host of `user@host:port` in lower case; "" for what cannot be a name of ours."""
    host = authority.strip(b" \t").rpartition(b"@")[2]
    if host.startswith(b"["):
        return ""
    name = host.partition(b":")[0].rstrip(b".").lower()
    return name.decode("ascii") if name.isascii() else ""


def _more(data: bytes) -> str | None:
    return None if len(data) < MAX_PEEK else ""


def city_of(name: str, cities: Collection[str], default: str) -> str:
    """The city in `<city>.localhost` or `<site>.<city>.localhost`; `default` for any other name.

    >>> city_of("shop.tokyo.localhost", {"tokyo"}, "new-york"), city_of("example.com", {"tokyo"}, "new-york")
    ('tokyo', 'new-york')
    """
    rest, dot, top = name.rpartition(".")
    if not dot or top != "localhost":
        return default
    label = rest.rpartition(".")[2]
    return label if label in cities else default
