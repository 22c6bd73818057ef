"""Records, rows and members as bytes: read as they were written, by this version and the next, or never."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from atoll.cache.purge import Place
from atoll.cache.records import (
    HEAD_SIZE,
    Member,
    Metadata,
    Ref,
    checked,
    content,
    decode_body,
    decode_head,
    decode_member,
    decode_meta,
    decode_row,
    encode_inline,
    encode_member,
    encode_record,
    encode_row,
    selects,
    url_hash,
    variant_hash,
)
from atoll.http.fields import CacheControl, parse_cache_control

texts = st.binary(max_size=20)
numbers = st.integers(0, 2**40)
directives = st.sampled_from(
    [b"", b"max-age=5", b"public, s-maxage=7", b'no-cache="a, b", private', b"immutable, stale-if-error=9"]
)
metadata = st.builds(
    Metadata,
    primary=texts,
    vary=st.lists(texts, max_size=3).map(tuple),
    selection=texts,
    status=st.integers(100, 999),
    headers=st.lists(st.tuples(texts, texts), max_size=6),
    request_time_s=st.floats(0, 2e9),
    response_time_s=st.floats(0, 2e9),
    date_s=st.floats(-1e9, 2e9),
    lifetime_s=st.floats(0, 1e9),
    initial_age_s=st.floats(0, 1e9),
    cc=directives.map(lambda text: parse_cache_control([text])),
    tags=st.lists(texts, max_size=3).map(tuple),
    purge_seq=numbers,
    url=texts,
)
refs = st.builds(
    Ref,
    vary=st.lists(texts, max_size=3).map(tuple),
    variant=st.binary(min_size=8, max_size=8),
    date_s=st.floats(0, 2e9),
    seq=numbers,
    purge_seq=numbers,
    queue=st.integers(0, 1),
    segment=st.integers(0, 2**32 - 1),
    offset=st.integers(0, 2**32 - 1),
    length=st.integers(0, 2**32 - 1),
    size=numbers,
    check=st.binary(min_size=8, max_size=8),
    file=st.sampled_from([b"", b"f" * 16]),
)


def sample(**fields: object) -> Metadata:
    base = Metadata(
        primary=b"http://a.example/x",
        vary=(b"accept",),
        selection=b"9:text/html;",
        status=200,
        headers=[(b"content-type", b"text/html")],
        request_time_s=1.0,
        response_time_s=2.0,
        date_s=1.5,
        lifetime_s=60.0,
        initial_age_s=0.25,
        cc=CacheControl(max_age=60),
    )
    return msgspec.structs.replace(base, **fields)


@given(meta=metadata, body=st.binary(max_size=300), rest=st.binary(max_size=10))
def test_a_record_is_read_as_it_was_written_whatever_follows(
    meta: Metadata, body: bytes, rest: bytes
) -> None:
    record = encode_inline(meta, body)
    head = decode_head(record + rest)
    assert head is not None
    assert head.length == len(record)
    assert decode_meta(record + rest, head) == meta
    assert decode_body(record + rest, head) == body
    without_body = record[: len(record) - len(body)]
    assert decode_meta(without_body, head) == meta


@given(meta=metadata, body=st.binary(max_size=100), data=st.data())
def test_a_flipped_bit_is_never_read(meta: Metadata, body: bytes, data: st.DataObject) -> None:
    record = bytearray(encode_inline(meta, body))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= 1 << data.draw(st.integers(0, 7))
    harmed = bytes(record)
    head = decode_head(harmed)
    if head is None:
        return
    in_body = at >= len(record) - len(body)
    assert (decode_meta(harmed, head) == meta) is in_body
    if in_body:
        assert decode_body(harmed, head) is None
    else:
        assert decode_meta(harmed, head) is None


@given(meta=metadata, body=st.binary(min_size=1, max_size=100), data=st.data())
def test_a_record_that_ends_early_is_never_read(meta: Metadata, body: bytes, data: st.DataObject) -> None:
    record = encode_inline(meta, body)
    short = record[: data.draw(st.integers(0, len(record) - 1))]
    head = decode_head(short)
    if head is not None:
        assert decode_body(short, head) is None
        assert (decode_meta(short, head) == meta) is (len(short) >= HEAD_SIZE + head.meta_length)


def test_a_body_in_a_file_leaves_its_length_and_the_check_of_its_index() -> None:
    record = encode_record(sample(file=b"f" * 16), 1_000_000, 77)
    head = decode_head(record)
    assert head is not None
    assert (head.in_file, head.body_length, head.body_check, head.inline_length) == (True, 1_000_000, 77, 0)
    assert head.length == len(record)
    meta = decode_meta(record, head)
    assert meta is not None
    assert meta.file == b"f" * 16


@pytest.mark.parametrize(("at", "value"), [(0, 0x42), (2, 2), (2, 0), (2, 255)])
def test_another_magic_or_version_is_no_record(at: int, value: int) -> None:
    record = bytearray(encode_inline(sample(), b"body"))
    record[at] = value
    assert decode_head(bytes(record)) is None


def with_fields(change: slice, more: list[object]) -> bytes:
    """A record whose metadata has fewer or more fields than this version writes."""
    record = encode_inline(sample(), b"")
    head = decode_head(record)
    assert head is not None
    fields = msgspec.msgpack.decode(record[HEAD_SIZE : HEAD_SIZE + head.meta_length])[change] + more
    packed = msgspec.msgpack.encode(fields)
    start = record[:4] + len(packed).to_bytes(4, "big") + record[8:24]
    return start + xxh3_64_digest(start + packed) + packed


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    record = with_fields(slice(None), ["new", {"a": 1}])
    head = decode_head(record)
    assert head is not None
    assert decode_meta(record, head) == sample()


def test_fields_that_an_earlier_version_did_not_have_get_their_defaults() -> None:
    record = with_fields(slice(0, 11), [])
    head = decode_head(record)
    assert head is not None
    assert decode_meta(record, head) == sample()


def test_metadata_of_another_shape_is_not_read() -> None:
    record = with_fields(slice(0, 3), [])
    head = decode_head(record)
    assert head is not None
    assert decode_meta(record, head) is None


@given(row=st.lists(refs, max_size=5), url=st.binary(min_size=16, max_size=16), data=st.data())
def test_rows_are_read_as_they_were_written_or_not_at_all(
    row: list[Ref], url: bytes, data: st.DataObject
) -> None:
    value = encode_row(url, row)
    assert decode_row(url, value) == row
    assert decode_row(url[:-1] + bytes([url[-1] ^ 1]), value) is None
    harmed = bytearray(value)
    harmed[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_row(url, bytes(harmed)) is None
    assert decode_row(url, value[:-1]) is None
    assert decode_row(url, b"") is None


@given(place=st.binary(max_size=12), data=st.data())
def test_members_are_read_as_they_were_written_or_not_at_all(place: bytes, data: st.DataObject) -> None:
    member = Member(b"u" * 16, b"v" * 8, data.draw(numbers))
    value = encode_member(place, member)
    assert decode_member(place, value) == member
    assert decode_member(place + b"x", value) is None
    harmed = bytearray(value)
    harmed[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_member(place, bytes(harmed)) is None


@given(key=texts, packed=texts)
def test_checked_values_belong_to_their_key(key: bytes, packed: bytes) -> None:
    assert content(key, checked(key, packed)) == packed
    assert content(key + b"x", checked(key, packed)) != packed


def test_a_request_selects_what_holds_the_same_in_the_fields_that_vary() -> None:
    meta = sample()
    assert selects(meta, meta.primary, [(b"accept", b"text/html"), (b"x", b"y")])
    assert not selects(meta, meta.primary, [(b"accept", b"text/plain")])
    assert not selects(meta, b"http://a.example/y", [(b"accept", b"text/html")])
    assert selects(sample(vary=(), selection=b""), meta.primary, [])


def test_hashes_tell_urls_seeds_and_variants_apart() -> None:
    assert len({url_hash(b"a", 1), url_hash(b"a", 2), url_hash(b"b", 1)}) == 3
    variants = [((), b""), ((b"a",), b"-;"), ((b"a", b"b"), b"-;-;"), ((b"ab",), b"-;")]
    assert len({variant_hash(*each) for each in variants}) == 4


def test_the_place_for_purges_is_the_urls_unless_another_was_given() -> None:
    assert sample(tags=(b"t",)).place == Place(b"a.example/x", b"a.example", (b"t",))
    sliced = sample(primary=b"http://a.example/x#1", url=b"a.example/x")
    assert sliced.place == Place(b"a.example/x", b"a.example", ())
