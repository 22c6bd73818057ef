"""An edge worker of `atoll serve`: `python -m atoll.node.serve_worker`, or a part of the process that serves.

It is a PoP's edge worker, with what an operator may choose for one alone: a log of accesses or none, a disk
or none, and who may purge.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uvloop

from atoll.cache.disk import DiskStore
from atoll.cache.purge import PurgeLog
from atoll.config.paths import PURGES
from atoll.edge.clock import Clock
from atoll.edge.door import Door
from atoll.edge.log import AccessLog, NoLog
from atoll.errors import AtollError
from atoll.node.edge import Worker, load_snapshot, snapshot_file
from atoll.node.policy_file import read_secret
from atoll.node.purge_door import PurgeDoor
from atoll.node.role import RoleConfig, read_role
from atoll.wire import frames
from atoll.wire.messages import ApplySnapshot, Message

MODULE: Final = "atoll.node.serve_worker"
CACHE_BYTES: Final = "cache_bytes"
DISK: Final = "disk"
DISK_BYTES: Final = "disk_bytes"
ACCESS_LOG: Final = "access_log"
PURGE_TOKEN: Final = "purge_token"  # noqa: S105 - the option that names its file
"""The role's options."""


class ServeWorker(Worker):
    """One worker."""

    _leased = False  # purges are numbered in this machine, and held up until every worker has them
    _sweeper: asyncio.Task[None]

    def _open_log(self, clock: Clock) -> AccessLog:
        wanted = self._config.options.get(ACCESS_LOG, "")
        if not wanted:
            return NoLog()
        return AccessLog(None if wanted == "-" else Path(wanted), clock, rotates=False)

    def _open_disk(self) -> DiskStore | None:
        folder = self._config.options.get(DISK, "")
        if not folder:
            return None
        disk = DiskStore(Path(folder), int(self._config.options[DISK_BYTES]), PurgeLog())
        disk.load_purges()
        return disk

    def _door(self, h3_port: int) -> Door:
        challenges = self._config.paths.acme / "challenges"
        token = self._config.options.get(PURGE_TOKEN, "")
        if not token:
            return Door(self.edge, challenges, h3_port)
        return PurgeDoor(self.edge, challenges, h3_port, lambda: read_secret(Path(token)), self._purge)

    def _purges_socket(self) -> Path:
        return self._config.paths.run / PURGES

    async def _answer(self, peer: frames.Peer, message: Message) -> Message | None:
        reply = await super()._answer(peer, message)
        if isinstance(message, ApplySnapshot):
            self.log.reopen()  # SIGHUP is also how those who rotate logs say so
        return reply

    async def begin(self, sockets: Mapping[str, socket.socket]) -> None:
        """Serve in this process, which heeds signals itself."""
        await self._control.open()
        self.listen(sockets)
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def finish(self, grace_s: float) -> None:
        """Answer what has come, and stop."""
        await self.drain(grace_s)
        self._sweeper.cancel()
        self._close()


def prepare_process() -> None:
    """Once before it serves: faults are said on stderr, connections are as many as the machine allows, and
    nobody looks for garbage where there is none."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    gc.set_threshold(100_000, 50, 100)


async def _serve(config: RoleConfig) -> None:
    await ServeWorker(config, load_snapshot(snapshot_file(config))).run()


def main() -> None:
    """Entry point."""
    try:
        config = read_role(os.environ)
        prepare_process()
        uvloop.run(_serve(config))
    except AtollError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
