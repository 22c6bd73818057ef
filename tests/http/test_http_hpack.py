"""Header blocks against an implementation of its own, and against whoever sends nonsense."""

from __future__ import annotations

import contextlib

import hpack as reference
import pytest
from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.hpack import (
    CODE_LENGTHS,
    STATIC_TABLE,
    HpackError,
    decode,
    encode,
    huffman_decode,
    huffman_encode,
)

FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"etag", b"cookie", b"x-own", b":status", b"accept-encoding", b""])
        | st.binary(max_size=40),
        st.sampled_from([b"200", b"gzip, deflate", b"a" * 300]) | st.binary(max_size=200),
    ),
    max_size=20,
)


def test_the_tables_are_the_standard_s() -> None:
    assert list(HeaderTable.STATIC_TABLE) == STATIC_TABLE
    assert list(CODE_LENGTHS) == list(REQUEST_CODES_LENGTH)


@given(FIELDS)
def test_what_is_encoded_is_read_by_another(fields: list[tuple[bytes, bytes]]) -> None:
    block = encode(fields)
    assert [(bytes(n), bytes(v)) for n, v in reference.Decoder().decode(block, raw=True)] == fields
    assert decode(block, 100) == fields


@given(FIELDS, st.booleans())
def test_what_another_encodes_without_a_dynamic_table_is_read(
    fields: list[tuple[bytes, bytes]], huffman: bool
) -> None:
    encoder = reference.Encoder()
    encoder.header_table_size = 0
    assert decode(encoder.encode(fields, huffman=huffman), 100) == fields


def test_a_block_means_the_same_each_time() -> None:
    encoder = reference.Encoder()
    encoder.header_table_size = 0
    encoder.encode([(b"x", b"y")])
    assert encoder.encode([(b"x", b"y")]) == encoder.encode([(b"x", b"y")])


def test_a_reference_to_the_dynamic_table_is_an_error() -> None:
    encoder = reference.Encoder()
    encoder.encode([(b"x-own", b"1")])
    with pytest.raises(HpackError):
        decode(encoder.encode([(b"x-own", b"1")]), 100)


def test_secrets_are_never_to_be_put_into_a_table() -> None:
    (field,) = reference.Decoder().decode(encode([(b"cookie", b"secret")]), raw=True)
    assert isinstance(field, reference.NeverIndexedHeaderTuple)


@given(st.binary(max_size=60))
def test_huffman_and_back(text: bytes) -> None:
    assert huffman_decode(huffman_encode(text)) == text


@given(st.binary(max_size=60))
def test_nonsense_is_an_error_and_nothing_worse(data: bytes) -> None:
    with contextlib.suppress(HpackError):
        decode(data, 100)
    with contextlib.suppress(HpackError):
        text = huffman_decode(data)
        assert huffman_encode(text) == data  # no string has two codes


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xbf",  # entry 63
        b"\x00\x7f\xff\xff\xff\xff\xff\xff\x7f",  # an endless integer
        b"\x00\x05ab",  # cut short
        b"\x00\x01",
        b"\x00",
        b"\x82\x20",  # a size update that is not at the beginning
        b"\x3f\xe1\x1f",  # one to 4096
        b"\x00\x81\xff\x00",  # padding of eight ones
        b"\x00\x84\xff\xff\xff\xff\x00",  # the end's own code
    ],
)
def test_what_is_malformed(block: bytes) -> None:
    with pytest.raises(HpackError):
        decode(block, 100)


def test_too_many_fields_or_too_large_ones() -> None:
    with pytest.raises(HpackError):
        decode(b"\x82" * 101, 100)
    with pytest.raises(HpackError):
        decode(encode([(b"x", b"y" * 70_000)]), 100)
