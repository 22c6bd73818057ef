"""A driver in a process of its own, as the tests of all drivers speak to it.

`python speaker_end.py DRIVER FOLDER` reads a line of JSON for each thing to do and answers with one; events
come in between. It is started in a namespace, where the neighbours of the driver are.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from atoll.anycast.bird import BirdSpeaker
from atoll.anycast.exabgp import ExaBgpSpeaker
from atoll.anycast.neighbors import Speaking
from atoll.anycast.speaker import Announcement, SpeakerEvent
from atoll.errors import AtollError


class Order(msgspec.Struct):
    """What to do."""

    do: str
    announcement: Announcement = Announcement(prefix="0.0.0.0/0")
    patience_s: float = 0.0


def say(kind: str, value: object) -> None:
    """Write a line."""
    sys.stdout.buffer.write(msgspec.json.encode({"kind": kind, "value": value}) + b"\n")
    sys.stdout.flush()


def make(driver: str, folder: Path) -> ExaBgpSpeaker | BirdSpeaker:
    """The driver to be tried."""
    speaking = msgspec.json.decode((folder / "speaking.json").read_bytes(), type=Speaking)

    def event(what: SpeakerEvent) -> None:
        say("event", what)

    if driver == "bird":
        return BirdSpeaker(speaking, folder / "bird/bird.ctl", folder / "bird/atoll.conf", event)
    return ExaBgpSpeaker(speaking, folder / "exabgp", event)


async def obey(speaker: ExaBgpSpeaker | BirdSpeaker, order: Order) -> object:
    """Do one thing."""
    match order.do:
        case "open":
            await speaker.open()
        case "announce":
            await speaker.announce(order.announcement)
        case "withdraw":
            return await speaker.withdraw(order.announcement.prefix)
        case "acknowledged":
            return speaker.acknowledged
        case "sessions":
            return [(each.neighbor.name, each.up, each.reason) for each in speaker.sessions]
        case "pid":
            return getattr(speaker, "pid", None)
        case "hand_over":
            await speaker.hand_over(order.patience_s)
        case "close":
            await speaker.close()
    return None


async def main() -> None:
    """Until the end of the input."""
    speaker = make(sys.argv[1], Path(sys.argv[2]))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        try:
            say("done", await obey(speaker, msgspec.json.decode(line, type=Order)))
        except AtollError as error:
            say("refused", str(error))


if __name__ == "__main__":
    asyncio.run(main())
