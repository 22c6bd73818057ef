"""Which addresses a name may lead to (IANA special-purpose address registries, RFC 6890). Pure.

An origin's name is under the control of whoever runs its DNS: unless the operator says otherwise it must not
lead into this machine, its network or a cloud's metadata service. IPv6 addresses that carry an IPv4 address
are judged by both.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

PRIVATE: Final = {
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a carrier",
    "127.0.0.0/8": "this machine",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "for protocols",
    "192.0.2.0/24": "for documentation",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "::1/128": "this machine",
    "100::/64": "a black hole",
    "2001:db8::/32": "for documentation",
    "2001::/23": "for protocols",
    "3fff::/20": "for documentation",
    "5f00::/16": "for segment routing",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "private",
}
"""Ranges that are reached only where `allow_private` is set, and what they are."""

NEVER: Final = {
    "0.0.0.0/8": "no address",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "no address",
    "ff00::/8": "multicast",
}
"""Ranges that nobody can be connected to at."""

_PRIVATE: Final = [(ip_network(text), what) for text, what in PRIVATE.items()]
_NEVER: Final = [(ip_network(text), what) for text, what in NEVER.items()]
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


def refusal(address: Address, allow_private: bool) -> str:
    """What an address is that must not be connected to; "" if it may be."""
    ranges = _NEVER if allow_private else _NEVER + _PRIVATE
    for candidate in (address, *_inside(address)):
        for network, what in ranges:
            if candidate.version == network.version and candidate in network:
                return what
    return ""


def literal(host: str) -> Address | None:
    """The address that `host` spells out, brackets or not; None if it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 one leads to: mapped, compatible, 6to4, Teredo and NAT64."""
    if isinstance(address, IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    found += address.teredo or ()
    if any(address in network for network in _NAT64) or 0xFFFF < int(address) <= 0xFFFFFFFF:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]
