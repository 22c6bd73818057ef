"""Messages from grammars: hypothesis looks for the smallest one that is understood differently."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atoll.http import h2_wire as h2
from atoll.http.hpack import encode
from bench.fuzzing import frames, requests, responses
from bench.fuzzing.fields import H3Target, RulesTarget
from bench.fuzzing.h1 import H1Target
from bench.fuzzing.h2 import H2Target, H2UpstreamTarget
from bench.fuzzing.prefixes import PrefixTarget
from bench.fuzzing.upstream import UpstreamTarget

H1, UPSTREAM, H2, H2_UPSTREAM = H1Target(), UpstreamTarget(), H2Target(), H2UpstreamTarget()
H3, RULES, PREFIX = H3Target(), RulesTarget(), PrefixTarget()
often = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

end = st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b""))
token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
value = st.binary(max_size=12) | st.sampled_from(
    (b"chunked", b"3", b"h", b"close", b"upgrade", b"100-continue")
)
name = token | st.sampled_from(
    (b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"TE")
)
field = st.builds(lambda n, sep, v: n + sep + v, name, st.sampled_from((b": ", b":", b" : ", b"")), value)
chunk = st.binary(max_size=6).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data))
chunked = st.lists(chunk, max_size=3).map(lambda chunks: b"".join(chunks) + b"0\r\n\r\n")
body = st.binary(max_size=8) | chunked
line = st.sampled_from((b"GET /a HTTP/1.1", b"POST /a HTTP/1.1", b"GET /a HTTP/1.0", b"OPTIONS * HTTP/1.1"))
word = st.sampled_from(requests.WORDS)


@st.composite
def message(draw: st.DrawFn, first: st.SearchStrategy[bytes], usual: bytes) -> bytes:
    """A message: a line, fields, a body, and some end of line behind each."""
    lines = [draw(first), *draw(st.lists(field | st.just(usual) | word, max_size=5))]
    return b"".join(each + draw(end) for each in lines) + b"\r\n" + draw(body)


request = message(line | word, b"Host: h")
status = st.sampled_from((b"HTTP/1.1 200 OK", b"HTTP/1.1 204 x", b"HTTP/1.1 103 x", b"HTTP/1.0 200 OK"))
response = message(status | st.sampled_from(responses.WORDS), b"Content-Length: 3")


@often
@given(st.lists(request, min_size=1, max_size=3).map(b"".join))
@example(b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n")
@example(
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"
)
async def test_requests(data: bytes) -> None:
    assert H1.check(data) == []


@often
@given(st.lists(response, min_size=1, max_size=2).map(b"".join))
async def test_responses(data: bytes) -> None:
    assert UPSTREAM.check(data) == []


kind, flags = st.integers(0, 11), st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2D))
stream = st.sampled_from((0, 1, 2, 3, 5, 2**31 - 1))
pair = st.tuples(st.binary(min_size=1, max_size=10), st.binary(max_size=10)) | st.sampled_from(frames.FIELDS)
block = st.lists(pair | st.sampled_from(frames.PSEUDO), max_size=5)


def frame_of(base: list[tuple[bytes, bytes]]) -> st.SearchStrategy[bytes]:
    """A frame of any kind; a head that begins like one that is right."""
    head = st.builds(lambda s, b, e: h2.header_frames(s, encode(base + b), e), stream, block, st.booleans())
    return st.builds(h2.frame, kind, flags, stream, st.binary(max_size=20)) | head


@often
@given(st.lists(frame_of(frames.REQUEST), max_size=8).map(b"".join))
async def test_frames_of_a_client(data: bytes) -> None:
    assert H2.check(h2.settings({}) + data) == []


@often
@given(st.lists(frame_of(frames.RESPONSE), max_size=8).map(b"".join))
async def test_frames_of_an_origin(data: bytes) -> None:
    assert H2_UPSTREAM.check(h2.settings({}) + data) == []


@often
@given(st.lists(pair | st.sampled_from(frames.PSEUDO), max_size=6))
def test_fields_of_http3(fields: list[tuple[bytes, bytes]]) -> None:
    data = b"\n".join(b"%b: %b" % field for field in frames.REQUEST + fields)
    assert H3.check(data) == []


@often
@given(st.lists(st.sampled_from(requests.WORDS) | st.binary(max_size=30), max_size=12).map(b"\n".join))
def test_fields_for_the_rules(data: bytes) -> None:
    assert RULES.check(b"GET 200 5 /a\n" + data) == []


@often
@given(st.binary(max_size=80))
def test_the_first_bytes(data: bytes) -> None:
    for seed in PREFIX.seeds()[:6]:
        assert PREFIX.check(seed[: len(data)] + data) == []
