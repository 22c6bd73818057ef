"""The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), read without consuming anything. Pure.

Three answers: None (more bytes are needed), a name in lower case, or "" (these bytes carry none, or make no
sense: judging them is the business of whoever does the handshake).
"""

from __future__ import annotations

from typing import Final

MAX_HELLO: Final = 16 * 1024

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_MAX_RECORD: Final = 1 << 14


def server_name(data: bytes) -> str | None:
    """The name in the first bytes of a connection; a hello may be spread over several records."""
    hello = bytearray()
    at = 0
    while len(data) >= at + 5:
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if data[at] != _HANDSHAKE or data[at + 1] != 3 or not 0 < size <= _MAX_RECORD:
            return ""
        hello += data[at + 5 : at + 5 + size]
        if hello[:1] not in (b"", bytes((_CLIENT_HELLO,))):
            return ""
        end = 4 + _int(hello, 1, 3)
        if len(hello) >= 4 and end <= len(hello):
            return hello_name(bytes(hello[4:end]))
        at += 5 + size
    if data[:1] not in (b"", bytes((_HANDSHAKE,))):
        return ""
    return None if len(data) < MAX_HELLO else ""


def hello_name(hello: bytes) -> str:
    """The name in a ClientHello's body, without record and handshake headers."""
    at = 2 + 32  # legacy_version, random
    at += 1 + _int(hello, at, 1)  # legacy_session_id
    at += 2 + _int(hello, at, 2)  # cipher_suites
    at += 1 + _int(hello, at, 1)  # legacy_compression_methods
    end = min(len(hello), at + 2 + _int(hello, at, 2))
    at += 2
    while at + 4 <= end:
        kind, size = _int(hello, at, 2), _int(hello, at + 2, 2)
        if kind == _SERVER_NAME:
            return _listed_name(hello[at + 4 : min(end, at + 4 + size)])
        at += 4 + size
    return ""


def _listed_name(names: bytes) -> str:
    at = 2
    while at + 3 <= len(names):
        size = _int(names, at + 1, 2)
        if names[at] == _HOST_NAME:
            name = names[at + 3 : at + 3 + size].rstrip(b".").lower()
            return name.decode("ascii") if name.isascii() else ""
        at += 3 + size
    return ""


def _int(data: bytes | bytearray, at: int, size: int) -> int:
    """A big-endian number; what lies past the end counts as missing, and the caller then finds nothing."""
    return int.from_bytes(data[at : at + size], "big")
