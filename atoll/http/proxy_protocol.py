"""PROXY protocol, version 2: the header a layer 4 gateway puts before a connection's first byte.

Reading answers three ways: more bytes are needed, here is who connected, or this is malformed. A `LOCAL`
header (a health check of the gateway itself) and address families other than IP carry no client: the source
is empty and the socket's own address counts. Bounded: a header longer than `MAX_HEADER` is refused before
its rest is waited for.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

import msgspec

from atoll.errors import RemoteError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_HEADER: Final = 536
"""The specification's own bound for what fits the smallest segment."""

_FIXED: Final = 16
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_ADDRESSES: Final = {
    _TCP4: struct.Struct("!4s4sHH"),
    0x12: struct.Struct("!4s4sHH"),
    _TCP6: struct.Struct("!16s16sHH"),
    0x22: struct.Struct("!16s16sHH"),
}
"""Family and transport to the layout of its address block; UDP's is TCP's."""


class Parsed(msgspec.Struct, frozen=True):
    """A complete header. `length` is what to take off the connection; empty addresses mean `LOCAL`."""

    source_ip: str
    source_port: int
    dest_ip: str
    dest_port: int
    length: int


def is_prefix(data: bytes) -> bool:
    """Whether `data` starts like a PROXY v2 header, as far as it goes."""
    return SIGNATURE.startswith(data[: len(SIGNATURE)])


def parse(data: bytes) -> Parsed | None:
    """The header at the start of `data`, or None when more bytes are needed.

    Raises:
        RemoteError: not a version 2 header, or one that contradicts itself.
    """
    if not is_prefix(data):
        raise RemoteError("no PROXY protocol v2 signature", status=400)
    if len(data) < _FIXED:
        return None
    command, family, size = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if command not in (_LOCAL, _PROXY):
        raise RemoteError(f"PROXY protocol version and command 0x{command:02x}", status=400)
    length = _FIXED + size
    if length > MAX_HEADER:
        raise RemoteError(f"a PROXY header of {length} bytes", status=400, hint=f"at most {MAX_HEADER}")
    if len(data) < length:
        return None
    layout = _ADDRESSES.get(family)
    if command == _LOCAL or layout is None:
        return Parsed("", 0, "", 0, length)
    return _with_addresses(data, layout, length)


def _with_addresses(data: bytes, layout: struct.Struct, length: int) -> Parsed:
    if length - _FIXED < layout.size:
        raise RemoteError("a PROXY header too short for its addresses", status=400)
    source, dest, source_port, dest_port = layout.unpack_from(data, _FIXED)
    return Parsed(
        str(ipaddress.ip_address(source)), source_port, str(ipaddress.ip_address(dest)), dest_port, length
    )


def build(source_ip: str, source_port: int, dest_ip: str, dest_port: int) -> bytes:
    """The header of a TCP connection. Mixed families are written as IPv6, the IPv4 side mapped.

    Raises:
        ValueError: not an IP address.
    """
    source, dest = ipaddress.ip_address(source_ip), ipaddress.ip_address(dest_ip)
    family = _TCP4 if source.version == dest.version == 4 else _TCP6
    size = 4 if family == _TCP4 else 16
    layout = _ADDRESSES[family]
    block = layout.pack(_packed(source.packed, size), _packed(dest.packed, size), source_port, dest_port)
    return SIGNATURE + struct.pack("!BBH", _PROXY, family, len(block)) + block


def _packed(address: bytes, size: int) -> bytes:
    if len(address) == size:
        return address
    return b"\x00" * 10 + b"\xff\xff" + address
