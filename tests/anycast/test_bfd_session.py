"""The session's state machine, one packet at a time (RFC 5880 §6)."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from atoll.anycast.bfd import SLOW_US, TRANSITIONS, Outcome, Session, Timers, check_timers
from atoll.anycast.bfd_packet import ControlPacket, Diagnostic, Reason, State
from atoll.errors import AtollError

FAST = Timers(desired_min_tx_us=50_000, required_min_rx_us=60_000, detect_multiplier=3)
OURS, THEIRS = 11, 22
ORDER = (State.ADMIN_DOWN, State.DOWN, State.INIT, State.UP)


def heard(state: State, **fields: object) -> ControlPacket:
    """What the neighbour says: it would send every 40 ms and take one every 80 ms."""
    base = ControlPacket(
        state=state,
        my_discriminator=THEIRS,
        your_discriminator=OURS,
        detect_multiplier=4,
        desired_min_tx_us=40_000,
        required_min_rx_us=80_000,
    )
    return msgspec.structs.replace(base, **fields)


def told(session: Session, packet: ControlPacket, now_s: float = 0.0, chance: float = 0.5) -> Outcome:
    outcome = session.receive(packet, now_s, chance)
    assert isinstance(outcome, Outcome)
    return outcome


def in_state(state: State, timers: Timers = FAST) -> Session:
    session = Session(OURS, timers, 0.0)
    session.tick(0.0, 0.5)
    if state is State.ADMIN_DOWN:
        session.disable(0.0, 0.5)
    if state in (State.INIT, State.UP):
        told(session, heard(State.DOWN))
    if state is State.UP:
        told(session, heard(State.UP))
    assert session.state is state
    return session


def settled(timers: Timers = FAST) -> Session:
    """Up, and the timers it came up with are confirmed."""
    session = in_state(State.UP, timers)
    told(session, heard(State.UP, final=True))
    assert not session.polling
    return session


@pytest.mark.parametrize("own", ORDER)
@pytest.mark.parametrize("remote", ORDER)
def test_every_pair_of_states(own: State, remote: State) -> None:
    session = in_state(own)
    outcome = told(session, heard(remote))
    wanted = TRANSITIONS.get((own, remote), own)
    assert session.state is wanted
    assert (outcome.change is not None) == (wanted is not own)
    if wanted is not own:
        assert [packet.state for packet in outcome.send] == [wanted]


def test_the_table_is_the_standards() -> None:
    """Rows: own Down, Init, Up; columns: heard AdminDown, Down, Init, Up."""
    rows = {own: [TRANSITIONS.get((own, remote), own).name for remote in ORDER] for own in ORDER[1:]}
    assert rows == {
        State.DOWN: ["DOWN", "INIT", "UP", "DOWN"],
        State.INIT: ["DOWN", "INIT", "UP", "UP"],
        State.UP: ["DOWN", "DOWN", "UP", "UP"],
    }


def test_the_first_packet_is_due_at_once_and_knows_nobody() -> None:
    session = Session(OURS, FAST, 5.0)
    assert session.next_s == 5.0
    (packet,) = session.tick(5.0, 0.0).send
    assert (packet.state, packet.my_discriminator, packet.your_discriminator) == (State.DOWN, OURS, 0)
    assert (packet.desired_min_tx_us, packet.required_min_rx_us) == (SLOW_US, 60_000)


@pytest.mark.parametrize("state", [State.DOWN, State.INIT])
def test_slow_while_not_up(state: State) -> None:
    session = in_state(state)
    assert session.tx_interval_us == SLOW_US
    (packet,) = session.tick(10.0, 0.0).send if state is State.DOWN else session.tick(0.8, 0.0).send
    assert packet.desired_min_tx_us == SLOW_US
    assert not packet.poll


def test_a_wish_slower_than_slow_is_kept_and_needs_no_poll() -> None:
    session = in_state(State.UP, Timers(desired_min_tx_us=2_000_000))
    assert not session.polling
    assert session.tx_interval_us == 2_000_000


def test_up_offers_the_fast_timers_with_poll_until_final() -> None:
    session = in_state(State.INIT)
    (packet,) = told(session, heard(State.UP), 0.1).send
    assert (packet.poll, packet.desired_min_tx_us) == (True, 50_000)
    assert session.tick(0.2, 0.5).send[0].poll
    told(session, heard(State.UP, final=True), 0.25)
    assert not session.tick(0.3, 0.5).send[0].poll


@pytest.mark.parametrize(
    ("multiplier", "chance", "share"),
    [(3, 0.0, 0.75), (3, 0.5, 0.875), (3, 0.999, 1.0), (1, 0.0, 0.75), (1, 0.999, 0.9)],
)
def test_chance_shortens_the_interval(multiplier: int, chance: float, share: float) -> None:
    session = settled(msgspec.structs.replace(FAST, detect_multiplier=multiplier))
    session.tick(1e-9 + session.next_s, chance)
    sent_s = session._sent_s
    assert session._due_s - sent_s == pytest.approx(share * 0.080, rel=1e-3)  # the neighbour takes 80 ms


def test_detection_is_the_neighbours_multiplier_of_the_slower_of_both() -> None:
    session = settled()
    assert session.detection_us == 4 * 60_000  # ours is slower
    told(session, heard(State.UP, desired_min_tx_us=100_000))
    assert session.detection_us == 4 * 100_000


def test_silence_is_noticed_to_the_microsecond() -> None:
    session = settled()
    assert session.tick(0.239_999, 0.5).change is None
    change = session.tick(0.240_001, 0.5).change
    assert change is not None
    assert (change.after, change.diagnostic) == (State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
    assert change.path_failed
    assert (session.remote_discriminator, session.remote_state) == (0, State.DOWN)


def test_silence_while_down_forgets_the_neighbour_without_a_change() -> None:
    session = in_state(State.DOWN)
    told(session, heard(State.UP, your_discriminator=OURS))
    assert session.remote_discriminator == THEIRS
    assert session.tick(60.0, 0.5).change is None
    assert session.remote_discriminator == 0


def test_a_neighbour_that_says_down_is_a_failure_of_the_path() -> None:
    change = told(settled(), heard(State.DOWN, diagnostic=1)).change
    assert change is not None
    assert change.diagnostic == Diagnostic.NEIGHBOR_SIGNALED_DOWN
    assert change.remote_diagnostic == Diagnostic.DETECTION_TIME_EXPIRED
    assert change.path_failed


def test_a_neighbour_that_switches_off_is_none() -> None:
    change = told(settled(), heard(State.ADMIN_DOWN, diagnostic=7)).change
    assert change is not None
    assert change.after is State.DOWN
    assert not change.path_failed


def test_poll_is_answered_at_once_and_only_once() -> None:
    session = settled()
    due_s = session.next_s
    (packet,) = told(session, heard(State.UP, poll=True), 0.001).send
    assert (packet.final, packet.poll) == (True, False)
    assert session.next_s == due_s  # the pace is as it was


def test_poll_is_answered_while_a_poll_of_our_own_runs() -> None:
    session = in_state(State.UP)
    (packet,) = told(session, heard(State.UP, poll=True), 0.001).send
    assert (packet.final, packet.poll) == (True, False)
    assert session.polling


def test_a_final_that_nobody_asked_for_changes_nothing() -> None:
    session = settled()
    before = (session.tx_interval_us, session.detection_us)
    told(session, heard(State.UP, final=True))
    assert (session.tx_interval_us, session.detection_us) == before


def test_the_careful_values_hold_until_final() -> None:
    session = settled()
    told(session, heard(State.UP, required_min_rx_us=1))
    slower_tx_faster_rx = Timers(desired_min_tx_us=200_000, required_min_rx_us=20_000)
    (packet,) = session.retime(slower_tx_faster_rx, 0.01, 0.5).send
    assert (packet.poll, packet.desired_min_tx_us, packet.required_min_rx_us) == (True, 200_000, 20_000)
    assert (session.tx_interval_us, session.detection_us) == (50_000, 4 * 60_000)
    told(session, heard(State.UP, required_min_rx_us=1, final=True), 0.02)
    assert (session.tx_interval_us, session.detection_us) == (200_000, 4 * 40_000)


def test_faster_tx_and_slower_rx_hold_at_once() -> None:
    session = settled()
    told(session, heard(State.UP, required_min_rx_us=1))
    session.retime(Timers(desired_min_tx_us=20_000, required_min_rx_us=500_000), 0.01, 0.5)
    assert session.polling
    assert (session.tx_interval_us, session.detection_us) == (20_000, 4 * 500_000)


def test_a_change_during_a_poll_is_offered_after_it() -> None:
    session = settled()
    first = Timers(desired_min_tx_us=200_000, required_min_rx_us=60_000)
    second = Timers(desired_min_tx_us=30_000, required_min_rx_us=60_000)
    session.retime(first, 0.0, 0.5)
    session.retime(second, 0.0, 0.5)
    assert session.tick(0.2, 0.5).send[0].desired_min_tx_us == 200_000
    told(session, heard(State.UP, final=True), 0.21)
    assert session.polling
    packet = session.tick(0.4, 0.5).send[0]
    assert (packet.poll, packet.desired_min_tx_us) == (True, 30_000)


def test_a_neighbour_that_wants_more_gets_it_without_waiting_for_the_old_interval() -> None:
    session = settled()
    told(session, heard(State.UP, required_min_rx_us=1_000_000), 0.01)
    assert session._due_s > 0.7
    told(session, heard(State.UP, required_min_rx_us=50_000), 0.02)
    assert session._due_s <= 0.05
    assert told(session, heard(State.UP, required_min_rx_us=50_000), 0.2).send


def test_a_neighbour_that_takes_nothing_gets_only_answers() -> None:
    session = settled()
    told(session, heard(State.UP, required_min_rx_us=0))
    assert session._due_s == inf
    assert session.next_s == pytest.approx(0.24)  # detection goes on
    assert len(told(session, heard(State.UP, required_min_rx_us=0, poll=True)).send) == 1


def test_demand_mode_of_the_neighbour_is_obeyed_once_both_are_up() -> None:
    session = settled()
    told(session, heard(State.UP, demand=True))
    assert session._due_s == inf
    session.retime(Timers(), 0.0, 0.5)
    assert session._due_s < inf  # a Poll has to be sent all the same
    assert not session._packet().demand


def test_a_passive_end_waits_to_be_spoken_to() -> None:
    session = Session(OURS, FAST, 0.0, passive=True)
    assert session.next_s == inf
    assert session.tick(100.0, 0.5).send == ()
    outcome = told(session, heard(State.DOWN, your_discriminator=0), 100.0)
    assert [packet.state for packet in outcome.send] == [State.INIT]
    session.tick(200.0, 0.5)  # silence: back to where it was
    assert (session.state, session.next_s) == (State.DOWN, inf)


def test_another_sessions_packet_is_not_believed() -> None:
    session = settled()
    stray = heard(State.DOWN, your_discriminator=OURS + 1)
    before = session.next_s
    assert session.receive(stray, 0.1, 0.5) is Reason.UNKNOWN_DISCRIMINATOR
    assert (session.state, session.next_s) == (State.UP, before)


def test_a_neighbour_that_began_anew_takes_the_session_down() -> None:
    session = settled()
    reborn = heard(State.DOWN, my_discriminator=99, your_discriminator=0)
    assert told(session, reborn).change is not None
    assert (session.state, session.remote_discriminator) == (State.DOWN, 99)


def test_admin_down_is_told_until_the_neighbour_knows() -> None:
    session = settled()
    outcome = session.disable(0.0, 0.5)
    assert [(packet.state, packet.diagnostic) for packet in outcome.send] == [(State.ADMIN_DOWN, 7)]
    assert outcome.change is not None
    assert not outcome.change.path_failed
    assert [packet.state for packet in session.tick(0.9, 0.5).send] == [State.ADMIN_DOWN]
    assert told(session, heard(State.UP, poll=True), 0.95).send == ()  # sent before it knew
    assert session.next_s < inf
    told(session, heard(State.DOWN), 1.0)
    assert session.parted
    assert session._due_s == inf


def test_admin_down_ends_by_itself_with_a_neighbour_that_never_answers() -> None:
    session = settled()
    session.disable(0.0, 0.5)
    now_s, packets = 0.0, 0
    while not session.parted:
        now_s = session.next_s
        packets += len(session.tick(now_s, 0.5).send)
    assert now_s == pytest.approx(3.0)  # three times a second
    assert packets == 3
    assert session.next_s == inf


def test_nobody_to_part_from() -> None:
    session = in_state(State.DOWN)
    assert len(session.disable(0.0, 0.5).send) == 1
    assert session.parted
    assert session.next_s == inf


def test_enabled_again_it_comes_up_again() -> None:
    session = settled()
    session.disable(0.0, 0.5)
    told(session, heard(State.DOWN), 0.1)
    assert [packet.state for packet in session.enable(1.0, 0.5).send] == [State.DOWN]
    told(session, heard(State.DOWN), 1.1)
    told(session, heard(State.UP), 1.2)
    assert session.state is State.UP


@pytest.mark.parametrize(
    "timers",
    [
        Timers(desired_min_tx_us=9_999),
        Timers(desired_min_tx_us=60_000_001),
        Timers(required_min_rx_us=0),
        Timers(detect_multiplier=0),
        Timers(detect_multiplier=256),
    ],
)
def test_timers_out_of_bounds(timers: Timers) -> None:
    with pytest.raises(AtollError, match=r"desired_min_tx_us|required_min_rx_us|detect_multiplier"):
        check_timers(timers)
