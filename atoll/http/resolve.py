"""Origins' names into addresses: /etc/hosts, then DNS with its TTL.

An answer is used for as long as it says (within bounds) and asked again when it is needed after that, once
for all who wait. When DNS fails, the last good answer goes on being used: an origin does not move because a
resolver is down. A name that is said not to exist is forgotten sooner. What is checked is what is connected
to: callers get addresses, never the name again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:  # asking DNS takes a fifth of a second to load, and a network of addresses never asks
    import dns.asyncresolver
    import dns.nameserver

from atoll.errors import AtollError, RemoteError
from atoll.http.addresses import Address, literal

_TTL_S: Final = (1.0, 3600.0)  # whatever an answer says
_KEEP_S: Final = 24 * 3600.0  # the last good answer when DNS is silent or broken
_KEEP_GONE_S: Final = 30.0  # when it says that there is no such name: mostly somebody's mistake, soon undone
_AGAIN_S: Final = 2.0  # between two questions that fail
_LIFETIME_S: Final = 2.5  # of one question, all servers and repetitions
_REPEAT_S: Final = 0.8  # without an answer: the next server, or the same again
_SECOND_FAMILY_S: Final = 0.05  # for the other family once one has answered (RFC 8305 §3)
_MOST_NAMES: Final = 1024
_MOST_ADDRESSES: Final = 32
_HOSTS: Final = Path("/etc/hosts")


class _Answer(NamedTuple):
    """What DNS says of a name in one family."""

    addresses: tuple[Address, ...] = ()
    ttl_s: float = 0.0
    gone: bool = False  # there is no such name, or it has no address of this family
    error: str = ""


class _Known:
    """What is known of a name. Times are monotonic."""

    __slots__ = ("addresses", "asked_s", "asking", "error", "gone", "good_s", "until_s")

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.until_s = 0.0
        self.good_s = 0.0  # of the last good answer
        self.asked_s = -_AGAIN_S
        self.gone = False
        self.error = ""
        self.asking: asyncio.Task[None] | None = None

    def learn(self, answers: Sequence[_Answer], now_s: float) -> None:
        """What has been answered now; a good answer replaces the last one, a bad one does not."""
        self.asked_s = now_s
        found = [address for answer in answers for address in answer.addresses]
        self.gone = not found and all(answer.gone for answer in answers)
        self.error = next((answer.error for answer in answers if answer.error), "")
        if found:
            ttl_s = min(answer.ttl_s for answer in answers if answer.addresses)
            self.addresses, self.good_s = tuple(found[:_MOST_ADDRESSES]), now_s
            self.until_s = now_s + min(max(ttl_s, _TTL_S[0]), _TTL_S[1])


class Resolver:
    """Names into addresses, for one process. `servers` are `address` or `address:port`; () the machine's."""

    def __init__(self, servers: Sequence[str] = (), hosts: Path = _HOSTS) -> None:
        self._made = bool(servers)
        self._dns = _stub(servers) if servers else None
        self._hosts_file = hosts
        self._hosts: dict[str, tuple[Address, ...]] = {}
        self._hosts_seen: tuple[int, int] = (0, 0)
        self._known: dict[str, _Known] = {}
        self._late: set[asyncio.Task[_Answer]] = set()

    async def addresses(self, host: str) -> tuple[Address, ...]:
        """Where `host` is; an address is itself.

        Raises:
            RemoteError: nobody knows; the message says why.
        """
        itself = literal(host)
        if itself is not None:
            return (itself,)
        name = host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3: never a question for DNS
            return (IPv4Address("127.0.0.1"), IPv6Address("::1"))
        return self._from_hosts(name) or await self._from_dns(name)

    def _from_hosts(self, name: str) -> tuple[Address, ...]:
        try:
            stat = self._hosts_file.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._hosts_seen:
                self._hosts_seen = (stat.st_mtime_ns, stat.st_size)
                self._hosts = parse_hosts(self._hosts_file.read_text("utf-8", "replace"))
        except OSError:
            self._hosts = {}
        return self._hosts.get(name, ())

    async def _from_dns(self, name: str) -> tuple[Address, ...]:
        known = self._known.get(name)
        if known is None:
            while len(self._known) >= _MOST_NAMES:
                self._known.pop(next(iter(self._known)))
            known = self._known[name] = _Known()
        now_s = monotonic()
        if now_s >= known.until_s and now_s - known.asked_s >= _AGAIN_S:
            if known.asking is None:
                known.asking = asyncio.ensure_future(self._ask(name, known))
            await asyncio.shield(known.asking)
            now_s = monotonic()
        keep_s = _KEEP_GONE_S if known.gone else _KEEP_S
        if known.addresses and (now_s < known.until_s or now_s - known.good_s < keep_s):
            return known.addresses
        raise RemoteError(known.error or f"DNS has no address of {name}", 502)

    async def _ask(self, name: str, known: _Known) -> None:
        """Ask for both families at once, and remember what comes in time."""
        tasks = [asyncio.ensure_future(self._ask_one(name, kind)) for kind in ("AAAA", "A")]
        try:
            done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if late:
                quick = any(task.result().addresses for task in done)
                more, late = await asyncio.wait(late, timeout=_SECOND_FAMILY_S if quick else None)
                done |= more
            known.learn([task.result() for task in done], monotonic())
            for task in late:
                self._late.add(task)
                task.add_done_callback(lambda task: self._come_late(known, task))
        finally:
            known.asking = None

    def _come_late(self, known: _Known, task: asyncio.Task[_Answer]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            fresh = [address for address in task.result().addresses if address not in known.addresses]
            known.addresses = (*known.addresses, *fresh)[:_MOST_ADDRESSES]

    async def _ask_one(self, name: str, kind: str) -> _Answer:
        import dns.exception
        import dns.resolver

        if not self._made:
            self._made, self._dns = True, _stub(())
        if self._dns is None:
            return _Answer(error=f"{name}: this machine has no DNS resolver")
        try:
            answer = await self._dns.resolve(name, kind, lifetime=_LIFETIME_S, search=False)
        except dns.resolver.NXDOMAIN:
            return _Answer(gone=True, error=f"DNS says that there is no {name}")
        except dns.resolver.NoAnswer:
            return _Answer(gone=True)
        except dns.resolver.LifetimeTimeout:
            return _Answer(error=f"DNS does not answer for {name}")
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return _Answer(error=f"DNS cannot answer for {name}: {type(error).__name__}")
        addresses = tuple(ip_address(record.address) for record in answer)
        return _Answer(addresses, float(answer.chaining_result.minimum_ttl))


def parse_hosts(text: str) -> dict[str, tuple[Address, ...]]:
    """Names and their addresses in the format of hosts(5). Lines that are none are passed over."""
    found: dict[str, tuple[Address, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        address = literal(words[0]) if words else None
        if address is None:
            continue
        for word in words[1:]:
            name = word.rstrip(".").lower()
            found[name] = (*found.get(name, ()), address)
    return found


def _stub(servers: Sequence[str]) -> dns.asyncresolver.Resolver | None:
    """Raises: AtollError: a server that is no address."""
    import dns.asyncresolver
    import dns.resolver

    try:
        stub = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        return None
    if servers:
        stub.nameservers = [_server(text) for text in servers]
    stub.timeout = _REPEAT_S
    return stub


def _server(text: str) -> dns.nameserver.Nameserver:
    """Raises: AtollError: it is no address."""
    import dns.nameserver

    host, port = text, "53"
    if literal(text) is None:
        host, _, port = text.rpartition(":")
    address = literal(host)
    if address is None or not port.isdigit() or not 0 < int(port) < 65536:
        raise AtollError(f"{text!r} is no DNS resolver", "an address, or address:port", "resolvers")
    return dns.nameserver.Do53Nameserver(str(address), int(port))
