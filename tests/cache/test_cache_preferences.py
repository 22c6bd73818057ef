"""Preferences in one spelling: few variants, none that mixes up what clients can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.keys import vary_key
from atoll.cache.preferences import (
    CODINGS,
    MAX_LANGUAGES,
    MAX_RANKS,
    normal_codings,
    normal_languages,
    normalised,
)
from atoll.http.fields import Headers


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        # what browsers and tools send
        (b"gzip, deflate, br, zstd", b"br, zstd, gzip"),
        (b"gzip, deflate, br", b"br, gzip"),
        (b"gzip, deflate", b"gzip"),
        (b"gzip;q=1.0, identity; q=0.5, *;q=0", b"gzip"),
        (b"identity", b"identity"),
        (b"", b"identity"),
        (b"*", b"br, zstd, gzip"),
        (b"deflate, compress", b"identity"),
        # spelling
        (b" GZIP ,\tBr", b"br, gzip"),
        (b"x-gzip", b"gzip"),
        (b"br, br;q=0.5", b"br"),
        (b"br;q=0.5, br", b"br"),
        # by rank, not by how much
        (b"br;q=0.1, gzip", b"gzip, br;q=0.9"),
        (b"br;q=0.9, gzip", b"gzip, br;q=0.9"),
        (b"br;q=0.3, zstd;q=0.2, gzip;q=0.1", b"br, zstd;q=0.9, gzip;q=0.8"),
        (b"br;q=0.500, gzip;Q=0.5", b"br, gzip"),
        (b"gzip;q=0.001", b"gzip"),
        # refused
        (b"br;q=0, gzip", b"gzip"),
        (b"br;q=0.000", b"identity"),
        (b"br, gzip;q=0, *;q=0.5", b"br, zstd;q=0.9"),
        (b"*;q=0", b"identity;q=0"),
        (b"identity;q=0", b"identity;q=0"),
        (b"*;q=0, identity", b"identity"),
        (b"*;q=0, identity;q=0.5", b"identity"),
        (b"gzip, identity;q=0", b"gzip, identity;q=0"),
        (b"gzip, *;q=0", b"gzip, identity;q=0"),
        # identity counts where it is wanted more than something else
        (b"identity, gzip;q=0.5", b"identity, gzip;q=0.9"),
        (b"br, identity;q=0.5, gzip;q=0.1", b"br, identity;q=0.9, gzip;q=0.8"),
        (b"gzip, identity", b"gzip"),
        (b"gzip;q=0.5, identity;q=0.1", b"gzip"),
        # no weight at all: the member is left out
        (b"br;q=2, gzip", b"gzip"),
        (b"br;q=0.1234, gzip", b"gzip"),
        (b"br;level=5, gzip", b"gzip"),
        (b"br;q, gzip", b"gzip"),
        (b"br;, gzip", b"gzip"),
        (b";q=1", b"identity"),
        (b"\xff\x00", b"identity"),
    ],
)
def test_codings(value: bytes, normal: bytes) -> None:
    assert normal_codings(value) == normal
    assert normal_codings(b"x" * 200 + b"," + value) == normal  # also of a field too long to be remembered


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        (b"en-GB, en;q=0.9, de;q=0.8", b"en-gb, en;q=0.9, de;q=0.8"),
        (b"en-GB,en;q=0.7,de;q=0.3", b"en-gb, en;q=0.9, de;q=0.8"),
        (b"de;q=0.3 , EN-gb,en; q=0.7", b"en-gb, en;q=0.9, de;q=0.8"),
        (b"de, en", b"de, en"),
        (b"en, de", b"de, en"),
        (b"en;q=0.5, de;q=0.500", b"de, en"),
        (b"en, en;q=0.5", b"en"),
        (b"*", b"*"),
        (b"en, *;q=0.1", b"en, *;q=0.9"),
        (b"en, fr;q=0", b"en, fr;q=0"),
        (b"fr;q=0", b"fr;q=0"),
        (b"zh-Hant-TW", b"zh-hant-tw"),
        (b"en_US, de", b"de"),
        (b"en;q=x, de", b"de"),
        (b"toolongtag, de", b"de"),
        (b"", b""),
        (b"\xff", b""),
        # more steps than there are weights: the least wanted are left out
        (b", ".join(b"a%d;q=0.%d" % (n, 99 - n) for n in range(12)), None),
    ],
)
def test_languages(value: bytes, normal: bytes | None) -> None:
    if normal is None:
        normal = b"a0" + b"".join(b", a%d;q=0.%d" % (n, 10 - n) for n in range(1, MAX_RANKS))
    assert normal_languages(value) == normal
    assert normal_languages(b"_" * 200 + b"," + value) == normal


def test_languages_are_bounded() -> None:
    many = b", ".join(b"l%02d" % number for number in range(MAX_LANGUAGES + 5))
    assert normal_languages(many).split(b", ")[-1] == b"l%02d" % (MAX_LANGUAGES - 1)


def test_the_least_wanted_languages_are_left_out() -> None:
    many = [b"l%02d;q=0.5" % number for number in range(MAX_LANGUAGES)]
    kept = normal_languages(b", ".join([*many, b"z", b"a;q=0.1"])).split(b", ")
    assert kept[0] == b"z"
    assert kept[-1] == b"l%02d;q=0.9" % (MAX_LANGUAGES - 2)


def test_a_request_is_normalised_in_place_of_what_it_said() -> None:
    request: Headers = [
        (b"accept-encoding", b"gzip"),
        (b"x", b"1"),
        (b"accept-language", b"en"),
        (b"accept-encoding", b"br"),
        (b"accept-language", b"de;q=0.5"),
    ]
    assert normalised(request) == [
        (b"x", b"1"),
        (b"accept-encoding", b"br, gzip"),
        (b"accept-language", b"en, de;q=0.9"),
    ]


def test_what_is_not_said_stays_unsaid() -> None:
    plain: Headers = [(b"x", b"1")]
    assert normalised(plain) is plain
    assert normalised([(b"accept-encoding", b"")]) == [(b"accept-encoding", b"identity")]
    assert normalised([(b"accept-language", b"_")]) == []
    assert normalised([(b"accept-language", b"en")]) == [(b"accept-language", b"en")]


_names = st.sampled_from([*CODINGS, b"identity", b"*", b"deflate", b"x-gzip", b"en", b"de-ch"])
_weights = st.sampled_from([b"", b";q=1", b";q=0", b";q=0.5", b"; q=0.51", b";q=0.005", b";q=7", b";x"])
_lists = st.lists(st.tuples(_names, _weights).map(b"".join), max_size=6)


@given(_lists)
def test_normal_is_normal_and_order_means_nothing(members: list[bytes]) -> None:
    for normal in (normal_codings, normal_languages):
        once = normal(b", ".join(members))
        assert normal(once) == once
        assert normal(b",".join(reversed(members))) == once


@given(_lists)
def test_nothing_is_offered_that_was_refused(members: list[bytes]) -> None:
    offered = {member.partition(b";")[0] for member in normal_codings(b",".join(members)).split(b", ")}
    names = {member.partition(b";")[0].replace(b"x-gzip", b"gzip") for member in members}
    assert offered <= {*CODINGS, b"identity"}
    assert (offered - {b"identity"}) <= names or b"*" in names


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_become_few_variants(encoding: bytes, language: bytes) -> None:
    request = normalised([(b"accept-encoding", encoding), (b"accept-language", language)])
    assert normalised(request) == request
    assert vary_key((b"accept-encoding", b"accept-language"), request)
