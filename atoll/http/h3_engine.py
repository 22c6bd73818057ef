"""HTTP/3 framing (RFC 9114 §7) on aioquic: what is read from a client's streams, what is written to them.

Field sections stay encoded until somebody wants to read them: without a dynamic table (this server offers
none, RFC 9204 §3.2.3) the same request is the same bytes, which is how one that has been seen before is
recognised. It also means that a field section cannot grow to more than some twenty times its size, that no
stream waits for another, and that a response's head is encoded once for all connections.
"""

from __future__ import annotations

from typing import Final

import msgspec
import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    FrameType,
    FrameUnexpected,
    H3Connection,
    HeadersState,
    ProtocolError,
    Setting,
    encode_frame,
)
from aioquic.h3.connection import H3Stream as FramedStream
from aioquic.h3.events import H3Event
from aioquic.quic.connection import QuicConnection

from atoll.http.fields import Headers

NO_ERROR: Final = 0x100
INTERNAL_ERROR: Final = 0x102
EXCESSIVE_LOAD: Final = 0x107
REQUEST_REJECTED: Final = 0x10B
REQUEST_CANCELLED: Final = 0x10C
MESSAGE_ERROR: Final = 0x10E
QPACK_DECOMPRESSION_FAILED: Final = 0x200
_IGNORED: Final = 0x21  # a reserved frame type: what is of it is skipped as it arrives
_CONTROL_BYTES: Final = 4096  # SETTINGS take some 50

_encoder = pylsqpack.Encoder()  # without a dynamic table it remembers nothing


class Head(H3Event):
    """A field section has arrived: a request's, or its trailers'."""

    __slots__ = ("ended", "section", "stream_id")

    def __init__(self, stream_id: int, section: bytes, ended: bool) -> None:
        self.stream_id = stream_id
        self.section = section
        self.ended = ended


class HeadTooLarge(H3Event):
    """A request's field section is larger than allowed; it is skipped."""

    __slots__ = ("stream_id",)

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id


class Undecodable(msgspec.Struct, frozen=True):
    """What a field section is that makes no sense: the connection's end (RFC 9204 §2.2)."""

    reason: str


class _ExcessiveLoad(ProtocolError):
    error_code = EXCESSIVE_LOAD  # type: ignore[assignment]


class Engine(H3Connection):
    """Frames of one connection. `most` bounds an encoded field section, in bytes."""

    def __init__(self, quic: QuicConnection, most: int) -> None:
        self._most = most
        self._too_large: list[H3Event] = []
        super().__init__(quic)

    # --- reading

    def read(self, section: bytes, stream_id: int) -> Headers | Undecodable:
        """The fields of a section."""
        try:
            _, headers = self._decoder.feed_header(stream_id, section)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked, ValueError) as error:
            return Undecodable(str(error) or "a reference to a dynamic table")
        return headers

    def take_refused(self) -> list[H3Event]:
        """What has been skipped since the last look."""
        refused, self._too_large = self._too_large, []
        return refused

    def _check_request_or_push_frame_type(self, frame_type: int, stream: FramedStream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.HEADERS and (stream.frame_size or 0) > self._most:
            if stream.headers_recv_state is not HeadersState.INITIAL:
                raise _ExcessiveLoad("trailers too large")
            stream.headers_recv_state = HeadersState.AFTER_TRAILERS
            stream.frame_type = _IGNORED
            self._too_large.append(HeadTooLarge(stream.stream_id))

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        assert self._peer_control_stream_id is not None
        if (self._stream[self._peer_control_stream_id].frame_size or 0) > _CONTROL_BYTES:
            raise _ExcessiveLoad("a control frame too large")

    def _handle_request_or_push_frame(
        self, frame_type: int, frame_data: bytes | None, stream: FramedStream, stream_ended: bool
    ) -> list[H3Event]:
        if frame_type != FrameType.HEADERS:
            return super()._handle_request_or_push_frame(frame_type, frame_data, stream, stream_ended)
        if stream.headers_recv_state is HeadersState.AFTER_TRAILERS:
            raise FrameUnexpected("HEADERS frame is not allowed in this state")
        first = stream.headers_recv_state is HeadersState.INITIAL
        stream.headers_recv_state = HeadersState.AFTER_HEADERS if first else HeadersState.AFTER_TRAILERS
        return [Head(stream.stream_id, frame_data or b"", stream_ended)]

    # --- writing

    def sent_all(self, stream_id: int) -> None:
        """Nothing more is written to a stream."""
        stream = self._stream.get(stream_id)
        if stream is not None:
            stream.sending_ended = True
            if stream.is_ended():
                del self._stream[stream_id]

    def goaway(self, stream_id: int) -> None:
        """Requests from `stream_id` on are not served here (RFC 9114 §5.2)."""
        assert self._local_control_stream_id is not None
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(stream_id))
        self._quic.send_stream_data(self._local_control_stream_id, frame)

    # --- settings

    def _init_connection(self) -> None:
        self._max_table_capacity = 0
        self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        return {**super()._get_local_settings(), Setting.MAX_FIELD_SECTION_SIZE: self._most}


def head_frame(fields: Headers) -> bytes:
    """A HEADERS frame, good on every connection."""
    _, section = _encoder.encode(0, fields)
    return encode_frame(FrameType.HEADERS, section)


def data_frame_head(size: int) -> bytes:
    """What comes before `size` bytes of a body."""
    return b"\x00" + encode_uint_var(size)
