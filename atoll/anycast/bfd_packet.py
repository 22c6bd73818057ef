"""BFD control packets: bytes to values and back, and why one is not believed (RFC 5880 §4.1, §6.8.6).

    0                   1                   2                   3
    |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
    |                       My Discriminator                        |
    |                      Your Discriminator                       |
    |                    Desired Min TX Interval                    |
    |                   Required Min RX Interval                    |
    |                 Required Min Echo RX Interval                 |

All intervals are microseconds. `decode` makes every check that needs the packet alone, in the order of
§6.8.6; which session a packet belongs to is asked by whoever has the sessions, with reasons from the same
list. Nobody is answered because of a packet that was not believed.
"""

from __future__ import annotations

import struct
from enum import Enum, IntEnum
from typing import Final

import msgspec

VERSION: Final = 1
LENGTH: Final = 24  # octets, without authentication
LENGTH_AUTHENTICATED: Final = 26  # at least: the section's type and length
MAX_INTERVAL_US: Final = 2**32 - 1
MAX_DETECT_MULTIPLIER: Final = 255

_FORMAT: Final = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class State(IntEnum):
    """A session's state as one end sees it (§4.1)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """Why a session left Up the last time (§4.1)."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


class Reason(Enum):
    """Why a packet is discarded. Values are what logs and counters say."""

    TTL = "the TTL or hop limit is not 255, so a router may have forwarded it (RFC 5881 §5)"
    TRUNCATED = "shorter than a control packet"
    VERSION = "the version is not 1"
    LENGTH = "the length field is less than a control packet has"
    LENGTH_BEYOND = "the length field is more than what arrived"
    DETECT_MULTIPLIER = "the detect multiplier is 0"
    MULTIPOINT = "the multipoint bit is set"
    MY_DISCRIMINATOR = "the sender's own discriminator is 0"
    STATE_WITHOUT_SESSION = "it claims a session (Init or Up) without saying which"
    AUTHENTICATION = "it is authenticated, and no session here is"
    UNKNOWN_DISCRIMINATOR = "no session here has that discriminator"
    UNKNOWN_SOURCE = "no session here is with that address"


class ControlPacket(msgspec.Struct, frozen=True, kw_only=True):
    """One control packet. `diagnostic` is a plain number, since codes up to 31 may come from others."""

    state: State
    my_discriminator: int  # never 0
    your_discriminator: int = 0  # 0: the sender has heard nobody yet
    detect_multiplier: int = 3
    desired_min_tx_us: int = 1_000_000
    required_min_rx_us: int = 1_000_000  # 0: send me nothing periodically
    required_min_echo_rx_us: int = 0  # 0: I do not reflect echoes
    diagnostic: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False


def encode(packet: ControlPacket) -> bytes:
    """The 24 octets of a packet, without authentication."""
    flags = (
        _POLL * packet.poll
        | _FINAL * packet.final
        | _INDEPENDENT * packet.control_plane_independent
        | _DEMAND * packet.demand
    )
    return _FORMAT.pack(
        VERSION << 5 | packet.diagnostic,
        packet.state << 6 | flags,
        packet.detect_multiplier,
        LENGTH,
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx_us,
        packet.required_min_rx_us,
        packet.required_min_echo_rx_us,
    )


def decode(datagram: bytes) -> ControlPacket | Reason:
    """The packet in a UDP payload, or why it is discarded.

    Octets after the length that the packet states are ignored, as §6.8.6 has it. Poll and Final together,
    which a sender must never set, are no reason there: each bit is obeyed by itself.
    """
    if len(datagram) < LENGTH:
        return Reason.TRUNCATED
    first, second, multiplier, length, mine, yours, tx_us, rx_us, echo_us = _FORMAT.unpack_from(datagram)
    reason = _refused(first, second, multiplier, length, len(datagram))
    if reason is not None:
        return reason
    state = State(second >> 6)
    if mine == 0:
        return Reason.MY_DISCRIMINATOR
    if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
        return Reason.STATE_WITHOUT_SESSION
    if second & _AUTHENTICATED:
        return Reason.AUTHENTICATION
    return ControlPacket(
        state=state,
        my_discriminator=mine,
        your_discriminator=yours,
        detect_multiplier=multiplier,
        desired_min_tx_us=tx_us,
        required_min_rx_us=rx_us,
        required_min_echo_rx_us=echo_us,
        diagnostic=first & 0x1F,
        poll=bool(second & _POLL),
        final=bool(second & _FINAL),
        control_plane_independent=bool(second & _INDEPENDENT),
        demand=bool(second & _DEMAND),
    )


def _refused(first: int, second: int, multiplier: int, length: int, arrived: int) -> Reason | None:
    """What the first word alone gives away."""
    if first >> 5 != VERSION:
        return Reason.VERSION
    if length < (LENGTH_AUTHENTICATED if second & _AUTHENTICATED else LENGTH):
        return Reason.LENGTH
    if length > arrived:
        return Reason.LENGTH_BEYOND
    if multiplier == 0:
        return Reason.DETECT_MULTIPLIER
    return Reason.MULTIPOINT if second & _MULTIPOINT else None
