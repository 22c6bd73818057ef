"""What is not as it should be, in sentences. Pure: `atoll status` exits 3 when there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from atoll.control.answers import Pop
from atoll.control.presence import SILENT_AFTER_S
from atoll.wire.messages import ProcessInfo

_WELL = ("ready", "up")


def degraded(
    seq: int | None, daemon: bool, internet: bool, pops: Iterable[Pop], processes: Iterable[ProcessInfo]
) -> tuple[str, ...]:
    """Every complaint about the network, the widest first."""
    return tuple(_complaints(seq, daemon, internet, tuple(pops), processes))


def _complaints(
    seq: int | None, daemon: bool, internet: bool, pops: tuple[Pop, ...], processes: Iterable[ProcessInfo]
) -> Iterator[str]:
    if not daemon:
        yield "the network daemon does not answer"
    if not internet:
        yield "the emulated Internet does not answer"
    if seq is None:
        yield "NATS is not reachable: PoPs serve from disk, nothing can be deployed"
    for process in processes:
        if process.state not in _WELL:
            yield f"{process.name} is {process.state}"
    for pop in pops:
        yield from _about_pop(pop, seq)


def _about_pop(pop: Pop, seq: int | None) -> Iterator[str]:
    if pop.state not in ("up", "unknown"):
        yield f"{pop.code} is {pop.state}"
        return
    for process in pop.processes:
        if process.state not in _WELL:
            yield f"{pop.code}/{process.name} is {process.state}"
    if seq is not None:
        if pop.heard_s is None or pop.heard_s > SILENT_AFTER_S:
            yield f"{pop.code}'s agent is silent"
        elif pop.seq is not None and pop.seq < seq:
            yield f"{pop.code} catches up: it serves seq {pop.seq} of {seq}"
    if pop.anycast is None:
        yield f"{pop.code}'s anycast role does not answer"
    elif not pop.anycast.healthy or not pop.anycast.session_up:
        yield f"{pop.code} is not announced: {pop.anycast.reason or 'no session'}"
