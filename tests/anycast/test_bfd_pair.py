"""Two ends of a session over a bad wire, under a clock that is only a number.

Packets are lost, delayed and overtake each other as hypothesis wishes. What must hold: both come Up, they
stay Up unless more is lost than the detection time forgives, silence is found within the detection time and
no sooner, and changed timers hold at both ends.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from math import inf
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.anycast.bfd import Change, Outcome, Session, Timers
from atoll.anycast.bfd_packet import ControlPacket, Diagnostic, State, decode, encode

Loss = Callable[[int, float], bool]  # (from which end, when): whether the packet is lost


class Wire:
    """Two sessions, the packets between them, and all that happened."""

    def __init__(self, ends: tuple[Session, Session], seed: int, delay_s: tuple[float, float]) -> None:
        self.ends = ends
        self.now_s = 0.0
        self.changes: list[tuple[int, Change]] = []
        self.sent: list[tuple[int, float, ControlPacket]] = []
        self.arrived: list[tuple[int, float]] = []  # at which end, when
        self.lose: Loss = lambda _end, _now_s: False
        self._delay_s = delay_s
        self._random = Random(seed)
        self._order = count()
        self._flying: list[tuple[float, int, int, bytes]] = []

    def run_until(self, end_s: float) -> None:
        """Let time pass. A session never asks to be called without end at one moment."""
        while (then_s := min(self._arrival_s, *(each.next_s for each in self.ends))) <= end_s:
            self.now_s = max(then_s, self.now_s)
            if self._arrival_s <= self.now_s:
                self._deliver()
            for number, end in enumerate(self.ends):
                if end.next_s <= self.now_s:
                    self.take(number, end.tick(self.now_s, self._random.random()))
                    assert end.next_s > self.now_s
        self.now_s = end_s

    @property
    def _arrival_s(self) -> float:
        return self._flying[0][0] if self._flying else inf

    def _deliver(self) -> None:
        _, _, number, datagram = heapq.heappop(self._flying)
        packet = decode(datagram)
        assert isinstance(packet, ControlPacket)
        self.arrived.append((number, self.now_s))
        outcome = self.ends[number].receive(packet, self.now_s, self._random.random())
        assert isinstance(outcome, Outcome)
        self.take(number, outcome)

    def take(self, number: int, outcome: Outcome) -> None:
        """Do what end `number` said."""
        if outcome.change is not None:
            self.changes.append((number, outcome.change))
        for packet in outcome.send:
            self.sent.append((number, self.now_s, packet))
            if not self.lose(number, self.now_s):
                at_s = self.now_s + self._random.uniform(*self._delay_s)
                heapq.heappush(self._flying, (at_s, next(self._order), 1 - number, encode(packet)))

    def states(self) -> tuple[State, State]:
        return self.ends[0].state, self.ends[1].state

    def gaps_s(self, number: int, since_s: float) -> Iterator[float]:
        """Between the packets of one end that were no answers to a Poll."""
        times = [at_s for end, at_s, packet in self.sent if end == number and not packet.final]
        times = [at_s for at_s in times if at_s >= since_s]
        return (b - a for a, b in pairwise(times))


INTERVALS_US = st.integers(50_000, 400_000)
TIMERS = st.builds(
    Timers,
    desired_min_tx_us=INTERVALS_US,
    required_min_rx_us=INTERVALS_US,
    detect_multiplier=st.integers(1, 6),
)
PATIENT = TIMERS.filter(lambda timers: timers.detect_multiplier > 1)  # forgives a packet that is late
SEEDS = st.integers(0, 2**32)
FEW = settings(max_examples=20, deadline=None)


def shortest_us(one: Timers, other: Timers) -> int:
    """The shorter of both ends' intervals between packets."""
    return min(interval_us(one, other), interval_us(other, one))


def interval_us(sender: Timers, receiver: Timers) -> int:
    return max(sender.desired_min_tx_us, receiver.required_min_rx_us)


def wired(one: Timers, other: Timers, seed: int, delay: float = 0.0, *, passive: bool = False) -> Wire:
    """Packets take up to `delay` of the shorter interval, so that some overtake others."""
    ends = Session(11, one, 0.0), Session(22, other, 0.3, passive=passive)
    return Wire(ends, seed, (0.0, delay * shortest_us(one, other) / 1e6))


def up(wire: Wire) -> None:
    """Both Up, and what was sent before is no more on its way."""
    wire.run_until(8.0)
    assert wire.states() == (State.UP, State.UP)
    assert not any(end.polling for end in wire.ends)
    wire.changes.clear()
    wire.sent.clear()
    wire.arrived.clear()


@FEW
@given(TIMERS, TIMERS, SEEDS, st.booleans())
def test_both_come_up_soon_and_stay(one: Timers, other: Timers, seed: int, passive: bool) -> None:
    """On a good wire: at the first packets that both hear, a second and a bit after the later one began."""
    wire = wired(one, other, seed, passive=passive)
    wire.run_until(2.0)
    assert wire.states() == (State.UP, State.UP)
    wire.run_until(12.0)
    assert [change.after for _, change in wire.changes].count(State.UP) == 2
    assert all(change.after > change.before for _, change in wire.changes)


@FEW
@given(TIMERS, TIMERS, SEEDS)
def test_the_pace_is_what_both_agreed(one: Timers, other: Timers, seed: int) -> None:
    wire = wired(one, other, seed)
    up(wire)
    wire.run_until(10.0)
    for number, (own, peer) in enumerate(((one, other), (other, one))):
        longest_s = interval_us(own, peer) / 1e6
        share = 0.9 if own.detect_multiplier == 1 else 1.0
        assert wire.ends[number].tx_interval_us == interval_us(own, peer)
        assert wire.ends[number].detection_us == peer.detect_multiplier * interval_us(peer, own)
        for gap_s in wire.gaps_s(number, 8.0):
            assert 0.75 * longest_s - 1e-6 <= gap_s <= share * longest_s + 1e-6


@FEW
@given(PATIENT, PATIENT, SEEDS)
def test_losses_that_the_multiplier_forgives_flap_nothing(one: Timers, other: Timers, seed: int) -> None:
    """Two fewer in a row than the multiplier: one interval is left for packets that come late."""
    wire = wired(one, other, seed, delay=0.9)
    up(wire)
    chance, in_a_row = Random(seed), [0, 0]

    def lose(number: int, _now_s: float) -> bool:
        forgiven = (one, other)[number].detect_multiplier - 2
        in_a_row[number] = in_a_row[number] + 1 if chance.random() < 0.6 else 0
        if in_a_row[number] > forgiven:
            in_a_row[number] = 0
        return in_a_row[number] > 0

    wire.lose = lose
    wire.run_until(14.0)
    assert wire.changes == []


@FEW
@given(PATIENT, PATIENT, SEEDS)
def test_they_come_up_through_heavy_loss(one: Timers, other: Timers, seed: int) -> None:
    """Every second packet is lost for a while; soon after they are Up for good."""
    wire = wired(one, other, seed, delay=0.9)
    chance = Random(seed)
    wire.lose = lambda _number, now_s: now_s < 4.0 and chance.random() < 0.5
    up(wire)
    wire.run_until(12.0)
    assert wire.changes == []


@FEW
@given(TIMERS, TIMERS, SEEDS)
def test_silence_is_found_within_the_detection_time(one: Timers, other: Timers, seed: int) -> None:
    wire = wired(one, other, seed)
    up(wire)
    wire.run_until(9.0)
    detection_s = [end.detection_us / 1e6 for end in wire.ends]
    wire.lose = lambda _number, _now_s: True
    wire.run_until(15.0)
    for number in (0, 1):
        heard_s = max(at_s for end, at_s in wire.arrived if end == number)
        ((_, change),) = [each for each in wire.changes if each[0] == number]
        assert (change.after, change.diagnostic) == (State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
        assert abs(change.at_s - heard_s - detection_s[number]) < 1e-6
        assert wire.ends[number].tx_interval_us == 1_000_000


@FEW
@given(TIMERS, TIMERS, SEEDS)
def test_one_deaf_end_takes_the_other_down_too(one: Timers, other: Timers, seed: int) -> None:
    wire = wired(one, other, seed)
    up(wire)
    wire.lose = lambda number, _now_s: number == 1
    wire.run_until(15.0)
    first, second = wire.changes[:2]
    assert (first[0], first[1].diagnostic) == (0, Diagnostic.DETECTION_TIME_EXPIRED)
    assert (second[0], second[1].diagnostic) == (1, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
    assert second[1].at_s == first[1].at_s  # told at once, and this wire takes no time
    assert State.UP not in wire.states()


@FEW
@given(TIMERS, TIMERS, st.lists(st.tuples(st.integers(0, 1), TIMERS), min_size=1, max_size=4), SEEDS)
def test_changed_timers_hold_at_both_ends(
    one: Timers, other: Timers, changes: list[tuple[int, Timers]], seed: int
) -> None:
    """Also several at once, from both ends at once; the multipliers stay, and nothing flaps."""
    wire = wired(one, other, seed)
    up(wire)
    now = [one, other]
    for number, timers in changes:
        now[number] = msgspec.structs.replace(timers, detect_multiplier=now[number].detect_multiplier)
        wire.take(number, wire.ends[number].retime(now[number], wire.now_s, 0.5))
    wire.run_until(12.0)
    assert wire.changes == []
    for number in (0, 1):
        own, peer = now[number], now[1 - number]
        assert not wire.ends[number].polling
        assert wire.ends[number].tx_interval_us == interval_us(own, peer)
        assert wire.ends[number].detection_us == peer.detect_multiplier * interval_us(peer, own)


@FEW
@given(TIMERS, TIMERS, TIMERS, SEEDS)
def test_changed_timers_flap_nothing_on_a_slow_wire(
    one: Timers, other: Timers, later: Timers, seed: int
) -> None:
    """Packets take a tenth of the shortest interval there ever is; multipliers leave room for that."""
    one, other, later = (msgspec.structs.replace(each, detect_multiplier=3) for each in (one, other, later))
    ends = Session(11, one, 0.0), Session(22, other, 0.3)
    wire = Wire(ends, seed, (0.0, 0.001))
    up(wire)
    wire.take(0, ends[0].retime(later, wire.now_s, 0.5))
    wire.run_until(12.0)
    assert wire.changes == []
    assert not ends[0].polling


@FEW
@given(TIMERS, TIMERS, SEEDS)
def test_admin_down_and_up_again(one: Timers, other: Timers, seed: int) -> None:
    wire = wired(one, other, seed)
    up(wire)
    wire.take(0, wire.ends[0].disable(wire.now_s, 0.5))
    wire.run_until(8.5)
    assert wire.states() == (State.ADMIN_DOWN, State.DOWN)
    assert wire.ends[0].parted
    assert not any(change.path_failed for _, change in wire.changes)
    wire.run_until(12.0)
    assert [packet.state for end, at_s, packet in wire.sent if end == 0 and at_s > 8.5] == []
    wire.take(0, wire.ends[0].enable(wire.now_s, 0.5))
    wire.run_until(15.0)
    assert wire.states() == (State.UP, State.UP)
