"""The handshake of a WebSocket, on both sides of the edge (RFC 6455 §4, RFC 8441 §5). Pure.

A connection becomes a tunnel only if both sides have proven that they mean it. The edge asks the origin with
a key of its own and compares what comes back; only then does the client get the answer to its own key. So
nobody can talk an origin, or the edge in its name, into a tunnel that is none: with a cache in between that
would be a way to put words into other clients' mouths.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from atoll.http.fields import Headers, get_all, is_token

WEBSOCKET: Final = b"websocket"
KEY: Final = b"sec-websocket-key"
ACCEPT: Final = b"sec-websocket-accept"
_PROTOCOL: Final = b"sec-websocket-protocol"
_EXTENSIONS: Final = b"sec-websocket-extensions"
_VERSION: Final = b"sec-websocket-version"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_SIZE: Final = 16


class Fault(NamedTuple):
    """Why a handshake is refused, with the fields that say what would be right."""

    status: int
    reason: str
    headers: Headers = []  # noqa: RUF012 - never changed


def accept_for(key: bytes) -> bytes:
    """`Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def request_fault(headers: Headers, *, with_key: bool) -> Fault | None:
    """What is wrong with a client's handshake, if anything. `with_key`: HTTP/1.1's has one."""
    versions = get_all(headers, _VERSION)
    if versions != [b"13"]:
        return Fault(426, "only version 13 of the WebSocket protocol is spoken", [(_VERSION, b"13")])
    if with_key:
        keys = get_all(headers, KEY)
        if len(keys) != 1 or not _is_key(keys[0]):
            return Fault(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    if not all(map(is_token, _members(headers, _PROTOCOL))):
        return Fault(400, "Sec-WebSocket-Protocol is not a list of tokens")
    return None


def with_key(headers: Headers, key: bytes) -> Headers:
    """A client's fields as the origin gets them: with the edge's `key`, whatever it said itself."""
    return [*(field for field in headers if field[0] not in (KEY, ACCEPT)), (KEY, key)]


def answer_fault(asked: Headers, headers: Headers) -> str:
    """What is wrong with an origin's 101 to the request `asked` (RFC 6455 §4.1); "" if nothing is."""
    keys = get_all(asked, KEY)
    if get_all(headers, ACCEPT) != [accept_for(key) for key in keys]:
        return "the origin does not prove that it has read the handshake"
    chosen = get_all(headers, _PROTOCOL)
    if len(chosen) > 1 or not set(chosen) <= set(_members(asked, _PROTOCOL)):
        return "the origin has chosen a subprotocol that nobody offered"
    offered = {name for name, _, _ in (m.partition(b";") for m in _members(asked, _EXTENSIONS))}
    used = {name for name, _, _ in (m.partition(b";") for m in _members(headers, _EXTENSIONS))}
    if not {name.strip() for name in used} <= {name.strip() for name in offered}:
        return "the origin uses an extension that nobody offered"
    return ""


def answer_for(asked: Headers, headers: Headers) -> Headers:
    """An origin's 101 as the client gets it: proven to its own key, if it has sent one in `asked`."""
    fields = [field for field in headers if field[0] != ACCEPT]
    return fields + [(ACCEPT, accept_for(key)) for key in get_all(asked, KEY)]


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == _KEY_SIZE
    except binascii.Error:
        return False


def _members(headers: Headers, name: bytes) -> list[bytes]:
    members = (m.strip(b" \t") for value in get_all(headers, name) for m in value.split(b","))
    return [member for member in members if member]
