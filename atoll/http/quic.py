"""One QUIC connection (RFC 9000) on aioquic, with what a server on the open Internet has to bound.

What is different from the library's own: connection ids say which process they belong to; stateless reset
tokens follow from a secret, so that a successor can end what its predecessor has left; flow control follows
what has been taken, not what has arrived; the certificate follows the name in the hello; what was received
is acknowledged with the answer instead of in a packet of its own; and a packet that is full is not offered to
all other streams.

It reaches into the library's private parts, whose version is locked, and nothing else does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2s
from typing import Final

import msgspec
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionId,
    QuicConnectionState,
)
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch, SessionTicket

from atoll.http.limits import Limits
from atoll.http.quic_tls import QuicLeaf, QuicLeaves, ServerTls, Tickets

CID_BYTES: Final = 8
OWNER_BYTES: Final = 3  # of a connection id: the process it belongs to
RESET_TOKEN_BYTES: Final = 16
# What almost every path carries; there is no search for more. It is what browsers begin with, too.
DATAGRAM_BYTES: Final = 1350
_UNIDIRECTIONAL: Final = 16  # HTTP/3 needs three of them; others may be tried and are ignored
_LEAST_ROOM: Final = 32  # bytes of a packet that are worth another stream's frame
_ENDED: Final = (QuicConnectionState.CLOSING, QuicConnectionState.DRAINING, QuicConnectionState.TERMINATED)


class Host(msgspec.Struct, frozen=True):
    """What all connections of a process share."""

    owner: bytes  # OWNER_BYTES at the beginning of each connection id
    secret: bytes
    configuration: QuicConfiguration
    limits: Limits
    leaves: QuicLeaves
    tickets: Tickets

    def new_cid(self) -> bytes:
        """A connection id that leads here."""
        return self.owner + os.urandom(CID_BYTES - OWNER_BYTES)

    def reset_token(self, cid: bytes) -> bytes:
        """What proves that we have forgotten the connection of `cid` (RFC 9000 §10.3.2)."""
        return reset_token(self.secret, cid)


def reset_token(secret: bytes, cid: bytes) -> bytes:
    """A stateless reset token; nobody can make it without the secret."""
    return blake2s(cid, key=secret, digest_size=RESET_TOKEN_BYTES, person=b"reset").digest()


def quic_configuration(limits: Limits, leaves: QuicLeaves) -> QuicConfiguration:
    """What every connection begins with."""
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        connection_id_length=CID_BYTES,
        congestion_control_algorithm="cubic",
        idle_timeout=limits.idle_timeout_s,
        max_data=4 * limits.buffered,
        max_stream_data=limits.buffered,
        max_datagram_size=DATAGRAM_BYTES,
        certificate=leaves.default.chain[0],  # until the hello has been read
        private_key=leaves.default.key,
    )


class ServerConnection(QuicConnection):
    """The transport of one client. `known(cid)` is called for each connection id that leads to it."""

    def __init__(
        self, host: Host, original_cid: bytes, retry_cid: bytes | None, known: Callable[[bytes], None]
    ) -> None:
        self._host = host
        self.known = known
        self.server_name = ""
        self.held: set[int] = set()  # streams of which no more is wanted for now
        self.full = False  # nothing more is wanted at all
        super().__init__(
            configuration=host.configuration,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
            session_ticket_fetcher=self._take_ticket,
            session_ticket_handler=self._keep_ticket,
        )
        first = self._make_cid(0)
        first.was_sent = True
        self._host_cids = [first]
        self.host_cid = self._local_initial_source_connection_id = first.cid
        self._local_max_streams_bidi = _limit(QuicFrameType.MAX_STREAMS_BIDI, host.limits.h3_streams)
        self._local_max_streams_uni = _limit(QuicFrameType.MAX_STREAMS_UNI, _UNIDIRECTIONAL)

    @property
    def established(self) -> bool:
        """Whether the handshake is complete: before that, what a client sends may be a replay."""
        return self._handshake_complete

    @property
    def ended(self) -> bool:
        """Whether it is closed, by either side."""
        return self._close_pending or self._state in _ENDED

    @property
    def client(self) -> tuple[str, int]:
        """Where its client is now."""
        address = self._network_paths[0].addr
        return address[0], address[1]

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that have not left yet."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender.buffer_is_empty:
            return 0
        sender = stream.sender
        return sender._buffer_stop - sender.next_offset

    def backlog(self) -> int:
        """Bytes of all streams that have not left yet."""
        return sum(
            stream.sender._buffer_stop - stream.sender.next_offset
            for stream in self._streams.values()
            if not stream.sender.buffer_is_empty
        )

    def acknowledge_now(self, now: float) -> None:
        """Let what is about to be sent say what has been received."""
        space = self._spaces.get(Epoch.ONE_RTT)
        if space is not None and space.ack_at is not None:
            space.ack_at = now

    def stop_receiving(self, stream_id: int, code: int) -> None:
        """Tell the client that no more of a stream is wanted, if more may come."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.receiver.stop(code)

    # --- connection ids

    def _make_cid(self, number: int) -> QuicConnectionId:
        cid = self._host.new_cid()
        self.known(cid)
        return QuicConnectionId(cid, number, self._host.reset_token(cid))

    def _replenish_connection_ids(self) -> None:
        while len(self._host_cids) < min(8, self._remote_active_connection_id_limit):
            self._host_cids.append(self._make_cid(self._host_cid_seq))
            self._host_cid_seq += 1

    # --- TLS

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        context = self.tls
        context.__class__ = ServerTls
        assert isinstance(context, ServerTls)
        context.on_name = self._choose

    def _choose(self, name: str) -> QuicLeaf:
        self.server_name = name
        return self._host.leaves.find(name)

    def _take_ticket(self, identity: bytes) -> SessionTicket | None:
        return self._host.tickets.take(self.server_name, identity)

    def _keep_ticket(self, ticket: SessionTicket) -> None:
        self._host.tickets.keep(self.server_name, ticket)

    # --- flow control: windows slide over what has been taken, and never grow

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        receiver = stream.receiver
        if receiver.is_finished or not stream.max_stream_data_local:
            return
        window = self._configuration.max_stream_data
        left = stream.max_stream_data_local - receiver.highest_offset
        if left < window // 2 and stream.stream_id not in self.held and not self.full:
            stream.max_stream_data_local = receiver.highest_offset + window
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buffer = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        assert stream.stream_id is not None
        buffer.push_uint_var(stream.stream_id)
        buffer.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data = self._local_max_data
        window = self._configuration.max_data
        if data.value - data.used < window // 2 and not self.full:
            data.value = data.used + window
        if data.value != data.sent:
            self._announce(builder, data)
        for streams in (self._local_max_streams_bidi, self._local_max_streams_uni):
            # In batches: only when as many are left to the client as it would be given.
            if streams.value != streams.sent and streams.sent - streams.used < streams.value - streams.sent:
                self._announce(builder, streams)

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream, max_offset: int
    ) -> int:
        """Every stream that has something to send is asked for every packet: a full one costs little."""
        if builder.remaining_flight_space < _LEAST_ROOM:
            return 0
        return super()._write_stream_frame(builder, space, stream, max_offset)

    def _announce(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        buffer = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        buffer.push_uint_var(limit.value)
        limit.sent = limit.value


def _limit(frame_type: int, value: int) -> Limit:
    return Limit(frame_type=frame_type, name="", value=value)
