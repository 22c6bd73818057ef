"""A writer of small databases in MaxMind's format (version 2.0), for tests that look addresses up."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from pathlib import Path

Value = str | int | float | dict[str, "Value"]
_SIZE = 24  # bits of a record
_MARKER = b"\xab\xcd\xefMaxMind.com"


def write(path: Path, networks: Mapping[str, Value]) -> None:
    """Networks, none inside another, and their records; in place of what is at `path`."""
    nodes: list[list[int | None]] = [[None, None]]
    data, places = b"", {}
    for text, value in networks.items():
        places[text] = len(data)
        data += _encoded(value)
    leaves: list[tuple[int, int, int]] = []
    for text, place in places.items():
        bits, length = _bits(text)
        at = 0
        for depth in range(length):
            side = bits >> (127 - depth) & 1
            if depth == length - 1:
                leaves.append((at, side, place))
            else:
                below = nodes[at][side]
                if below is None:
                    below = nodes[at][side] = len(nodes)
                    nodes.append([None, None])
                at = below
    count = len(nodes)
    for at, side, place in leaves:
        nodes[at][side] = count + 16 + place
    tree = b"".join(
        (count if record is None else record).to_bytes(_SIZE // 8, "big") for node in nodes for record in node
    )
    about = {
        "node_count": _number(6, count),
        "record_size": _number(5, _SIZE),
        "ip_version": _number(5, 6),
        "database_type": _encoded("Test"),
        "languages": bytes((0, 4)),  # an empty array
        "binary_format_major_version": _number(5, 2),
        "binary_format_minor_version": _number(5, 0),
        "build_epoch": bytes((1, 2, 1)),
        "description": _encoded({}),
    }
    metadata = _control(7, len(about)) + b"".join(_encoded(name) + value for name, value in about.items())
    fresh = path.with_suffix(".new")
    fresh.write_bytes(tree + bytes(16) + data + _MARKER + metadata)
    fresh.rename(path)


def _bits(text: str) -> tuple[int, int]:
    """A network's bits at the left of 128, and how many count; IPv4 is below ::/96."""
    network = ipaddress.ip_network(text)
    number = int(network.network_address)
    return (number, network.prefixlen + 96) if network.version == 4 else (number, network.prefixlen)


def _encoded(value: Value) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        return _control(2, len(raw)) + raw
    if isinstance(value, int):
        return _number(6, value)
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    return _control(7, len(value)) + b"".join(_encoded(key) + _encoded(it) for key, it in value.items())


def _control(kind: int, size: int) -> bytes:
    assert size < 29, "longer values are not needed"
    return bytes((kind << 5 | size,))


def _number(kind: int, value: int) -> bytes:
    raw = value.to_bytes(4, "big").lstrip(b"\0")
    return _control(kind, len(raw)) + raw
