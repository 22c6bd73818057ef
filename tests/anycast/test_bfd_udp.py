"""BFD over real sockets: two services on two loopback addresses."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faults import until

from atoll.anycast.bfd import Change, Timers
from atoll.anycast.bfd_packet import ControlPacket, Diagnostic, Reason, State, encode
from atoll.anycast.bfd_udp import PORT, SOURCE_PORTS, BfdService, Peer
from atoll.errors import AtollError

FAST = Timers(desired_min_tx_us=50_000, required_min_rx_us=50_000)
LEFT, RIGHT = "127.0.0.31", "127.0.0.32"


class End:
    """A service and what it said."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.service = BfdService(lambda _peer, change: self.changes.put_nowait(change))

    async def until(self, state: State) -> Change:
        """The change to a state."""
        async with asyncio.timeout(10):
            while (change := await self.changes.get()).after is not state:
                pass
            return change


@asynccontextmanager
async def two() -> AsyncIterator[tuple[End, End]]:
    left, right = End(), End()
    left.service.add(Peer(address=RIGHT, local=LEFT, timers=FAST))
    right.service.add(Peer(address=LEFT, local=RIGHT, timers=FAST))
    try:
        yield left, right
    finally:
        await asyncio.gather(left.service.close(), right.service.close())


async def fast(end: End) -> None:
    """The faster timers are agreed on by Poll and Final, once both are up."""

    async def agreed() -> bool:
        return end.service.detection_s(RIGHT) < 0.2

    await until(agreed)


async def test_two_ends_find_each_other_and_part_in_peace() -> None:
    async with two() as (left, right):
        await asyncio.gather(left.until(State.UP), right.until(State.UP))
        assert left.service.state(RIGHT) is State.UP
        await fast(left)
        await left.service.remove(RIGHT)
        told = await right.until(State.DOWN)
        assert told.diagnostic == Diagnostic.NEIGHBOR_SIGNALED_DOWN
        assert not told.path_failed
        assert left.service.state(RIGHT) is State.ADMIN_DOWN


async def test_a_silent_neighbour_is_given_up_after_its_detection_time() -> None:
    async with two() as (left, right):
        await asyncio.gather(left.until(State.UP), right.until(State.UP))
        await fast(left)
        for timer in [running.timer for running in right.service._by_address.values()]:
            assert timer is not None
            timer.cancel()
        asyncio.get_running_loop().remove_reader(right.service._listeners[RIGHT, ""])
        down = await left.until(State.DOWN)
        assert down.path_failed
        assert down.diagnostic == Diagnostic.DETECTION_TIME_EXPIRED
        running = right.service._by_address[LEFT]
        right.service._tick(running)  # it goes on: whoever was held up finds out by itself


async def test_a_process_that_was_held_up_reads_what_waits_before_it_gives_anybody_up() -> None:
    async with two() as (left, right):
        await asyncio.gather(left.until(State.UP), right.until(State.UP))
        await fast(left)
        expired_s = asyncio.get_running_loop().time() + 1.0
        running = left.service._by_address[RIGHT]
        sender = right.service._by_address[LEFT]
        packet = encode(
            ControlPacket(
                state=State.UP,
                my_discriminator=sender.session.discriminator,
                your_discriminator=running.session.discriminator,
                desired_min_tx_us=50_000,
                required_min_rx_us=50_000,
            )
        )
        while asyncio.get_running_loop().time() < expired_s:  # nobody runs, as on a machine without time
            sender.sender.send(packet)
        left.service._tick(running)
        assert left.service.state(RIGHT) is State.UP


def _raw(ttl: int, source: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    made.bind((source, 0))
    return made


@pytest.mark.parametrize(
    ("ttl", "source", "payload", "reason"),
    [
        (254, RIGHT, encode(ControlPacket(state=State.DOWN, my_discriminator=7)), Reason.TTL),
        (
            255,
            "127.0.0.33",
            encode(ControlPacket(state=State.DOWN, my_discriminator=7)),
            Reason.UNKNOWN_SOURCE,
        ),
        (255, RIGHT, b"hello", Reason.TRUNCATED),
        (
            255,
            RIGHT,
            encode(ControlPacket(state=State.DOWN, my_discriminator=7, your_discriminator=5)),
            Reason.UNKNOWN_DISCRIMINATOR,
        ),
    ],
)
async def test_what_is_not_believed_is_counted_and_changes_nothing(
    ttl: int, source: str, payload: bytes, reason: Reason
) -> None:
    end = End()
    end.service.add(Peer(address=RIGHT, local=LEFT, timers=FAST))
    with _raw(ttl, source) as stranger:
        stranger.sendto(payload, (LEFT, PORT))

        async def counted() -> bool:
            return bool(end.service.discarded)

        await until(counted)
    assert end.service.discarded == {reason: 1}
    assert end.service.state(RIGHT) is State.DOWN
    await end.service.close()


async def test_the_source_port_is_of_the_range_and_the_ttl_is_255() -> None:
    end = End()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbour:
        neighbour.bind((RIGHT, PORT))
        neighbour.setsockopt(socket.IPPROTO_IP, 12, 1)
        neighbour.settimeout(5)
        end.service.add(Peer(address=RIGHT, local=LEFT, timers=FAST))
        _, ancillary, _, source = await asyncio.to_thread(neighbour.recvmsg, 64, 64)
    assert SOURCE_PORTS[0] <= source[1] <= SOURCE_PORTS[1]
    assert [int.from_bytes(data, "little") for _, _, data in ancillary] == [255]
    await end.service.close()


async def test_what_cannot_be_a_session_is_refused_with_the_reason() -> None:
    end = End()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((LEFT, PORT))
        with pytest.raises(AtollError, match=r"no BFD with 127\.0\.0\.32: Address already in use"):
            end.service.add(Peer(address=RIGHT, local=LEFT))
    with pytest.raises(AtollError, match="desired_min_tx_us"):
        end.service.add(Peer(address=RIGHT, local=LEFT, timers=Timers(desired_min_tx_us=1)))
    end.service.add(Peer(address=RIGHT, local=LEFT))
    with pytest.raises(AtollError, match="two BFD sessions"):
        end.service.add(Peer(address=RIGHT, local=LEFT))
    await end.service.close()
