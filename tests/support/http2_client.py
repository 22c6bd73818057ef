"""An HTTP/2 client that speaks frames, so that it can also say what no library would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from edge_world import HOST, Streams
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

OPEN = 2**30  # a window that never closes


class Client:
    """One connection: what has been answered on it, by stream."""

    def __init__(self, streams: Streams, window: int = OPEN) -> None:
        self.reader, self.writer = streams
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self.goaway: GoAwayFrame | None = None
        self.room = {0: 65_535}  # by stream
        self.on_data: Callable[[DataFrame], None] | None = None
        self._encoder, self._decoder = Encoder(), Decoder()
        self._received = b""
        self._together: bytes | None = None
        self._next = 1
        self.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: window}))
        if window:
            self.send(WindowUpdateFrame(0, window_increment=OPEN))

    def send(self, frame: Frame, *flags: str) -> None:
        """Write a frame."""
        for flag in flags:
            frame.flags.add(flag)
        if self._together is not None:
            self._together += frame.serialize()
        else:
            self.writer.write(frame.serialize())

    @contextlib.contextmanager
    def in_one_piece(self) -> Iterator[None]:
        """What is sent meanwhile leaves together at the end, so that it arrives together."""
        self._together = b""
        yield
        together, self._together = self._together, None
        self.writer.write(together)

    def ask(self, path: str | bytes, *more: tuple[str, str], method: str = "GET", end: bool = True) -> int:
        """Open a stream; its number."""
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", HOST), *more]
        stream, self._next = self._next, self._next + 2
        self.room[stream] = 65_535
        block = self._encoder.encode(fields)
        first, *rest = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        last = ["END_HEADERS"]
        self.send(HeadersFrame(stream, data=first), *(["END_STREAM"] if end else []), *([] if rest else last))
        for position, piece in enumerate(rest, 1):
            self.send(ContinuationFrame(stream, data=piece), *(last if position == len(rest) else []))
        return stream

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until `condition` holds.

        Raises:
            ConnectionError: the server closed before.
        """
        async with asyncio.timeout(5):
            while not condition():
                data = await self.reader.read(65_536)
                if not data:
                    raise ConnectionResetError("closed")
                self._received += data
                self._take_frames()

    async def complete(self, *streams: int) -> None:
        """Read until these have been answered or reset."""
        await self.until(lambda: self.ended.issuperset(streams))

    def _take_frames(self) -> None:
        while len(self._received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
            if len(self._received) < 9 + length:
                return
            frame.parse_body(memoryview(self._received[9 : 9 + length]))
            self._received = self._received[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        stream = frame.stream_id
        if isinstance(frame, HeadersFrame):
            fields = self._decoder.decode(frame.data, raw=True)
            self.heads[stream] = {name.decode(): value.decode("latin-1") for name, value in fields}
        elif isinstance(frame, DataFrame):
            self.bodies[stream] = self.bodies.get(stream, b"") + frame.data
            if self.on_data is not None:
                self.on_data(frame)
        elif isinstance(frame, RstStreamFrame):
            self.resets.setdefault(stream, frame.error_code)  # what is still on its way is reset again
        elif isinstance(frame, WindowUpdateFrame):
            self.room[stream] = self.room.get(stream, 0) + frame.window_increment
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame
        if isinstance(frame, RstStreamFrame) or "END_STREAM" in frame.flags:
            self.ended.add(stream)
