"""Other readers of the same bytes: what h11, llhttp and zttp make of requests, and h11 of responses.

Each is asked for messages only, one after the other, and for how its reading ended: `refused`, `open` (more
would have to come) or `stopped` (what follows is another protocol, or it reads no more).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import h11
import httptools
import zttp

from atoll.http.fields import Headers

Ending = Literal["refused", "open", "stopped"]
_MOST_MESSAGES: Final = 40
_LINE_END: Final = b"\r\n"  # blank lines before a request are to be skipped (RFC 9112 §2.2), which not all do


class Heard(NamedTuple):
    """A request as a reader understood it; `headers` have lowercase names."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    trailers: Headers


class Reading(NamedTuple):
    """All that a reader understood of a connection; `begun`: it is inside of one more."""

    messages: list[Heard]
    ending: Ending
    begun: bool = False


def read_h11(data: bytes, *, declines: bool = False, most: int = _MOST_MESSAGES) -> Reading:
    """Each message by a connection of its own: what is behind one is the next, whoever answers.

    Behind an upgrade nothing is read, unless whoever answers `declines` it.
    """
    messages: list[Heard] = []
    while len(messages) < most:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
        request: h11.Request | None = None
        body: list[bytes] = []
        try:
            connection.receive_data(data.lstrip(_LINE_END))
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:  # needs more, or waits for us
                    return Reading(messages, "open", request is not None)
        except h11.RemoteProtocolError:
            return Reading(messages, "refused")
        assert request is not None
        messages.append(
            Heard(
                request.method,
                request.target,
                [(bytes(name), bytes(value)) for name, value in request.headers],
                b"".join(body),
                [(bytes(name), bytes(value)) for name, value in event.headers],
            )
        )
        data = connection.trailing_data[0]
        if not data or (_switches(connection) and not declines):
            return Reading(messages, "stopped" if data else "open")
    return Reading(messages, "stopped")


def _switches(connection: h11.Connection) -> bool:
    """Whether what follows may be another protocol."""
    return str(connection.their_state) == "MIGHT_SWITCH_PROTOCOL"


class _Bare:
    """llhttp's callbacks, believed."""

    def __init__(self) -> None:
        self.messages: list[Heard] = []
        self.inside = False
        self.parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.trailers: Headers = []
        self.head = False
        self.body: list[bytes] = []

    def on_message_begin(self) -> None:
        self._begin()
        self.inside = True

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.trailers if self.head else self.headers).append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head = True

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.inside = False
        body = b"".join(self.body)
        method = self.parser.get_method()
        self.messages.append(Heard(method, self.target, self.headers, body, self.trailers))


def read_llhttp(data: bytes) -> Reading:
    """The parser alone, without what the engine judges behind it."""
    bare = _Bare()
    try:
        bare.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Reading(
            bare.messages[:-1] if bare.messages else [], "stopped"
        )  # it skips a body that may follow
    except httptools.HttpParserError:
        return Reading(bare.messages, "refused")
    return Reading(bare.messages, "open", bare.inside)


def read_zttp(data: bytes) -> Reading:
    """Each message is answered, so that it reads the next."""
    connection = zttp.Connection(zttp.SERVER)
    messages: list[Heard] = []
    request: zttp.Request | None = None
    body: list[bytes] = []
    try:
        connection.receive_data(data.lstrip(_LINE_END))
        while len(messages) < _MOST_MESSAGES:
            event = connection.next_event()
            trailers: Headers = []
            if isinstance(event, zttp.Request):
                request, body = event, []
                if not event.end_stream:
                    continue
            elif isinstance(event, zttp.Data):
                body.append(event.data)
                continue
            elif isinstance(event, zttp.EndOfMessage):
                trailers = _lower(event.trailers)
            else:
                return Reading(messages, "open", request is not None)
            assert request is not None
            headers = _lower(request.headers)
            messages.append(Heard(request.method, request.target, headers, b"".join(body), trailers))
            request = None
            connection.send_response(200, [(b"content-length", b"0")])
            connection.end_message()
            if connection.should_close():
                return Reading(messages, "stopped")
            connection.start_next_cycle()
    except zttp.ProtocolError:
        return Reading(messages, "refused")
    return Reading(messages, "stopped")


def _lower(fields: object) -> Headers:
    return [(name.lower(), value) for name, value in fields]  # type: ignore[attr-defined]


class Answer(NamedTuple):
    """A response as h11 understood it, with the bytes that follow it; `status` 0: refused, or cut short."""

    status: int
    interim: list[int]
    headers: Headers
    body: bytes
    trailers: Headers
    rest: bytes
    refused: bool


def read_response(method: bytes, data: bytes, upgrade: bool) -> Answer:
    """What h11 as a client makes of `data`, and of the end of the connection behind it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=128 * 1024)
    fields = [(b"Host", b"o")]
    if upgrade:
        fields += [(b"Connection", b"upgrade"), (b"Upgrade", b"x")]
    connection.send(h11.Request(method=method, target=b"/", headers=fields))
    connection.send(h11.EndOfMessage())
    interim: list[int] = []
    response: h11.Response | None = None
    body: list[bytes] = []
    ended = False
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
                if event.status_code == 101:
                    rest = connection.trailing_data[0]
                    return Answer(101, interim, _plain(event.headers), b"", [], rest, False)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.NEED_DATA and not ended:
                ended = True
                connection.receive_data(b"")
            else:
                return Answer(0, interim, [], b"", [], b"", False)
    except h11.RemoteProtocolError:
        return Answer(0, interim, [], b"", [], b"", not ended)
    assert response is not None
    rest = b"" if ended else connection.trailing_data[0]
    return Answer(
        response.status_code,
        interim,
        _plain(response.headers),
        b"".join(body),
        _plain(event.headers),
        rest,
        False,
    )


def _plain(fields: object) -> Headers:
    return [(bytes(name), bytes(value)) for name, value in fields]  # type: ignore[attr-defined]
