"""How a stored response is written down: the bytes of a record, of an index row, of a queue's member.

A record is a head of fixed size, metadata in msgpack, and the body when it is short. Two checksums: one over
head and metadata, one over the body, so that metadata can be trusted without reading the body. Whatever does
not check is no record: `decode_head` and `decode_meta` return None and never guess. Metadata and rows are
arrays: fields are only ever added at the end, with defaults, so what the version before wrote is read, and
what a later one added is ignored.

Checksums find what breaks by itself. They are no protection against somebody who may write into the folder.
Pure: no clock, no I/O.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from xxhash import xxh3_64_digest, xxh3_64_intdigest, xxh3_128_digest

from atoll.cache.keys import vary_key
from atoll.cache.purge import Place, place_of
from atoll.http.fields import CacheControl, Headers

VERSION: Final = 1
READ_VERSIONS: Final = frozenset({VERSION})
"""The version before belongs here once there is one."""

MAX_META: Final = 1024 * 1024
"""Bytes of metadata; every bound on header fields is far below."""

IN_FILE: Final = 1  # flag: the body is in a file of its own

_HEAD: Final = struct.Struct(">2sBBIQQQ")
HEAD_SIZE: Final = _HEAD.size
_UNCHECKED: Final = HEAD_SIZE - 8
_MAGIC: Final = b"At"
_CHECK: Final = 4  # bytes of checksum before a row's content


class Metadata(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All of a stored response but its body. Times are seconds since the epoch.

    `headers` are those to send; `selection` is what the request held in the fields that `vary` names
    (`atoll.cache.keys.vary_key`); `purge_seq` is the last purge applied when its fetch began. `tags` (scoped)
    and `url` are what purges select it by; `url` is empty when it is the primary key's.
    """

    primary: bytes
    vary: tuple[bytes, ...]
    selection: bytes
    status: int
    headers: Headers
    request_time_s: float
    response_time_s: float
    date_s: float
    lifetime_s: float
    initial_age_s: float
    cc: CacheControl
    tags: tuple[bytes, ...] = ()
    purge_seq: int = 0
    file: bytes = b""
    url: bytes = b""

    @property
    def place(self) -> Place:
        """Where it belongs, for purges."""
        if not self.url:
            return place_of(self.primary, self.tags)
        return Place(self.url, self.url.partition(b"/")[0], self.tags)


class Head(NamedTuple):
    """A record's head: how long its parts are, and the body's checksum."""

    in_file: bool
    meta_length: int
    body_length: int
    body_check: int

    @property
    def inline_length(self) -> int:
        """Bytes of body within the record."""
        return 0 if self.in_file else self.body_length

    @property
    def length(self) -> int:
        """Bytes of the whole record."""
        return HEAD_SIZE + self.meta_length + self.inline_length


class Ref(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One variant in a URL's row: what it varies by, and where its record is.

    `variant` is a hash of `vary` and selection, `seq` the number under which it was stored, `size` what it is
    charged, `check` the record's own checksum: what else might ever be in its place is not it. `file` is the
    name of the file that its body is in; empty when it is in the record.
    """

    vary: tuple[bytes, ...]
    variant: bytes
    date_s: float
    seq: int
    purge_seq: int
    queue: int
    segment: int
    offset: int
    length: int
    size: int
    check: bytes
    file: bytes = b""


class Member(NamedTuple):
    """One record in its queue: whose it is and what it is charged."""

    url: bytes
    variant: bytes
    size: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_meta: Final = msgspec.msgpack.Decoder(Metadata).decode
_decode_row: Final = msgspec.msgpack.Decoder(list[Ref]).decode
_CC: Final = Metadata.__struct_fields__.index("cc")
MEMBER: Final = struct.Struct(">16s8sQ")


def url_hash(primary: bytes, seed: int) -> bytes:
    """The key of a URL's row, 16 bytes. With a secret seed nobody can aim at another URL's row."""
    return xxh3_128_digest(primary, seed)


def variant_hash(vary: tuple[bytes, ...], selection: bytes) -> bytes:
    """Which variant of a URL, 8 bytes; who reads a record still compares both."""
    return xxh3_64_digest(b"\n".join((*vary, selection)))


def encode_record(meta: Metadata, body_length: int, body_check: int, body: bytes = b"") -> bytes:
    """Head, metadata and `body`; of a body in a file only its length and the check of its index are there."""
    fields = list(msgspec.structs.astuple(meta))
    fields[_CC] = _compact(meta.cc)
    packed = _encode(fields)
    flags = IN_FILE if meta.file else 0
    head = _HEAD.pack(_MAGIC, VERSION, flags, len(packed), body_length, body_check, 0)[:_UNCHECKED]
    return b"".join((head, xxh3_64_digest(head + packed), packed, body))


def encode_inline(meta: Metadata, body: bytes) -> bytes:
    """The record of a short response."""
    return encode_record(meta, len(body), xxh3_64_intdigest(body), body)


def check_of(record: bytes) -> bytes:
    """The checksum over head and metadata, and by them over all."""
    return record[_UNCHECKED:HEAD_SIZE]


def decode_head(data: bytes) -> Head | None:
    """The head at the beginning of `data`, checked as far as it can be without the metadata."""
    if len(data) < HEAD_SIZE:
        return None
    magic, version, flags, meta_length, body_length, body_check, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC or version not in READ_VERSIONS or meta_length > MAX_META:
        return None
    return Head(flags & IN_FILE != 0, meta_length, body_length, body_check)


def decode_meta(data: bytes, head: Head) -> Metadata | None:
    """The metadata of the record that `data` begins with; None when it is not what was written."""
    end = HEAD_SIZE + head.meta_length
    packed = data[HEAD_SIZE:end]
    if (
        len(packed) != head.meta_length
        or xxh3_64_digest(data[:_UNCHECKED] + packed) != data[_UNCHECKED:HEAD_SIZE]
    ):
        return None
    try:
        return _decode_meta(packed)
    except msgspec.DecodeError:  # written by a program that means something else by this version
        return None


def decode_body(data: bytes, head: Head) -> bytes | None:
    """The body within the record; None when it is not what was written."""
    body = data[HEAD_SIZE + head.meta_length : head.length]
    if len(body) != head.body_length or xxh3_64_intdigest(body) != head.body_check:
        return None
    return body


def encode_row(url: bytes, refs: list[Ref]) -> bytes:
    """A URL's row: its variants, oldest first."""
    return checked(url, _encode(refs))


def decode_row(url: bytes, value: bytes) -> list[Ref] | None:
    """The variants of a row; None when it is broken."""
    packed = content(url, value)
    try:
        return None if packed is None else _decode_row(packed)
    except msgspec.DecodeError:
        return None


def encode_member(place: bytes, member: Member) -> bytes:
    """A queue's member at `place`, its key."""
    return checked(place, MEMBER.pack(*member))


def decode_member(place: bytes, value: bytes) -> Member | None:
    """A queue's member; None when it is broken."""
    packed = content(place, value)
    return Member(*MEMBER.unpack(packed)) if packed is not None and len(packed) == MEMBER.size else None


def checked(key: bytes, packed: bytes) -> bytes:
    """`packed` with a checksum over itself and its key."""
    return xxh3_64_digest(key + packed)[:_CHECK] + packed


def content(key: bytes, value: bytes) -> bytes | None:
    """What `checked` was given; None when it is broken, or under another key."""
    packed = value[_CHECK:]
    return packed if xxh3_64_digest(key + packed)[:_CHECK] == value[:_CHECK] else None


def selects(meta: Metadata, primary: bytes, request: Headers) -> bool:
    """Whether this is a response that `request` for `primary` selects (RFC 9111 §4.1)."""
    return meta.primary == primary and (not meta.vary or meta.selection == vary_key(meta.vary, request))


@lru_cache(maxsize=512)
def _compact(cc: CacheControl) -> dict[str, object]:
    """Only the directives that are there."""
    absent = CacheControl()
    fields = CacheControl.__struct_fields__
    return {name: getattr(cc, name) for name in fields if getattr(cc, name) != getattr(absent, name)}
