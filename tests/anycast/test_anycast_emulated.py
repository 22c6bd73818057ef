"""The emulated speaker against a neighbour that answers, refuses, drops the session and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.anycast.backoff import backoff_s
from atoll.anycast.emulated import EmulatedSpeaker, Liveness
from atoll.anycast.speaker import (
    Announcement,
    RouteAcknowledged,
    RouteWithdrawn,
    SessionDown,
    SessionUp,
    SpeakerEvent,
    WithdrawalProof,
)
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import Keepalive, Message, Ok, RouteAnnounce, RouteWithdraw, SpeakerOpen

ONE = Announcement(prefix="192.0.2.0/24")
TWO = Announcement(
    prefix="2001:db8:a70::/48", prepend=2, med=7, communities=("65535:0",), large_communities=("1:2:3",)
)


class Neighbour:
    """Takes every message; refuses the prefixes in `refused`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.heard: list[Message] = []
        self.refused: set[str] = set()
        self.leave_on_withdraw = False
        self.peer: frames.Peer | None = None
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await frames.serve(self.socket, self._answer)

    def stop(self) -> None:
        """Be gone, session and all."""
        assert self._server is not None
        self._server.close()
        self.socket.unlink(missing_ok=True)
        if self.peer is not None:
            self.peer.close()

    async def _answer(self, peer: frames.Peer, message: Message) -> Message | None:
        self.peer = peer
        self.heard.append(message)
        if isinstance(message, RouteAnnounce) and message.prefix in self.refused:
            raise AtollError("not yours")
        if isinstance(message, RouteWithdraw) and self.leave_on_withdraw:
            peer.close()
            return None
        return Ok()


class Events:
    """What a speaker tells, awaitable."""

    def __init__(self) -> None:
        self.seen: list[SpeakerEvent] = []
        self._news = asyncio.Event()

    def __call__(self, event: SpeakerEvent) -> None:
        self.seen.append(event)
        self._news.set()

    async def until(self, *wanted: SpeakerEvent) -> None:
        """Wait until the last events are `wanted`."""
        while tuple(self.seen[-len(wanted) :]) != wanted:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 5)


@pytest.fixture
async def neighbour(tmp_path: Path) -> AsyncIterator[Neighbour]:
    found = Neighbour(tmp_path / "internet.sock")
    await found.start()
    yield found
    found.stop()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
async def speaker(tmp_path: Path, events: Events) -> AsyncIterator[EmulatedSpeaker]:
    made = EmulatedSpeaker(tmp_path / "internet.sock", "lhr", 64513, events, jitter=lambda: 0.0)
    yield made
    await made.close()


async def test_announces_with_every_attribute_and_tells(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await events.until(SessionUp())
    assert speaker.session_up
    await speaker.announce(TWO)
    await speaker.announce(ONE)
    assert speaker.acknowledged == (ONE, TWO)
    assert neighbour.heard == [
        SpeakerOpen(pop="lhr", asn=64513, keepalive_s=0.1, multiplier=10),
        RouteAnnounce(prefix="2001:db8:a70::/48", prepend=2, med=7, communities=("65535:0", "1:2:3")),
        RouteAnnounce(prefix="192.0.2.0/24"),
    ]
    assert events.seen == [
        SessionUp(),
        RouteAcknowledged(announcement=TWO),
        RouteAcknowledged(announcement=ONE),
    ]


async def test_a_withdrawal_is_proven_by_the_neighbour(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await events.until(SessionUp())
    await speaker.announce(ONE)
    proof = await speaker.withdraw("192.0.2.0/24")
    assert proof == WithdrawalProof(prefix="192.0.2.0/24", how="acknowledged")
    assert neighbour.heard[-1] == RouteWithdraw(prefix="192.0.2.0/24")
    assert events.seen[-1] == RouteWithdrawn(prefix="192.0.2.0/24")
    assert not speaker.acknowledged


async def test_a_session_that_ends_proves_the_withdrawal_too(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await events.until(SessionUp())
    await speaker.announce(ONE)
    neighbour.leave_on_withdraw = True
    proof = await speaker.withdraw("192.0.2.0/24")
    assert proof == WithdrawalProof(prefix="192.0.2.0/24", how="no session")


async def test_without_a_session_intents_are_kept_and_announced_when_it_comes(
    tmp_path: Path, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await speaker.announce(ONE)
    await speaker.announce(TWO)
    assert (await speaker.withdraw("192.0.2.0/24")).how == "no session"
    assert not speaker.session_up
    assert not speaker.acknowledged
    late = Neighbour(tmp_path / "internet.sock")
    await late.start()
    await events.until(SessionUp(), RouteAcknowledged(announcement=TWO))
    assert [type(message) for message in late.heard] == [SpeakerOpen, RouteAnnounce]
    late.stop()


async def test_after_a_lost_session_it_comes_back_with_its_routes(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await events.until(SessionUp())
    await speaker.announce(ONE)
    neighbour.stop()
    await events.until(SessionDown(reason="the other side closed"))
    assert not speaker.acknowledged
    assert not speaker.session_up
    await neighbour.start()
    await events.until(SessionUp(), RouteAcknowledged(announcement=ONE))
    assert speaker.acknowledged == (ONE,)


async def test_a_refused_announcement_is_the_callers_to_know(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    neighbour.refused.add("192.0.2.0/24")
    await speaker.open()
    await events.until(SessionUp())
    with pytest.raises(AtollError, match="not yours"):
        await speaker.announce(ONE)
    assert not speaker.acknowledged


async def test_it_says_that_it_lives(neighbour: Neighbour, events: Events) -> None:
    liveness = Liveness(interval_s=0.01, multiplier=3)
    made = EmulatedSpeaker(neighbour.socket, "lhr", 64513, events, liveness=liveness)
    await made.open()
    await events.until(SessionUp())
    async with asyncio.timeout(5):
        while neighbour.heard.count(Keepalive()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert SpeakerOpen(pop="lhr", asn=64513, keepalive_s=0.01, multiplier=3) in neighbour.heard
    await made.close()


async def test_closing_ends_the_session(
    neighbour: Neighbour, speaker: EmulatedSpeaker, events: Events
) -> None:
    await speaker.open()
    await events.until(SessionUp())
    await speaker.close()
    assert events.seen[-1] == SessionDown(reason="closed")
    assert neighbour.peer is not None
    await asyncio.wait_for(neighbour.peer.closed.wait(), 5)


@pytest.mark.parametrize(
    ("attempt", "jitter", "pause_s"),
    [(0, 1.0, 0.05), (0, 0.0, 0.025), (1, 1.0, 0.1), (3, 0.5, 0.3), (6, 1.0, 2.0), (10**6, 1.0, 2.0)],
)
def test_back_off_doubles_up_to_a_bound(attempt: int, jitter: float, pause_s: float) -> None:
    assert backoff_s(attempt, jitter) == pytest.approx(pause_s)
