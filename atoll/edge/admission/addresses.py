"""Addresses as numbers, and prefixes compiled so that the longest one is found by one binary search. Pure.

Prefixes nest or are disjoint, so they cut the address space into ranges, each of which has one longest
prefix. The ranges are made once; a lookup bisects their beginnings, whatever the number of prefixes.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

from atoll.errors import AtollError

T = TypeVar("T")
_REMEMBERED: Final = 16_384  # addresses as text, most recent: half a microsecond each otherwise
_NETWORK6: Final = 64  # bits of an IPv6 address that one subscriber always has to itself


class Address(NamedTuple):
    """An address: 4 or 6, and its number."""

    version: int
    number: int


class Range(NamedTuple):
    """A prefix as numbers, both ends included."""

    first: int
    last: int


@lru_cache(maxsize=_REMEMBERED)
def address_of(text: str) -> Address | None:
    """The address that `text` spells; an IPv4 address inside an IPv6 one (RFC 4291 §2.5.5.2) is that one."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return Address(found.version, int(found))


def client_key(address: Address | None) -> bytes:
    """What counts as one client: an IPv4 address, or the /64 that an IPv6 one is in."""
    if address is None:
        return b""
    version, number = address
    return number.to_bytes(4, "big") if version == 4 else (number >> _NETWORK6).to_bytes(8, "big")


def prefix_of(text: str, where: str) -> tuple[int, Range]:
    """A prefix or single address: its version and its ends.

    Raises:
        AtollError: it is none, or has bits set beyond its length.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        hint = "write a prefix such as 192.0.2.0/24 or 2001:db8::/32, or one address"
        raise AtollError(f"{text!r} is no network prefix: {error}", hint, where) from None
    return network.version, Range(int(network.network_address), int(network.broadcast_address))


class PrefixTable(Generic[T]):
    """Prefix to value; `find` gives the value of the longest one that holds an address."""

    __slots__ = ("_starts", "_values")

    def __init__(self, prefixes: Iterable[tuple[int, Range, T]]) -> None:
        self._starts: dict[int, list[int]] = {}
        self._values: dict[int, list[T | None]] = {}
        by_version: dict[int, list[tuple[Range, T]]] = {4: [], 6: []}
        for version, ends, value in prefixes:
            by_version[version].append((ends, value))
        for version, found in by_version.items():
            self._starts[version], self._values[version] = _cut(found)

    def find(self, address: Address) -> T | None:
        """The value of the longest prefix that holds `address`."""
        version, number = address
        return self._values[version][bisect_right(self._starts[version], number) - 1]


def _cut(prefixes: list[tuple[Range, T]]) -> tuple[list[int], list[T | None]]:
    """Beginnings of ranges in order, and each range's value; the first begins at 0."""
    starts: list[int] = [0]
    values: list[T | None] = [None]
    open_: list[tuple[Range, T]] = []  # around where we are, the longest prefix last

    def begin(at: int, value: T | None) -> None:
        if starts[-1] == at:
            values[-1] = value
        else:
            starts.append(at)
            values.append(value)

    def close() -> None:
        (_, last), _ = open_.pop()
        begin(last + 1, open_[-1][1] if open_ else None)

    for ends, value in sorted(prefixes, key=lambda item: (item[0].first, -item[0].last)):
        while open_ and open_[-1][0].last < ends.first:
            close()
        begin(ends.first, value)
        open_.append((ends, value))
    while open_:
        close()
    return starts, values
