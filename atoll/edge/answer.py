"""What a request gets of a representation: all, ranges, or the word that it has not changed. Pure.

Stored responses and those that are still arriving are answered by the same rules; only where the content
comes from differs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from atoll.cache import ranges, rules
from atoll.cache.ranges import Span, Unmet
from atoll.http.fields import Headers

REST: Final = 2**63 - 1
"""The end of content whose length is not known yet."""

_OF_CONTENT: Final = frozenset((b"content-encoding", b"content-language", b"content-type", b"content-range"))


class Plan(NamedTuple):
    """A response: `pieces` are bytes as they are and spans of the content, `length` what they add up to."""

    status: int
    headers: Headers
    length: int | None
    pieces: tuple[bytes | Span, ...]

    @property
    def sent(self) -> int:
        """Bytes of content in it, when its length is known: none in an answer to HEAD."""
        return (self.length or 0) if self.pieces else 0

    @property
    def whole(self) -> bool:
        """Whether it is the representation itself, from its first byte to its last."""
        return len(self.pieces) == 1 and self.status not in (206, 416)


def plan(
    method: bytes, request: Headers, status: int, stored: Headers, length: int | None, boundary: bytes
) -> Plan:
    """The answer to a request from a response with `status` and the fields `stored`.

    `length` is the content's, None when it is not known; `boundary` is for several ranges.
    """
    condition = rules.preconditions(method, request, stored, status)
    if condition is rules.Precondition.NOT_MODIFIED:
        return Plan(304, rules.headers_for_304(stored), None, ())
    if condition is rules.Precondition.FAILED:
        return Plan(412, _without_content(stored), 0, ())
    if length is None:
        return Plan(status, stored, None, (Span(0, REST),) if method != b"HEAD" else ())
    wanted = ranges.requested(method, request, stored, status, length)
    if wanted is Unmet.UNSATISFIABLE:
        fields = [*_without_content(stored), (b"content-range", ranges.format_content_range(None, length))]
        return Plan(416, fields, 0, ())
    if isinstance(wanted, list):
        return _parts(stored, wanted, length, boundary)
    return Plan(status, stored, length, (Span(0, length),) if length and method != b"HEAD" else ())


def _parts(stored: Headers, spans: list[Span], length: int, boundary: bytes) -> Plan:
    headers = ranges.headers_for_206(stored, spans, length, boundary)
    if len(spans) == 1:
        return Plan(206, headers, spans[0].end - spans[0].start, (spans[0],))
    frame = ranges.multipart(spans, length, stored, boundary)
    pieces: list[bytes | Span] = []
    for head, span in zip(frame.heads, spans, strict=True):
        pieces += (head, span)
    return Plan(206, headers, frame.total, (*pieces, frame.tail))


def _without_content(stored: Headers) -> Headers:
    return [field for field in stored if field[0] not in _OF_CONTENT]
