"""Frames over a real unix socket: calls, failures, versions, limits."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import Message, Ok, SetIntent, SpeakerOpen, Stop


async def answer(_peer: frames.Peer, body: Message) -> Message | None:
    if isinstance(body, SpeakerOpen):
        return Ok(seq=body.asn)
    if isinstance(body, SetIntent):
        raise AtollError("not now", hint="later", where="pop")
    return None


async def test_calls_are_answered_by_their_ids(tmp_path: Path) -> None:
    server = await frames.serve(tmp_path / "s", answer)
    peer = await frames.connect(tmp_path / "s")
    replies = await asyncio.gather(*(peer.call(SpeakerOpen(pop="lhr", asn=n)) for n in range(20)))
    peer.close()
    server.close()
    assert replies == [Ok(seq=n) for n in range(20)]
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


async def test_a_refusal_keeps_its_three_parts(tmp_path: Path) -> None:
    server = await frames.serve(tmp_path / "s", answer)
    with pytest.raises(AtollError) as caught:
        await frames.ask(tmp_path / "s", SetIntent(drain=True))
    server.close()
    assert (caught.value.message, caught.value.hint, caught.value.where) == ("not now", "later", "pop")


async def test_an_unknown_request_is_refused_not_ignored(tmp_path: Path) -> None:
    server = await frames.serve(tmp_path / "s", answer)
    with pytest.raises(AtollError, match="Stop is not answered here"):
        await frames.ask(tmp_path / "s", Stop())
    server.close()


async def test_a_peer_that_leaves_fails_the_calls_that_wait(tmp_path: Path) -> None:
    async def leave(peer: frames.Peer, _body: Message) -> Message | None:
        peer.close()
        return None

    server = await frames.serve(tmp_path / "s", leave)
    with pytest.raises(AtollError, match="closed"):
        await frames.ask(tmp_path / "s", Stop())
    server.close()


async def feed(data: bytes) -> frames.Envelope:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await frames.read_frame(reader)


async def test_a_frame_reads_back() -> None:
    envelope = frames.Envelope(frames.VERSION, 7, frames.REQUEST, Ok(seq=3))
    assert await feed(frames.encode_frame(envelope)) == envelope


async def test_fields_of_a_newer_version_are_ignored() -> None:
    body = msgspec.msgpack.encode([frames.VERSION + 1, 1, 0, {"type": "Ok", "seq": 3, "new": [1, 2]}])
    envelope = await feed(len(body).to_bytes(4, "big") + body)
    assert envelope.body == Ok(seq=3)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ((frames.MAX_FRAME + 1).to_bytes(4, "big"), "bytes"),
        (b"\0\0\0\x02\xc1\xc1", "no message"),
        (b"\0\0\0\x01\x90", "no message"),
    ],
)
async def test_nonsense_is_refused(frame: bytes, words: str) -> None:
    with pytest.raises(AtollError, match=words):
        await feed(frame)


async def test_a_far_version_is_refused() -> None:
    body = msgspec.msgpack.encode([frames.VERSION + 2, 1, 0, {"type": "Ok"}])
    with pytest.raises(AtollError, match="version"):
        await feed(len(body).to_bytes(4, "big") + body)
