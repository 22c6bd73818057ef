"""A stream whose final heads are amended on their way out.

Whoever answers a request, cache, function or error page, does so through its stream: so that is where a
route's response fields are added, and none of them is ever stored. Everything else goes straight to the
engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from atoll.edge.admission.facts import Amendment
from atoll.http.exchange import PreparedHead, Stream
from atoll.http.fields import Headers


class _AmendedStream:
    """See `amended`."""

    __slots__ = ("_amendments", "_stream")

    def __init__(self, stream: Stream, amendments: Sequence[Amendment]) -> None:
        self._stream = stream
        self._amendments = amendments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream`. A change of protocol is not a response to amend."""
        self._stream.start(status, headers if status < 200 else self.amend(headers), length)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Stream`."""
        self._stream.respond(status, self.amend(headers), body)

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """See `Stream`: a head of this route alone, so it is not one that was prepared."""
        self._stream.respond(head.status, self.amend([*head.fields, *more]), body)

    def amend(self, headers: Headers) -> Headers:
        """A final head's fields as they leave."""
        for amendment in self._amendments:
            headers = amendment(headers)
        return headers


def amended(stream: Stream, amendments: Sequence[Amendment]) -> Stream:
    """`stream` with what every final response on it gets; itself if that is nothing."""
    needed = [amendment for amendment in amendments if amendment]
    return cast(Stream, _AmendedStream(stream, needed)) if needed else stream


def amended_fields(stream: Stream, headers: Headers) -> Headers:
    """`headers` as `stream` would send them: for whoever prepares a response to be repeated."""
    return stream.amend(headers) if isinstance(stream, _AmendedStream) else headers
