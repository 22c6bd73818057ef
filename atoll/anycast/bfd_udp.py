"""BFD sessions over UDP, one hop away: the shell around `bfd.Session` (RFC 5881).

Packets go to port 3784 from a port of 49152 to 65535 that each session has to itself (§4), with a TTL or hop
limit of 255, and none that arrives with less is believed (§5). Linux tells it beside each datagram.

A process that was held up finds, when it goes on, both that a neighbour's time is over and that its packets
wait in the socket. So the sockets are read dry before any time counts as over: being late ourselves is no
sign that the neighbour is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from random import SystemRandom
from typing import Final

import msgspec

from atoll.anycast.bfd import Change, Outcome, Session, Timers
from atoll.anycast.bfd_packet import ControlPacket, Reason, State, decode, encode
from atoll.errors import AtollError

PORT: Final = 3784
SOURCE_PORTS: Final = (49152, 65535)
TTL: Final = 255
PRIORITY: Final = 0xC0  # DSCP CS6, network control: the last to be dropped where a link is full
RECEIVED_AT_ONCE: Final = 64  # datagrams a visit of a socket, so that a flood cannot hold the loop

_DATAGRAM: Final = 512  # a control packet has 24 octets
_ANCILLARY: Final = socket.CMSG_SPACE(struct.calcsize("@i")) * 2
_TRIES: Final = 64
_IP_RECVTTL: Final = 12  # <linux/in.h>; Python 3.11 has no name for it
_HOPS: Final = {  # where the kernel puts the TTL of a datagram
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour on the same link. `interface` is needed for link-local addresses alone."""

    address: str
    local: str
    interface: str = ""
    timers: Timers = Timers()
    passive: bool = False


OnChange = Callable[[Peer, Change], None]


class _Running:
    """One session, its socket to send from, and its timer."""

    def __init__(self, peer: Peer, session: Session, sender: socket.socket) -> None:
        self.peer = peer
        self.session = session
        self.sender = sender
        self.timer: asyncio.TimerHandle | None = None
        self.parted: asyncio.Future[None] | None = None


class BfdService:
    """The sessions of one process. `discarded` counts what was not believed, by reason."""

    def __init__(self, on_change: OnChange, chance: Callable[[], float] | None = None) -> None:
        self._on_change = on_change
        self._random = SystemRandom()
        self._chance = chance or self._random.random
        self._listeners: dict[tuple[str, str], socket.socket] = {}
        self._by_address: dict[str, _Running] = {}
        self.discarded: Counter[Reason] = Counter()
        self.unsent = 0

    def state(self, address: str) -> State:
        """The state of the session with that neighbour; AdminDown where there is none."""
        running = self._by_address.get(address)
        return running.session.state if running is not None else State.ADMIN_DOWN

    def detection_s(self, address: str) -> float:
        """After how long a silence that neighbour is given up; 0 while it is not heard."""
        return self._by_address[address].session.detection_us / 1e6

    def add(self, peer: Peer) -> None:
        """Begin a session.

        Raises:
            AtollError: there is one with that neighbour, timers out of bounds, or no socket to be had.
        """
        if peer.address in self._by_address:
            raise AtollError(f"two BFD sessions with {peer.address}", hint="one a neighbour", where="bfd")
        loop = asyncio.get_running_loop()
        session = Session(self._discriminator(), peer.timers, loop.time(), passive=peer.passive)
        try:
            self._listen(peer)
            sender = self._sender(peer)
        except OSError as error:
            raise AtollError(
                f"no BFD with {peer.address}: {error.strerror}",
                hint=f"the local address {peer.local} has to be this machine's, UDP port {PORT} free",
                where="bfd",
            ) from error
        running = _Running(peer, session, sender)
        self._by_address[peer.address] = running
        self._rearm(running)

    async def remove(self, address: str) -> None:
        """End a session so that the neighbour takes it for the operator's wish, not for a failure."""
        running = self._by_address[address]
        loop = asyncio.get_running_loop()
        running.parted = loop.create_future()
        self._do(running, running.session.disable(loop.time(), self._chance()))
        await running.parted
        self._forget(running)

    async def close(self) -> None:
        """End all sessions."""
        await asyncio.gather(*(self.remove(address) for address in tuple(self._by_address)))
        for listener in self._listeners.values():
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners.clear()

    # Sockets.

    def _listen(self, peer: Peer) -> None:
        key = (peer.local, peer.interface)
        if key in self._listeners:
            return
        listener = self._listeners[key] = _bound(peer, PORT)
        asyncio.get_running_loop().add_reader(listener, self._read, listener)

    def _sender(self, peer: Peer) -> socket.socket:
        """A socket with a source port of its own, which only this neighbour's answers could reach."""
        for left in reversed(range(_TRIES)):
            try:
                sender = _bound(peer, self._random.randint(*SOURCE_PORTS))
                break
            except OSError:
                if not left:
                    raise
        sender.connect(_endpoint(peer.address, peer.interface, PORT))
        return sender

    def _read(self, listener: socket.socket) -> None:
        for _ in range(RECEIVED_AT_ONCE):
            try:
                datagram, ancillary, _, source = listener.recvmsg(_DATAGRAM, _ANCILLARY)
            except OSError:  # nothing waits; or an ICMP error, which says nothing that silence does not
                return
            self._take(datagram, _hops(listener.family, ancillary), source[0])

    def _take(self, datagram: bytes, hops: int, source: str) -> None:
        found = self._believed(datagram, hops, source)
        if isinstance(found, Reason):
            self.discarded[found] += 1
            return
        running, packet = found
        outcome = running.session.receive(packet, asyncio.get_running_loop().time(), self._chance())
        if isinstance(outcome, Reason):
            self.discarded[outcome] += 1
        else:
            self._do(running, outcome)

    def _believed(self, datagram: bytes, hops: int, source: str) -> tuple[_Running, ControlPacket] | Reason:
        """Whose packet it is. The neighbour's address counts even where a discriminator would do."""
        if hops != TTL:
            return Reason.TTL
        packet = decode(datagram)
        if isinstance(packet, Reason):
            return packet
        running = self._by_address.get(source.partition("%")[0])
        if running is None:
            return Reason.UNKNOWN_SOURCE
        return running, packet

    # Time.

    def _tick(self, running: _Running) -> None:
        for listener in self._listeners.values():
            self._read(listener)
        if self._by_address.get(running.peer.address) is running:
            self._do(running, running.session.tick(asyncio.get_running_loop().time(), self._chance()))

    def _do(self, running: _Running, outcome: Outcome) -> None:
        for packet in outcome.send:
            try:
                running.sender.send(encode(packet))
            except OSError:  # the link is down, or nobody listens there: BFD finds out by itself
                self.unsent += 1
        self._rearm(running)
        if outcome.change is not None:
            self._on_change(running.peer, outcome.change)
        if running.parted is not None and running.session.parted and not running.parted.done():
            running.parted.set_result(None)

    def _rearm(self, running: _Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        next_s = running.session.next_s
        if next_s != float("inf"):
            running.timer = asyncio.get_running_loop().call_at(next_s, self._tick, running)

    def _forget(self, running: _Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
        del self._by_address[running.peer.address]
        running.sender.close()

    def _discriminator(self) -> int:
        taken = {running.session.discriminator for running in self._by_address.values()}
        while (number := self._random.randint(1, 2**32 - 1)) in taken:
            pass
        return number


def prefer_promptness() -> bool:
    """Run before everything else on this machine, where the kernel allows it; whether it does.

    A process that sends a packet each 50 ms and sleeps in between takes no time from others, while one that
    is made to wait 150 ms for its turn looks dead.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return False
    return True


def _bound(peer: Peer, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _set_up(made, family)
        made.bind(_endpoint(peer.local, peer.interface, port))
    except OSError:
        made.close()
        raise
    return made


def _set_up(made: socket.socket, family: int) -> None:
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, PRIORITY)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, PRIORITY)


def _endpoint(address: str, interface: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in address:
        return address, port
    return address, port, 0, socket.if_nametoindex(interface) if interface else 0


def _hops(family: int, ancillary: list[tuple[int, int, bytes]]) -> int:
    """The TTL or hop limit that the kernel told; -1 if it told none."""
    wanted = _HOPS[socket.AddressFamily(family)]
    for level, kind, data in ancillary:
        if (level, kind) == wanted:
            return int(struct.unpack_from("@i", data)[0])
    return -1
