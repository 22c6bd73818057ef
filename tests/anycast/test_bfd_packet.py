"""Control packets on the wire: known bytes, there and back, and every check of RFC 5880 §6.8.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.anycast.bfd_packet import LENGTH, ControlPacket, Diagnostic, Reason, State, decode, encode

# Down, multiplier 3, 1 s wanted, 100 ms taken.
DOWN = bytes.fromhex("20 40 03 18 1a2b3c4d 00000000 000f4240 000186a0 00000000")
UP = ControlPacket(state=State.UP, my_discriminator=7, your_discriminator=9)
WORD = st.integers(0, 2**32 - 1)


@st.composite
def packets(draw: st.DrawFn) -> ControlPacket:
    state = draw(st.sampled_from(State))
    return ControlPacket(
        state=state,
        my_discriminator=draw(st.integers(1, 2**32 - 1)),
        your_discriminator=draw(WORD if state < State.INIT else st.integers(1, 2**32 - 1)),
        detect_multiplier=draw(st.integers(1, 255)),
        desired_min_tx_us=draw(WORD),
        required_min_rx_us=draw(WORD),
        required_min_echo_rx_us=draw(WORD),
        diagnostic=draw(st.integers(0, 31)),
        poll=draw(st.booleans()),
        final=draw(st.booleans()),
        control_plane_independent=draw(st.booleans()),
        demand=draw(st.booleans()),
    )


def changed(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes([value]) + packet[at + 1 :]


def test_known_bytes() -> None:
    packet = decode(DOWN)
    assert packet == ControlPacket(
        state=State.DOWN,
        my_discriminator=0x1A2B3C4D,
        detect_multiplier=3,
        desired_min_tx_us=1_000_000,
        required_min_rx_us=100_000,
    )
    assert encode(packet) == DOWN


@pytest.mark.parametrize(
    ("flag", "field"),
    [
        (0x20, "poll"),
        (0x10, "final"),
        (0x08, "control_plane_independent"),
        (0x02, "demand"),
    ],
)
def test_each_flag_has_its_bit(flag: int, field: str) -> None:
    packet = decode(changed(DOWN, 1, 0x40 | flag))
    assert isinstance(packet, ControlPacket)
    flags = ("poll", "final", "control_plane_independent", "demand")
    assert [name for name in flags if getattr(packet, name)] == [field]


def test_the_diagnostic_shares_an_octet_with_the_version() -> None:
    packet = decode(changed(DOWN, 0, 0x20 | Diagnostic.ADMINISTRATIVELY_DOWN))
    assert isinstance(packet, ControlPacket)
    assert packet.diagnostic == 7


@given(packets())
def test_there_and_back(packet: ControlPacket) -> None:
    assert decode(encode(packet)) == packet


@given(packets(), st.binary(max_size=40))
def test_octets_after_the_packet_are_ignored(packet: ControlPacket, rest: bytes) -> None:
    assert decode(encode(packet) + rest) == packet


@given(st.binary(max_size=60) | st.binary(min_size=20, max_size=60).map(lambda rest: DOWN[:4] + rest))
def test_any_bytes_are_a_packet_or_a_reason(datagram: bytes) -> None:
    read = decode(datagram)
    if isinstance(read, ControlPacket):
        again = encode(read)
        assert again[:3] + again[4:] == datagram[:3] + datagram[4:LENGTH]


MALFORMED = [
    (b"", Reason.TRUNCATED),
    (DOWN[:23], Reason.TRUNCATED),
    (changed(DOWN, 0, 0x00), Reason.VERSION),
    (changed(DOWN, 0, 0x40), Reason.VERSION),
    (changed(DOWN, 3, 23), Reason.LENGTH),
    (changed(DOWN, 3, 0), Reason.LENGTH),
    (changed(changed(DOWN, 1, 0x44), 3, 25) + b"\0\0", Reason.LENGTH),
    (changed(DOWN, 3, 25), Reason.LENGTH_BEYOND),
    (changed(DOWN, 3, 255), Reason.LENGTH_BEYOND),
    (changed(changed(DOWN, 1, 0x44), 3, 26) + b"\1", Reason.LENGTH_BEYOND),
    (changed(DOWN, 2, 0), Reason.DETECT_MULTIPLIER),
    (changed(DOWN, 1, 0x41), Reason.MULTIPOINT),
    (DOWN[:4] + bytes(4) + DOWN[8:], Reason.MY_DISCRIMINATOR),
    (changed(DOWN, 1, 0x80), Reason.STATE_WITHOUT_SESSION),
    (changed(DOWN, 1, 0xC0), Reason.STATE_WITHOUT_SESSION),
    (changed(changed(DOWN, 1, 0x44), 3, 26) + b"\1\2", Reason.AUTHENTICATION),
]


@pytest.mark.parametrize(
    ("datagram", "reason"), MALFORMED, ids=lambda each: each.name if isinstance(each, Reason) else ""
)
def test_malformed(datagram: bytes, reason: Reason) -> None:
    assert decode(datagram) is reason


def test_admin_down_needs_no_discriminator_of_ours() -> None:
    packet = decode(changed(DOWN, 1, 0x00))
    assert isinstance(packet, ControlPacket)
    assert packet.state is State.ADMIN_DOWN


def test_a_session_that_is_named_may_be_up() -> None:
    assert decode(encode(UP)) == UP
