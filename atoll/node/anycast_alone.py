"""`atoll anycast`: announces and withdraws prefixes for any service, by its health. No edge, no network.

The same role as a PoP's, with checks of one's own, real neighbours, and BFD beside them where the driver has
none. What the operator wants, and how often the service fell, is kept in a folder, which also has the socket
that `atoll anycast status` and `drain` speak to.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from atoll.anycast.bfd import Change
from atoll.anycast.bfd_udp import BfdService, Peer, prefer_promptness
from atoll.anycast.bird import BirdSpeaker
from atoll.anycast.checks import Checks
from atoll.anycast.config_file import AnycastFile
from atoll.anycast.exabgp import ExaBgpSpeaker
from atoll.anycast.neighbors import Neighbor
from atoll.errors import AtollError
from atoll.node.anycast import Role, Terms
from atoll.node.anycast_disk import AnycastDisk
from atoll.wire import frames
from atoll.wire.messages import AnycastStatus, GetAnycast, Message, NeighborStatus

SOCKET: Final = "anycast.sock"
_LOCK: Final = "lock"
_RUN: Final = "run"


class Alone:
    """The role, its speaker and its BFD sessions."""

    def __init__(self, file: AnycastFile, folder: Path) -> None:
        self._folder = folder
        self._file = file
        check = file.check
        self.role = Role(
            file.name,
            file.prefixes,
            AnycastDisk(folder),
            Checks(check),
            Terms(
                policy=file.policy,
                health=file.health,
                interval_s=check.interval_ms / 1000,
                plain=file.template,
                permit=check.on_failure == "withdraw",
            ),
        )
        self.speaker = self._speaker()
        self.role.speaker = self.speaker
        self._bfd = BfdService(self._on_bfd)
        self._resetting: set[asyncio.Task[None]] = set()

    def _speaker(self) -> ExaBgpSpeaker | BirdSpeaker:
        speaking, bird = self._file.speaking, self._file.bird
        if bird is not None:
            return BirdSpeaker(speaking, Path(bird.control), Path(bird.include), self.role.on_event)
        return ExaBgpSpeaker(speaking, self._folder / _RUN, self.role.on_event)

    async def open(self) -> None:
        """Begin to speak.

        Raises:
            AtollError: a socket, a file or a program that is not to be had.
        """
        guarded = [each for each in self._file.speaking.neighbors if each.bfd is not None]
        if guarded and not prefer_promptness():
            self.role.note("BFD without real-time priority (CAP_SYS_NICE): a very busy machine may look dead")
        for neighbor in guarded:
            assert neighbor.bfd is not None
            self._bfd.add(
                Peer(address=neighbor.address, local=neighbor.local_address, timers=neighbor.bfd)
            )  # fmt: skip
        await self.speaker.open()

    def _on_bfd(self, peer: Peer, change: Change) -> None:
        neighbor = next(each for each in self._file.speaking.neighbors if each.address == peer.address)
        self.role.note(f"{neighbor.name} BFD {change.before.name} -> {change.after.name}")
        if change.path_failed:
            task = asyncio.create_task(self._reset(neighbor))
            self._resetting.add(task)
            task.add_done_callback(self._resetting.discard)

    async def _reset(self, neighbor: Neighbor) -> None:
        try:
            await self.speaker.reset(neighbor.address)
        except AtollError as error:
            self.role.note(f"{neighbor.name} session not ended: {error}")

    async def answer(self, peer: frames.Peer, message: Message) -> Message | None:
        """Serve the socket: as the role does, with neighbours."""
        answer = await self.role.answer(peer, message)
        if isinstance(message, GetAnycast) and isinstance(answer, AnycastStatus):
            return msgspec.structs.replace(answer, neighbors=tuple(self._neighbors()))
        return answer

    def _neighbors(self) -> Iterator[NeighborStatus]:
        now_s = asyncio.get_running_loop().time()
        for session in self.speaker.sessions:
            neighbor = session.neighbor
            yield NeighborStatus(
                name=neighbor.name,
                address=neighbor.address,
                asn=neighbor.asn,
                up=session.up,
                for_s=round(now_s - session.since_s, 3),
                reason=session.reason,
                bfd=self._bfd.state(neighbor.address).name if neighbor.bfd is not None else "",
            )

    async def leave(self) -> None:
        """Withdraw, with proof; end the sessions."""
        await self.role.leave()
        await self._bfd.close()


async def run(file: AnycastFile, folder: Path) -> None:
    """Announce until told to end (SIGTERM, SIGINT).

    Raises:
        AtollError: it cannot begin, or another one does this already.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _alone(folder):
        alone = Alone(file, folder)
        await alone.open()
        socket = folder / SOCKET
        server = await frames.serve(socket, alone.answer)
        socket.chmod(0o600)
        ending = asyncio.create_task(stop.wait())
        watcher = asyncio.create_task(alone.role.watch())
        try:
            await asyncio.wait((ending, watcher), return_when=asyncio.FIRST_COMPLETED)
            if watcher.done():
                watcher.result()
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError, AtollError):
                await watcher
            await alone.leave()
            server.close()
            socket.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two of the same would take each other's routes back."""
    held = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AtollError(
                "another `atoll anycast` runs here", "end it, or name another --state folder", str(folder)
            ) from None
        yield
    finally:
        os.close(held)
