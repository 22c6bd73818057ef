"""One BFD session: is the way to a neighbour alive, both ways? (RFC 5880 §6, asynchronous mode)

A pure state machine. It is told what time it is (`now_s`, of any steady clock), the packets that arrived
and one random number in [0, 1) a call (`chance`), and says which packets to send, how its state changed and
when it wants to be called next (`next_s`). It never reads a clock, a socket or chance itself.

The rules, as it keeps them:

1. **States** follow `TRANSITIONS`; what the neighbour's packets say of its own state drives them. A new state
   is told at once, between the periodic packets (§6.8.7).
2. **Slow start**: while not Up it promises, and keeps, at least a second between packets (§6.8.3).
3. **Timers**: it sends every max(own desired TX, neighbour's required RX), less 0 to 25 % of chance, or 10 to
   25 % where one lost packet decides (§6.8.7). It gives a neighbour up after *the neighbour's* multiplier
   times max(own required RX, neighbour's desired TX) without a packet (§6.8.4).
4. **Changed timers** while Up are offered with Poll until Final confirms them (§6.5). Until then the careful
   value holds: the shorter of two TX intervals, the longer of two RX intervals (§6.8.3). A change during a
   Poll waits for its end, so that a Final can confirm nothing that the neighbour has not read.
5. **Poll is answered** at once, whatever the timers and the state, except in AdminDown (§6.8.6).
6. Demand mode is never asked for; a neighbour that asks for it is obeyed (§6.6). There are no echoes
   and no authentication: TTL 255 is what proves a neighbour to be on the link (RFC 5881 §5).
7. **AdminDown** is says nothing about the path (§6.2): `Change.path_failed` tells the two apart.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec

from atoll.anycast.bfd_packet import MAX_DETECT_MULTIPLIER, ControlPacket, Diagnostic, Reason, State
from atoll.errors import AtollError

SLOW_US: Final = 1_000_000  # between packets at least, while not Up (§6.8.3)
MIN_INTERVAL_US: Final = 10_000  # an event loop that is busy for less must not look dead
MAX_INTERVAL_US: Final = 60_000_000  # slower than BGP's own hold timer is of no use

TRANSITIONS: Final[dict[tuple[State, State], State]] = {
    # (own state, the neighbour's state): the next; all others stay (§6.8.6)
    (State.DOWN, State.DOWN): State.INIT,
    (State.DOWN, State.INIT): State.UP,
    (State.INIT, State.ADMIN_DOWN): State.DOWN,
    (State.INIT, State.INIT): State.UP,
    (State.INIT, State.UP): State.UP,
    (State.UP, State.ADMIN_DOWN): State.DOWN,
    (State.UP, State.DOWN): State.DOWN,
}


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """What one end wishes. Microseconds, as on the wire."""

    desired_min_tx_us: int = 300_000  # send no more often than this
    required_min_rx_us: int = 300_000  # take packets no more often than this
    detect_multiplier: int = 3  # this many lost in a row, and the neighbour gives us up


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A session changed its state."""

    before: State
    after: State
    diagnostic: int  # why, as the neighbour will read it
    remote_state: State  # what the neighbour said last
    remote_diagnostic: int
    at_s: float

    @property
    def path_failed(self) -> bool:
        """Whether routes over this neighbour should go: it was Up, and nobody switched BFD off on purpose."""
        switched_off = State.ADMIN_DOWN in (self.after, self.remote_state)
        return self.before is State.UP and not switched_off


class Outcome(msgspec.Struct, frozen=True):
    """What one call led to: packets to send now, in order, and at most one change."""

    send: tuple[ControlPacket, ...] = ()
    change: Change | None = None


class _Pair(msgspec.Struct, frozen=True):
    """Desired Min TX and Required Min RX, in microseconds, as told to the neighbour together."""

    tx_us: int
    rx_us: int


class _Remote(msgspec.Struct, frozen=True):
    """What the neighbour said last (§6.8.1); the default is a neighbour never heard, or forgotten."""

    state: State = State.DOWN
    discriminator: int = 0
    min_rx_us: int = 1
    min_tx_us: int = 0
    multiplier: int = 0
    diagnostic: int = 0
    demand: bool = False


def check_timers(timers: Timers, where: str = "") -> Timers:
    """The same timers, if they are fit for use.

    Raises:
        AtollError: an interval or the multiplier is out of bounds.
    """
    for name in ("desired_min_tx_us", "required_min_rx_us"):
        interval_us: int = getattr(timers, name)
        if not MIN_INTERVAL_US <= interval_us <= MAX_INTERVAL_US:
            raise AtollError(
                f"{name} is {interval_us}",
                hint=f"{MIN_INTERVAL_US} to {MAX_INTERVAL_US} microseconds are possible",
                where=where,
            )
    if not 1 <= timers.detect_multiplier <= MAX_DETECT_MULTIPLIER:
        raise AtollError(
            f"detect_multiplier is {timers.detect_multiplier}",
            hint=f"1 to {MAX_DETECT_MULTIPLIER} lost packets are possible",
            where=where,
        )
    return timers


class Session:
    """One end of a session.

    Args:
        discriminator: ours; not 0, and no other session's of this machine.
        timers: what we wish; `check_timers` says what is possible.
        now_s: when the session begins, which is when its first packet is due.
        passive: say nothing before the neighbour has spoken (§6.1).
    """

    def __init__(self, discriminator: int, timers: Timers, now_s: float, *, passive: bool = False) -> None:
        self.discriminator: Final = discriminator
        self.passive: Final = passive
        self.timers = check_timers(timers)
        self.state = State.DOWN
        self.diagnostic: int = Diagnostic.NONE
        self._remote = _Remote()
        self._agreed = self._offered = self._wished()
        self._heard_s: float | None = None  # when the last believed packet came
        self._sent_s = -inf if passive else now_s  # when the last periodic packet left
        self._share = 0.0  # of the interval until the next periodic packet, drawn by chance
        self._news = False  # the neighbour does not know our state
        self._farewell_until_s = -inf  # in AdminDown: until when it is worth telling

    # What it looks like from outside.

    @property
    def remote_state(self) -> State:
        """The neighbour's state as it said last; Down when it has fallen silent."""
        return self._remote.state

    @property
    def remote_discriminator(self) -> int:
        """What the neighbour calls this session; 0 while it is not heard."""
        return self._remote.discriminator

    @property
    def polling(self) -> bool:
        """Whether changed timers wait for the neighbour's Final."""
        return self._offered != self._agreed

    @property
    def tx_interval_us(self) -> int:
        """Between two periodic packets of ours at most, before chance shortens it."""
        return max(min(self._agreed.tx_us, self._offered.tx_us), self._remote.min_rx_us)

    @property
    def detection_us(self) -> int:
        """How long the neighbour may be silent; 0 while it is not heard."""
        rx_us = max(self._agreed.rx_us, self._offered.rx_us)
        return self._remote.multiplier * max(rx_us, self._remote.min_tx_us)

    @property
    def next_s(self) -> float:
        """When `tick` is due; infinity when only a packet can lead on."""
        parting_s = inf if self.parted else self._farewell_until_s
        return min(self._expires_s, self._due_s, parting_s if self.state is State.ADMIN_DOWN else inf)

    @property
    def parted(self) -> bool:
        """In AdminDown: whether the neighbour knows, or had all the time it may need to (§6.8.16)."""
        return self.state is State.ADMIN_DOWN and self._farewell_until_s == -inf

    # What happens to it.

    def receive(self, packet: ControlPacket, now_s: float, chance: float) -> Outcome | Reason:
        """A packet that `decode` believed has arrived here; or why it is not believed after all."""
        if packet.your_discriminator not in (0, self.discriminator):
            return Reason.UNKNOWN_DISCRIMINATOR
        self._remote = _Remote(
            state=packet.state,
            discriminator=packet.my_discriminator,
            min_rx_us=packet.required_min_rx_us,
            min_tx_us=packet.desired_min_tx_us,
            multiplier=packet.detect_multiplier,
            diagnostic=packet.diagnostic,
            demand=packet.demand,
        )
        self._heard_s = now_s
        if packet.final and self.polling:
            self._agreed, self._offered = self._offered, self._wished()
        if self.state is State.ADMIN_DOWN:
            if packet.state in (State.DOWN, State.ADMIN_DOWN):
                self._farewell_until_s = -inf
            return Outcome()
        change = self._follow(packet.state, now_s)
        send = [self._final(now_s, chance)] if packet.poll else []
        return Outcome((*send, *self._periodic(now_s, chance)), change)

    def tick(self, now_s: float, chance: float) -> Outcome:
        """Time has passed: `next_s` has come, or not yet, which does no harm."""
        change = self._expire(now_s) if now_s >= self._expires_s else None
        if now_s >= self._farewell_until_s:
            self._farewell_until_s = -inf
        return Outcome(self._periodic(now_s, chance), change)

    def retime(self, timers: Timers, now_s: float, chance: float) -> Outcome:
        """Wish for other timers. While Up they hold once the neighbour has confirmed them.

        Raises:
            AtollError: they are out of bounds.
        """
        self.timers = check_timers(timers)
        if self.state is not State.UP:
            self._agreed = self._offered = self._wished()
        elif not self.polling:
            self._offered = self._wished()
            self._news = self.polling
        return Outcome(self._periodic(now_s, chance))

    def disable(self, now_s: float, chance: float) -> Outcome:
        """Go to AdminDown and say so; go on calling `tick` until `parted`."""
        if self.state is State.ADMIN_DOWN:
            return Outcome()
        change = self._enter(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN, now_s)
        known = self._remote.discriminator != 0
        told_us = self.timers.detect_multiplier * self.tx_interval_us
        self._farewell_until_s = now_s + told_us / 1e6 if known else -inf
        return Outcome(self._periodic(now_s, chance), change)

    def enable(self, now_s: float, chance: float) -> Outcome:
        """Leave AdminDown."""
        if self.state is not State.ADMIN_DOWN:
            return Outcome()
        change = self._enter(State.DOWN, self.diagnostic, now_s)
        return Outcome(self._periodic(now_s, chance), change)

    # How it gets from state to state.

    def _follow(self, remote: State, now_s: float) -> Change | None:
        after = TRANSITIONS.get((self.state, remote))
        if after is None:
            return None
        why = Diagnostic.NEIGHBOR_SIGNALED_DOWN if after is State.DOWN else self.diagnostic
        return self._enter(after, why, now_s)

    def _expire(self, now_s: float) -> Change | None:
        """The neighbour is silent: forget all it said (§6.8.1), and go Down if it was there (§6.8.4)."""
        self._remote, self._heard_s = _Remote(), None
        if self.state not in (State.INIT, State.UP):
            return None
        return self._enter(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED, now_s)

    def _enter(self, after: State, why: int, now_s: float) -> Change:
        before, self.state, self.diagnostic = self.state, after, why
        self._news = True
        self._offered = self._wished()
        if after is not State.UP:
            self._agreed = self._offered
        return Change(
            before=before,
            after=after,
            diagnostic=why,
            remote_state=self._remote.state,
            remote_diagnostic=self._remote.diagnostic,
            at_s=now_s,
        )

    def _wished(self) -> _Pair:
        tx_us, rx_us = self.timers.desired_min_tx_us, self.timers.required_min_rx_us
        return _Pair(tx_us if self.state is State.UP else max(tx_us, SLOW_US), rx_us)

    # When it sends.

    @property
    def _expires_s(self) -> float:
        return inf if self._heard_s is None else self._heard_s + self.detection_us / 1e6

    @property
    def _due_s(self) -> float:
        """When the next periodic packet is due; follows changed intervals by itself."""
        if self._mute or self._remote.min_rx_us == 0:
            return inf
        if self._remote.demand and self.state is self._remote.state is State.UP and not self.polling:
            return inf
        return self._sent_s + self._share * self.tx_interval_us / 1e6

    @property
    def _mute(self) -> bool:
        """Passive and not spoken to, or parted and it has been said."""
        unheard = self.passive and self._remote.discriminator == 0
        return unheard or (self.parted and not self._news)

    def _periodic(self, now_s: float, chance: float) -> tuple[ControlPacket, ...]:
        if not (self._news and not self._mute) and now_s < self._due_s:
            return ()
        self._sent(now_s, chance)
        return (self._packet(poll=self.polling),)

    def _final(self, now_s: float, chance: float) -> ControlPacket:
        """The answer to a Poll. It leaves the periodic packets' pace alone, unless it tells news for them."""
        if self._news:
            self._sent(now_s, chance)
        return self._packet(final=True)

    def _sent(self, now_s: float, chance: float) -> None:
        self._news = False
        self._sent_s = now_s
        self._share = 0.75 + (0.15 if self.timers.detect_multiplier == 1 else 0.25) * chance

    def _packet(self, *, poll: bool = False, final: bool = False) -> ControlPacket:
        return ControlPacket(
            state=self.state,
            my_discriminator=self.discriminator,
            your_discriminator=self._remote.discriminator,
            detect_multiplier=self.timers.detect_multiplier,
            desired_min_tx_us=self._offered.tx_us,
            required_min_rx_us=self._offered.rx_us,
            diagnostic=self.diagnostic,
            poll=poll,
            final=final,
        )
