"""A UDP socket that QUIC connections share: which datagram is whose, and what strangers are told.

Datagrams are read in batches, and every connection that one was for is flushed once at the end: answers,
acknowledgements and credit leave together, in one system call where the kernel cuts datagrams itself (UDP's
segmentation offload). A socket may be shared with another process while one replaces the other. A connection
id says whose a datagram is; one for the other process goes to its socket in `folder`. For a process that is
gone, a stateless reset (RFC 9000 §10.3) tells the client to begin anew instead of waiting.

Handshakes cost far more than anything else here. Beyond `limits.quic_arriving` of them at once a client has
to show that it can receive at its address (Retry, RFC 9000 §8.1.2) before it gets one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from pathlib import Path
from time import time
from typing import Final

from aioquic._buffer import Buffer
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.http.datagrams import Address, DatagramSender
from atoll.http.exchange import App, ConnectionInfo
from atoll.http.guard import LOOPBACK, Guard
from atoll.http.h3 import H3Connection
from atoll.http.h3_engine import EXCESSIVE_LOAD, NO_ERROR
from atoll.http.h3_prepared import PreparedResponses
from atoll.http.quic import (
    CID_BYTES,
    OWNER_BYTES,
    RESET_TOKEN_BYTES,
    Host,
    ServerConnection,
    quic_configuration,
    reset_token,
)
from atoll.http.quic_tls import QuicLeaves, Tickets
from atoll.http.tls import TlsCounts

logging.getLogger("quic").setLevel(logging.ERROR)  # it tells of every client that breaks a rule

SECRET_BYTES: Final = 32
BUFFER_BYTES: Final = 4 * 1024 * 1024  # asked for; the kernel may give less
_LONG: Final = 0x80  # of a packet's first byte
_FIXED: Final = 0x40
_SMALLEST_INITIAL: Final = 1200  # RFC 9000 §14.1
_LARGEST: Final = 2048  # no datagram that we told clients to send is larger
_TIMER_GRAIN_S: Final = 0.001  # loops count in milliseconds
_BATCH: Final = 64  # datagrams read in one turn of the loop
_ROUNDS: Final = 8  # of flushes in one turn: what wakes a producer writes more
_RESETS_A_SECOND: Final = 100
_SMALLEST_RESET: Final = 21  # RFC 9000 §10.3: shorter ones give themselves away


class QuicEndpoint:
    """Every QUIC connection of a process. Like a `Listener`, it accepts until it is closed."""

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        leaves: QuicLeaves,
        secret: bytes,
        folder: Path,
        proxies: frozenset[str] = LOOPBACK,
    ) -> None:
        self._app = app
        self._proxies = proxies  # who is behind those is not told apart
        self._guard = Guard(app.limits)
        self._sock = sock
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._host = Host(
            owner=os.urandom(OWNER_BYTES),
            secret=secret,
            configuration=quic_configuration(app.limits, leaves),
            limits=app.limits,
            leaves=leaves,
            tickets=Tickets(),
        )
        self.connections: set[H3Connection] = set()
        self.handshakes = TlsCounts()
        self._by_cid: dict[bytes, H3Connection] = {}
        self._cids: dict[H3Connection, set[bytes]] = {}
        self._prepared = PreparedResponses()
        self._timers: dict[H3Connection, asyncio.TimerHandle] = {}
        self._arriving = 0
        self._accepting = True
        self._dirty: dict[H3Connection, None] = {}
        self._flushing = False  # or about to
        self._out = DatagramSender(sock)
        self._resets = (0, 0)  # second, stateless resets sent in it
        self._tokens = QuicRetryTokenHandler()
        self._tokens._aead = AESGCM(reset_token(secret, b"retry"))  # a successor honours what we gave out
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._inbox = self._open_inbox()
        self._loop.add_reader(sock.fileno(), self._readable)
        self._loop.add_reader(self._inbox.fileno(), self._forwarded)

    # --- as a listener

    @property
    def arriving(self) -> bool:
        """Whether a handshake is under way."""
        return self._arriving > 0

    @property
    def busy(self) -> int:
        """Connections of any state."""
        return len(self.connections)

    def close(self) -> None:
        """Accept no more. What comes for open connections is read on; new ones are a successor's."""
        self._accepting = False

    def end(self) -> None:
        """Close every connection at once, and the socket."""
        self.close()
        for connection in list(self.connections):
            connection.close(NO_ERROR)
        self._flush()
        for connection in list(self.connections):
            self.ended(connection)
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_reader(self._inbox.fileno())
        self._sock.close()
        self._inbox.close()
        self._inbox_path(self._host.owner).unlink(missing_ok=True)

    def check_timeouts(self) -> None:
        """Let every connection look at the clock; called every few seconds."""
        now_s = time()
        for connection in list(self.connections):
            if not connection.quic.established and not connection.quic.ended:
                self.handshakes.timed_out += now_s - connection.began_s > self._app.limits.tls_handshake_s
            connection.check_timeouts(now_s)

    def close_idle(self, now_s: float, quiet_s: float) -> None:
        """End connections that nothing has been asked on for `quiet_s`."""
        for connection in list(self.connections):
            if connection.idle() and now_s - connection.last_activity_s > quiet_s:
                connection.goaway()
                connection.close(NO_ERROR)

    # --- datagrams in

    def _readable(self) -> None:
        now = self._loop.time()
        for _ in range(_BATCH):
            try:
                data, address = self._sock.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # what an earlier datagram of ours met on its way
            self._receive(data, address[:2], now, forwarded=False)
        self._flush()

    def _forwarded(self) -> None:
        """From the process that shares the socket."""
        now = self._loop.time()
        for _ in range(_BATCH):
            try:
                packed = self._inbox.recv(_LARGEST + 64)
            except (BlockingIOError, InterruptedError):
                break
            (port, size) = struct.unpack_from("!HB", packed)
            host = packed[3 : 3 + size].decode("ascii")
            self._receive(packed[3 + size :], (host, port), now, forwarded=True)
        self._flush()

    def _receive(self, data: bytes, address: Address, now: float, forwarded: bool) -> None:
        if len(data) < _SMALLEST_RESET:
            return
        long = data[0] & _LONG
        cid = data[6 : 6 + data[5]] if long else data[1 : 1 + CID_BYTES]
        connection = self._by_cid.get(cid)
        if connection is None:
            connection = self._stranger(data, cid, address, now, forwarded)
            if connection is None:
                return
        connection.quic.receive_datagram(data, address, now)
        connection.process()
        self._dirty[connection] = None

    def _stranger(
        self, data: bytes, cid: bytes, address: Address, now: float, forwarded: bool
    ) -> H3Connection | None:
        """A datagram for no connection of ours: the first of a new one, or another process'."""
        owner = cid[:OWNER_BYTES]
        if not forwarded and len(cid) == CID_BYTES and owner != self._host.owner:
            if self._pass_on(self._inbox_path(owner), data, address):
                return None
            if not data[0] & _LONG:
                self._reset(cid, len(data), address)
                return None
        if not data[0] & _LONG:
            return None
        if not self._accepting:
            if not forwarded:
                self._pass_to_successor(data, address)
            return None
        return self._introduce(data, address, now)

    def _introduce(self, data: bytes, address: Address, now: float) -> H3Connection | None:
        """What begins a connection, or is answered without one (RFC 8999 §6, RFC 9000 §14.1)."""
        if len(data) < _SMALLEST_INITIAL:
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return None
        if header.version not in self._host.configuration.supported_versions:
            self._negotiate(header, address)
            return None
        if header.packet_type != QuicPacketType.INITIAL or self.busy >= self._app.limits.connections:
            return None
        if address[0] not in self._proxies and self._guard.full(address[0]):
            return None
        original, retried = header.destination_cid, None
        if header.token:
            with contextlib.suppress(ValueError):
                original = self._tokens.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=now
                )
                retried = header.destination_cid
        if retried is None and self._arriving >= self._app.limits.quic_arriving:
            self._retry(header, address, now)
            return None
        return self._accept(header, original, retried, address)

    def _accept(
        self, header: QuicHeader, original: bytes, retried: bytes | None, address: Address
    ) -> H3Connection:
        cids = {header.destination_cid}
        quic = ServerConnection(self._host, original, retried, cids.add)
        info = ConnectionInfo(address[0], address[1], b"https")
        connection = H3Connection(self._app, info, quic, self, self._prepared)
        self._cids[connection] = cids
        for cid in cids:
            self._by_cid[cid] = connection
        quic.known = lambda cid: self._know(connection, cid)
        self.connections.add(connection)
        self._arriving += 1
        return connection

    def _know(self, connection: H3Connection, cid: bytes) -> None:
        self._by_cid[cid] = connection
        self._cids[connection].add(cid)

    # --- answers without a connection

    def _negotiate(self, header: QuicHeader, address: Address) -> None:
        packet = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._host.configuration.supported_versions,
        )
        self._out.send(packet, address)

    def _retry(self, header: QuicHeader, address: Address, now: float) -> None:
        assert header.version is not None
        source = self._host.new_cid()
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        packet = encode_quic_retry(
            version=header.version,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._out.send(packet, address)

    def _reset(self, cid: bytes, size: int, address: Address) -> None:
        """A stateless reset: shorter than what it answers, so that two of us never talk for ever."""
        length = min(size - 1, 2 * _SMALLEST_RESET)
        second, sent = int(self._loop.time()), 0
        if self._resets[0] == second:
            sent = self._resets[1]
        if length < _SMALLEST_RESET or sent >= _RESETS_A_SECOND:
            return
        self._resets = (second, sent + 1)
        noise = bytearray(os.urandom(length - RESET_TOKEN_BYTES))
        noise[0] = noise[0] & 0x3F | _FIXED
        self._out.send(bytes(noise) + self._host.reset_token(cid), address)

    # --- another process on the same socket

    def _inbox_path(self, owner: bytes) -> Path:
        return self._folder / f"quic-{owner.hex()}.sock"

    def _open_inbox(self) -> socket.socket:
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.setblocking(False)
        path = self._inbox_path(self._host.owner)
        path.unlink(missing_ok=True)
        inbox.bind(str(path))
        path.chmod(0o600)
        return inbox

    def _pass_on(self, path: Path, data: bytes, address: Address) -> bool:
        """Whether somebody is there to take it."""
        host = address[0].encode("ascii")
        try:
            self._inbox.sendto(struct.pack("!HB", address[1], len(host)) + host + data, str(path))
        except (BlockingIOError, InterruptedError):
            return True  # too busy: lost, as datagrams are
        except FileNotFoundError:
            return False
        except OSError:
            path.unlink(missing_ok=True)  # its owner has ended without putting it away
            return False
        return True

    def _pass_to_successor(self, data: bytes, address: Address) -> None:
        """A new client while we are leaving: whoever serves on the same socket takes it."""
        own = self._inbox_path(self._host.owner)
        for path in self._folder.glob("quic-*.sock"):
            if path != own and self._pass_on(path, data, address):
                return

    # --- as connections' carrier

    def want_flush(self, connection: H3Connection) -> None:
        """See `Carrier`."""
        self._dirty[connection] = None
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def retire(self, cid: bytes) -> None:
        """See `Carrier`."""
        connection = self._by_cid.pop(cid, None)
        if connection is not None:
            self._cids[connection].discard(cid)

    def established(self, connection: H3Connection, resumed: bool) -> None:
        """See `Carrier`."""
        self._arriving -= 1
        self.handshakes.done += 1
        self.handshakes.resumed += resumed
        # Only now it is known that the address is the client's own.
        ip = connection.info.client_ip
        who = b"" if ip in self._proxies else self._guard.enter(ip)
        if who is None:
            connection.close(EXCESSIVE_LOAD, "too many connections")
        else:
            self._guard.opened(connection, who)

    def ended(self, connection: H3Connection) -> None:
        """See `Carrier`."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self._guard.closed(connection)
        if not connection.quic.established:
            self._arriving -= 1
            self.handshakes.failed += 1
        for cid in self._cids.pop(connection):
            self._by_cid.pop(cid, None)
        self._dirty.pop(connection, None)
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    # --- datagrams out

    def _flush(self) -> None:
        """Let every connection that something has happened on say what it has to."""
        self._flushing = True
        now = self._loop.time()
        for _ in range(_ROUNDS):
            dirty, self._dirty = self._dirty, {}
            for connection in dirty:
                if connection in self.connections:
                    self._transmit(connection, now)
        if self._dirty:
            self._loop.call_soon(self._flush)
        else:
            self._flushing = False

    def _transmit(self, connection: H3Connection, now: float) -> None:
        quic = connection.quic
        quic.acknowledge_now(now)
        datagrams = quic.datagrams_to_send(now)
        self._out.send_all(datagrams)
        connection.flushed()
        self._set_timer(connection)

    # --- time

    def _set_timer(self, connection: H3Connection) -> None:
        """Timers that come too early look again; only one that would come too late is replaced."""
        at = connection.quic.get_timer()
        timer = self._timers.get(connection)
        if at is None or (timer is not None and timer.when() <= at):
            return
        if timer is not None:
            timer.cancel()
        self._timers[connection] = self._loop.call_at(at, self._on_timer, connection)

    def _on_timer(self, connection: H3Connection) -> None:
        self._timers.pop(connection, None)
        now = self._loop.time()
        at = connection.quic.get_timer()
        if at is not None and at <= now + _TIMER_GRAIN_S:
            connection.quic.handle_timer(max(now, at))
            connection.process()
            self._dirty[connection] = None
            self._flush()
        elif connection in self.connections:
            self._set_timer(connection)
