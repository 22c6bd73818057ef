"""One end of BFD sessions in a process of its own: `python -m bench.bfd_end INTERVAL_MS LOCAL=PEER …`.

A line of JSON for each change of state, with the machine's steady clock; ends in order on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec

from atoll.anycast.bfd import Change, Timers
from atoll.anycast.bfd_udp import BfdService, Peer, prefer_promptness


class Said(msgspec.Struct, frozen=True):
    """A change. `at_s` is CLOCK_MONOTONIC, which all processes of a machine share."""

    peer: str
    before: str
    after: str
    diagnostic: int
    at_s: float


def tell(peer: Peer, change: Change) -> None:
    """Write a change down."""
    said = Said(peer.address, change.before.name, change.after.name, change.diagnostic, change.at_s)
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.flush()


async def run(interval_us: int, pairs: list[str]) -> None:
    """Keep the sessions until told to end."""
    prefer_promptness()
    service = BfdService(tell)
    timers = Timers(desired_min_tx_us=interval_us, required_min_rx_us=interval_us)
    for pair in pairs:
        local, _, peer = pair.partition("=")
        service.add(Peer(address=peer, local=local, timers=timers))
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    await service.close()


if __name__ == "__main__":
    asyncio.run(run(int(float(sys.argv[1]) * 1000), sys.argv[2:]))
