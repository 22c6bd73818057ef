"""Compression in a whole edge worker, and its parts: encoders, siblings of stored responses, streams."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from edge_world import Asked, Response, World, get, page, until, world
from http2_client import Client
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.store import Entry
from atoll.config.compression import CompressionSpec
from atoll.config.spec import RouteSpec
from atoll.edge.compress import AT_ONCE, BETTER, FAST, EncodedEntry, Encoder, Encodings, encode
from atoll.errors import AtollError
from atoll.http.cache_control import CacheControl
from atoll.http.fields import get as field_of
from atoll.http.negotiate import CODINGS, Coding, terms_of

__all__ = ["world"]
TEXT = b"".join(
    b"<li>line %d, worth %d, of a page that says much the same</li>\n" % (n, n * n * 7919 % 9973)
    for n in range(99)
)
LARGE = TEXT * 20
TERMS = terms_of(CompressionSpec())


def decoded(coding: bytes | str, data: bytes) -> bytes:
    name = coding.decode() if isinstance(coding, bytes) else coding
    if name == "br":
        plain: bytes = brotli.decompress(data)
        return plain
    if name == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return gzip.decompress(data) if name == "gzip" else data


def read_so_far(coding: bytes, data: bytes) -> bytes:
    """What a client can make of the beginning of an answer."""
    if coding == b"br":
        plain: bytes = brotli.Decompressor().process(data)
        return plain
    if coding == b"zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data)


def body_of(answer: Response) -> bytes:
    return decoded(answer.field("content-encoding"), answer.body)


def serve(world: World, **options: object) -> None:
    spec = CompressionSpec(**options)  # type: ignore[arg-type]
    routes = (
        RouteSpec(path="/*", pool="shop", compression=spec),
        RouteSpec(path="/live/*", pool="shop", compression=spec, cache=False),
        RouteSpec(path="/fn/*", function="fn", compression=spec),
        RouteSpec(path="/raw/*", pool="shop"),
    )
    world.edge.apply(world.snapshot(2, routes=routes))


def html(body: bytes = TEXT, *fields: bytes, cache: bytes = b"max-age=60") -> bytes:
    return page(body, cache, b"Content-Type: text/html", b'ETag: "v1"', *fields)


# --- encoders


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(CODINGS), st.booleans())
def test_what_is_encoded_is_decoded(pieces: list[bytes], coding: Coding, eager: bool) -> None:
    encoder, encoded = Encoder(coding, FAST[coding]), b""
    for piece in pieces:
        encoded += encoder.feed(piece) + (encoder.flush() if eager else b"")
    assert decoded(coding, encoded + encoder.finish()) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_flushed_can_be_decoded(coding: Coding) -> None:
    encoder = Encoder(coding, FAST[coding])
    sent = encoder.feed(b"data: one\n\n") + encoder.flush()
    assert read_so_far(coding, sent) == b"data: one\n\n"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_better_level_is_smaller(coding: Coding) -> None:
    fast, better = (encode(coding, levels[coding], LARGE) for levels in (FAST, BETTER))
    assert len(better) < len(fast) < len(LARGE) / 3
    assert decoded(coding, better) == LARGE


def test_a_zstd_window_is_one_that_browsers_take() -> None:
    """RFC 9659: 8 MB at most."""
    noise = os.urandom(16 * 1024) * 700
    for level in (FAST[b"zstd"], BETTER[b"zstd"]):
        assert zstandard.get_frame_parameters(encode(b"zstd", level, noise)).window_size <= 8 * 1024 * 1024


# --- a worker


async def test_a_response_is_compressed_as_the_client_likes(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    for accept, coding in (
        (b"gzip", "gzip"),
        (b"gzip, br, zstd", "br"),
        (b"zstd, br;q=0.5", "zstd"),
        (b"gzip;q=0", ""),
        (b"identity, gzip;q=0.5", ""),
    ):
        for _ in range(3):  # fetched or stored, then repeated by bytes
            answer = await world.ask(get(b"/a", b"Accept-Encoding: " + accept))
            assert answer.field("content-encoding") == coding
            assert answer.field("vary") == "Accept-Encoding"
            assert answer.field("etag") == ('W/"v1"' if coding else '"v1"')
            assert body_of(answer) == TEXT
            assert coding == "" or len(answer.body) < len(TEXT) / 3
    assert len(world.origin.asked) == 1


async def test_a_hit_compresses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    br = get(b"/a", b"Accept-Encoding: br")
    await world.ask(br)
    stored = await world.ask(br)
    assert int(stored.field("content-length")) == len(stored.body)
    await until(lambda: not world.edge.encodings._pending)
    monkeypatch.setattr("atoll.edge.compress.encode", None)
    monkeypatch.setattr("atoll.edge.compress.Encoder", None)
    better = await world.ask(br)
    again = await world.ask(br)
    other = await world.ask(get(b"/a", b"Accept-Encoding: br", b"X-Other: 1"))
    assert better.body == again.body == other.body
    assert len(better.body) < len(stored.body)  # made behind, and in place of the first
    assert body_of(better) == TEXT
    assert again.field("x-cache") == "HIT"


@pytest.mark.parametrize(
    "large", [LARGE, LARGE[: AT_ONCE + 9000]], ids=["large", "small enough for the hot table"]
)
async def test_large_content_is_made_behind_and_served_as_it_passes_until_then(
    world: World, large: bytes
) -> None:
    serve(world)
    world.origin.answer = lambda asked: html(large)
    assert len(large) > AT_ONCE
    br = get(b"/a", b"Accept-Encoding: br")
    passing = [await world.ask(br), await world.ask(br)]
    assert all(body_of(answer) == large for answer in passing)
    await until(lambda: not world.edge.encodings._pending)
    stored = await world.ask(br)
    assert int(stored.field("content-length")) == len(stored.body) < len(passing[0].body)
    assert body_of(stored) == large
    assert len(world.origin.asked) == 1


async def test_conditions_work_with_the_weak_tag(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    assert (await world.ask(get(b"/a", b"Accept-Encoding: br"))).status == 200
    for tag in (b'W/"v1"', b'"v1"', b"*"):
        same = await world.ask(get(b"/a", b"Accept-Encoding: br", b"If-None-Match: " + tag))
        assert same.status == 304
        assert same.field("etag") == 'W/"v1"'
        assert same.field("vary") == "Accept-Encoding"
    other = await world.ask(get(b"/a", b"Accept-Encoding: br", b'If-None-Match: W/"v2"'))
    assert other.status == 200


async def test_ranges_are_of_the_content_as_it_is(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    await world.ask(get(b"/a", b"Accept-Encoding: br"))
    part = await world.ask(get(b"/a", b"Accept-Encoding: br", b"Range: bytes=10-19"))
    assert (part.status, part.body, part.field("content-encoding")) == (206, TEXT[10:20], "")
    whole = await world.ask(get(b"/a", b"Accept-Encoding: br", b"Range: bytes=10-19", b'If-Range: W/"v1"'))
    assert (whole.status, whole.body) == (200, TEXT)


async def test_head_says_what_get_says(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    request = b"Accept-Encoding: zstd"
    await world.ask(get(b"/a", request))
    await until(lambda: not world.edge.encodings._pending)
    got, head = await world.ask(get(b"/a", request)), await world.ask(get(b"/a", request, method=b"HEAD"))
    for name in ("content-encoding", "content-length", "etag", "vary", "content-type"):
        assert head.field(name) == got.field(name)


@pytest.mark.parametrize(
    ("answer", "request_field"),
    [
        (html(gzip.compress(TEXT), b"Content-Encoding: gzip"), b"X: y"),
        (html(cache=b"max-age=60, no-transform"), b"X: y"),
        (html(), b"Cache-Control: no-transform"),
        (html(b"short"), b"X: y"),
        (page(TEXT, b"max-age=60", b"Content-Type: image/png"), b"X: y"),
        (page(TEXT, b"max-age=60"), b"X: y"),
    ],
)
async def test_what_is_left_as_it_is(world: World, answer: bytes, request_field: bytes) -> None:
    serve(world)
    world.origin.answer = lambda asked: answer
    body = answer.partition(b"\r\n\r\n")[2]
    for path in (b"/a", b"/a", b"/live/a"):
        found = await world.ask(get(path, b"Accept-Encoding: br, gzip", request_field))
        assert found.body == body


async def test_routes_without_compression_are_left_alone(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    answer = await world.ask(get(b"/raw/a", b"Accept-Encoding: br"))
    assert (answer.body, answer.field("vary"), answer.field("etag")) == (TEXT, "", '"v1"')


async def test_functions_and_uncached_responses_are_compressed_as_they_pass(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html(LARGE, cache=b"no-store")
    world.function.answer = lambda asked: html(TEXT, cache=b"no-store")
    for _ in range(2):
        live = await world.ask(get(b"/live/a", b"Accept-Encoding: gzip"))
        assert live.field("content-encoding") == "gzip"
        assert body_of(live) == LARGE
        answer = await world.ask(get(b"/fn/a", b"Accept-Encoding: br"))
        assert answer.field("content-encoding") == "br"
        assert body_of(answer) == TEXT


async def test_only_what_is_stored_where_secrets_are_about(world: World) -> None:
    serve(world, uncached=False)
    world.origin.answer = lambda asked: html(cache=b"no-store" if asked.target != b"/a" else b"max-age=60")
    live = await world.ask(get(b"/live/a", b"Accept-Encoding: br"))
    assert (live.body, live.field("vary")) == (TEXT, "Accept-Encoding")
    await world.ask(get(b"/a", b"Accept-Encoding: br"))
    assert (await world.ask(get(b"/a", b"Accept-Encoding: br"))).field("content-encoding") == "br"


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip"])
async def test_an_event_leaves_as_soon_as_it_comes(world: World, coding: bytes) -> None:
    serve(world)
    seen = asyncio.Event()

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
        )
        await seen.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await writer.drain()

    world.origin.converse = converse
    reader, writer = await world.connect()
    writer.write(get(b"/live/events", b"Accept-Encoding: " + coding))
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-encoding: " + coding in head.lower()
        encoded = b""
        while read_so_far(coding, encoded) != b"data: 1\n\n":  # before the origin sends anything more
            size = int(await reader.readuntil(b"\r\n"), 16)
            encoded += (await reader.readexactly(size + 2))[:-2]
        seen.set()
        while size := int(await reader.readuntil(b"\r\n"), 16):
            encoded += (await reader.readexactly(size + 2))[:-2]
    assert decoded(coding, encoded) == b"data: 1\n\ndata: 2\n\n"
    writer.close()


async def test_a_new_response_is_encoded_anew(world: World) -> None:
    serve(world)
    br = get(b"/a", b"Accept-Encoding: br")
    world.origin.answer = lambda asked: html()
    for _ in range(3):
        await world.ask(br)
    world.origin.answer = lambda asked: html(TEXT + b"changed")
    await world.ask(b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n")
    for _ in range(3):
        assert body_of(await world.ask(br)) == TEXT + b"changed"


async def test_a_snapshot_with_terms_that_make_no_sense_is_refused(world: World) -> None:
    with pytest.raises(AtollError, match="no codings"):
        serve(world, codings=("deflate",))
    assert world.edge.snapshot.seq == 1


# --- siblings


def entry(body: bytes = TEXT, **changes: object) -> Entry:
    headers = [(b"content-type", b"text/html"), (b"etag", b'"v1"')]
    made = Entry(
        status=200,
        headers=headers,
        body=body,
        request_time_s=0.0,
        response_time_s=0.0,
        date_s=0.0,
        lifetime_s=60.0,
        initial_age_s=0.0,
        cc=CacheControl(),
        vary=(),
    )
    made.live = True
    return made


async def test_a_sibling_lives_and_ages_as_its_source_does() -> None:
    encodings, source = Encodings(), entry()
    sibling = encodings.pick(TERMS, b"gzip", source)
    assert isinstance(sibling, EncodedEntry)
    assert encodings.pick(TERMS, b"gzip", source) is sibling
    assert encodings.pick(TERMS, b"gzip", sibling) is sibling
    source.lifetime_s = 5.0
    source.softened = True
    assert (sibling.live, sibling.lifetime_s, sibling.softened) == (True, 5.0, True)
    source.live = False
    assert not sibling.live
    encodings.close()


async def test_siblings_are_bounded() -> None:
    encodings = Encodings(budget=40 * len(TEXT))
    sources = [entry() for _ in range(200)]
    for source in sources:
        encodings.pick(TERMS, b"zstd", source)
    assert 0 < encodings.bytes_used <= 40 * len(TEXT)
    encodings.close()


async def test_what_does_not_shrink_is_left_as_it_is() -> None:
    noise = os.urandom(5000)
    encodings = Encodings()
    found = encodings.pick(TERMS, b"br", entry(noise))
    assert found is not None
    assert found.body == noise
    assert field_of(found.headers, b"content-encoding") is None
    assert field_of(found.headers, b"vary") == b"Accept-Encoding"
    encodings.close()


async def test_the_same_over_http2(world: World) -> None:
    serve(world)
    world.origin.answer = lambda asked: html()
    client = Client(await world.connect())
    for _ in range(4):  # fetched, stored, and repeated
        stream = client.ask("/a", ("accept-encoding", "zstd"))
        await client.complete(stream)
        head = client.heads[stream]
        assert (head["content-encoding"], head["vary"], head["etag"]) == ("zstd", "Accept-Encoding", 'W/"v1"')
        assert decoded(b"zstd", client.bodies[stream]) == TEXT
    client.writer.close()
    assert len(world.origin.asked) == 1
