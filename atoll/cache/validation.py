"""What validators do: RFC 9111 §4.3 and §4.4, RFC 9110 §8.8 and §13.

Three sides of it: the conditions the cache puts to an origin and what the answer (304, or a response to HEAD)
changes in the store; the conditions a client puts to the cache; and which exchanges invalidate. Header lists
in, header lists and verdicts out; nothing here sees content.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from atoll.http.fields import (
    HOP_BY_HOP,
    Headers,
    combined,
    etag_matches,
    get,
    get_all,
    is_entity_tag,
    parse_http_date,
    strip_hop_by_hop,
)

SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Safe methods (RFC 9110 §9.2.1) that never invalidate; an unknown method counts as unsafe."""

MAX_TAGS: Final = 32
MAX_TAGS_LENGTH: Final = 4096
"""Entity tags and bytes of `If-None-Match` in one request: origins refuse heads beyond 8 KiB."""

_STRONG_AFTER_S: Final = 1.0
"""A date that old when the response was made cannot have changed twice in its second (RFC 9110 §8.8.2.2)."""

_NOT_UPDATED: Final = frozenset(
    {b"age", b"content-encoding", b"content-length", b"content-range", b"set-cookie", *HOP_BY_HOP}
)
"""What a 304 does not change: §3.2's exceptions, what the stored bytes depend on, and one user's cookie."""

_NOT_IN_304: Final = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type"}
)
"""Metadata of a representation that a 304 does not carry (RFC 9110 §15.4.5)."""


class HeadEffect(Enum):
    """What a response to HEAD does to a stored response when it does not renew it (§4.3.5)."""

    INVALIDATE = auto()  # it describes something else by now: take what is stored as stale
    NOTHING = auto()


class Precondition(Enum):
    """What a request's preconditions make of it."""

    PROCEED = auto()
    NOT_MODIFIED = auto()  # 304
    FAILED = auto()  # 412


# --- validators (RFC 9110 §8.8)


def strong_validator(stored: Headers) -> bytes | None:
    """The entity tag, or else the date, that no two representations can share; None without one.

    It is what `If-Range` may carry (RFC 9110 §13.1.5). Where there is an entity tag, a weak one, the date
    does not count: the origin has said that it cannot tell representations apart.
    """
    etag = get(stored, b"etag")
    if etag is not None:
        return etag if is_entity_tag(etag) and not etag.startswith(b"W/") else None
    modified = get(stored, b"last-modified")
    return modified if modified is not None and _strong_date(modified, stored) else None


def _strong_date(modified: bytes, stored: Headers) -> bool:
    modified_s = parse_http_date(modified)
    date_s = parse_http_date(get(stored, b"date") or b"")
    return modified_s is not None and date_s is not None and date_s - modified_s >= _STRONG_AFTER_S


# --- asking the origin (§4.3.1)


def conditional_request(*stored: Headers) -> Headers:
    """The fields that make a request ask whether one of the stored responses still holds.

    A date goes only with a single candidate: which of several it means could not be told from a 304. Of too
    many entity tags the first are asked about, so give the most recent first.
    """
    if len(stored) == 1:
        names = ((b"if-none-match", b"etag"), (b"if-modified-since", b"last-modified"))
        pairs = [(condition, get(stored[0], name)) for condition, name in names]
        return [(condition, value) for condition, value in pairs if value is not None]
    tags: dict[bytes, None] = {}
    length = 0
    for headers in stored:
        etag = get(headers, b"etag")
        if etag is None or etag in tags or not is_entity_tag(etag):
            continue
        length += len(etag) + 2
        if len(tags) == MAX_TAGS or length > MAX_TAGS_LENGTH:
            break
        tags[etag] = None
    return [(b"if-none-match", b", ".join(tags))] if tags else []


# --- what the answer changes (§3.2, §4.3.4, §4.3.5)


def select_for_update(stored: list[Headers], fresh304: Headers) -> list[int]:
    """Which of the responses asked about a 304 updates, as indexes (§4.3.4); [] when it may update none.

    A strong validator selects all that have it, a weak one the most recent that has it. A 304 without any
    is taken for the answer about a single response: it can be about nothing else, and origins do leave the
    entity tag out.
    """
    etag, modified = get(fresh304, b"etag"), get(fresh304, b"last-modified")
    if etag is not None:
        if not etag.startswith(b"W/"):
            return [at for at, headers in enumerate(stored) if get(headers, b"etag") == etag]
        opaque = etag.removeprefix(b"W/")
        tags = [get(headers, b"etag") for headers in stored]
        found = [at for at, tag in enumerate(tags) if tag is not None and tag.removeprefix(b"W/") == opaque]
        return _most_recent(stored, found)
    if modified is not None:
        found = [at for at, headers in enumerate(stored) if get(headers, b"last-modified") == modified]
        return found if _strong_date(modified, fresh304) else _most_recent(stored, found)
    return [0] if len(stored) == 1 else []


def _most_recent(stored: list[Headers], found: list[int]) -> list[int]:
    """The one of `found` with the latest `Date`, of equal ones the last."""
    if not found:
        return []
    return [max(found, key=lambda at: (parse_http_date(get(stored[at], b"date") or b"") or 0.0, at))]


def update_stored(stored: Headers, fresh304: Headers) -> Headers:
    """`stored` with the fields of a 304 that validated it (§3.2): its names replace, all others stay."""
    fresh = [field for field in strip_hop_by_hop(fresh304) if field[0] not in _NOT_UPDATED]
    replaced = {name for name, _ in fresh}
    return [field for field in stored if field[0] not in replaced] + fresh


def head_update(
    stored: Headers, stored_length: int | None, status: int, head: Headers
) -> Headers | HeadEffect:
    """What a response to HEAD does to a stored response to GET (§4.3.5): its fields as renewed, or an effect.

    `stored_length` is the content's length in bytes, None where it is unknown. Only a 200 says anything: its
    validators and its length, as far as it has them, must be those of what is stored.
    """
    if status != 200:
        return HeadEffect.NOTHING
    for name in (b"etag", b"last-modified"):
        value = get(head, name)
        if value is not None and value != get(stored, name):
            return HeadEffect.INVALIDATE
    lengths = {value.strip(b" \t") for value in get_all(head, b"content-length")}
    if stored_length is not None and lengths - {b"%d" % stored_length}:
        return HeadEffect.INVALIDATE
    return update_stored(stored, head)


# --- answering a client (RFC 9110 §13.2.2)


def preconditions(method: bytes, request: Headers, stored: Headers, status: int) -> Precondition:
    """What a request's preconditions make of an answer with `status` and the fields `stored`.

    The order is RFC 9110 §13.2.2's; its last step, `If-Range`, is `if_range_holds`. A cache need not look at
    `If-Match` and `If-Unmodified-Since` (§13.1.1, §13.1.4): a caller for whom the origin should judge them
    passes such requests on instead of asking here.
    """
    if not 200 <= status < 300:  # §13.2.1
        return Precondition.PROCEED
    if not _may_proceed(request, stored):
        return Precondition.FAILED
    reads = method in (b"GET", b"HEAD")
    if get(request, b"if-none-match") is None and not reads:
        return Precondition.PROCEED
    if not not_modified(request, stored, status):
        return Precondition.PROCEED
    return Precondition.NOT_MODIFIED if reads else Precondition.FAILED


def _may_proceed(request: Headers, stored: Headers) -> bool:
    """`If-Match` (§13.1.1), by strong comparison; without it `If-Unmodified-Since` (§13.1.4)."""
    wanted = combined(request, b"if-match")
    if wanted is not None:
        etag = get(stored, b"etag")
        return wanted == b"*" if etag is None else etag_matches(wanted, etag, weak=False)
    since_s = parse_http_date(combined(request, b"if-unmodified-since") or b"")
    modified_s = parse_http_date(get(stored, b"last-modified") or b"")
    return since_s is None or modified_s is None or modified_s <= since_s


def not_modified(request: Headers, stored: Headers, status: int) -> bool:
    """Whether the client already has what `stored` describes: answer 304 (RFC 9110 §13.2.2).

    Preconditions count only where the answer would be a success; `If-None-Match` silences
    `If-Modified-Since`. Without `Last-Modified` the stored `Date` is compared (RFC 9111 §4.3.2).
    """
    if not 200 <= status < 300:
        return False
    wanted = combined(request, b"if-none-match")
    if wanted is not None:
        etag = get(stored, b"etag")
        return wanted == b"*" if etag is None else etag_matches(wanted, etag, weak=True)
    since_s = parse_http_date(combined(request, b"if-modified-since") or b"")
    modified_s = parse_http_date(get(stored, b"last-modified") or get(stored, b"date") or b"")
    return since_s is not None and modified_s is not None and modified_s <= since_s


def if_range_holds(request: Headers, stored: Headers) -> bool:
    """Whether `If-Range` lets a range of `stored` be sent (RFC 9110 §13.1.5); without it, yes.

    An entity tag must be strong and the same; a date must be a strong validator and the same bytes.
    """
    values = get_all(request, b"if-range")
    if not values:
        return True
    wanted = values[0]
    if len(values) > 1:
        return False
    if is_entity_tag(wanted):
        return not wanted.startswith(b"W/") and get(stored, b"etag") == wanted
    return get(stored, b"last-modified") == wanted and _strong_date(wanted, stored)


def headers_for_304(stored: Headers) -> Headers:
    """The stored fields that a 304 carries; `Last-Modified` only when there is no `ETag`."""
    tagged = get(stored, b"etag") is not None
    drop = _NOT_IN_304 | {b"last-modified"} if tagged else _NOT_IN_304
    return [field for field in stored if field[0] not in drop]


# --- invalidation (§4.4)


def invalidated_by(method: bytes, status: int) -> bool:
    """Whether an exchange makes what is stored for its target invalid: unsafe, and it did not fail.

    What else it invalidates (`Location`, `Content-Location`) is `atoll.cache.keys.related_keys`'s to say.
    """
    return method not in SAFE_METHODS and 200 <= status < 400
