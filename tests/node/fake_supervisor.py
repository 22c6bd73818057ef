"""A supervisor as small as can be, which goes on as the code on disk: `python -m fake_supervisor`.

Told by one JSON value which socket to answer on, how its role behaves, and whether it refuses to start.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from atoll.node import handover
from atoll.node.listeners import listen_tcp, listen_unix
from atoll.node.process import Launch
from atoll.node.role import ROLE_VARIABLE, RoleConfig
from atoll.node.supervisor import Supervisor
from atoll.wire import frames
from atoll.wire.messages import GetProcesses, Message, Ok, Processes, ProcessInfo, RestartRole, Upgrade

NAME = "fake_supervisor"


class Fake:
    """One role on one socket."""

    def __init__(self, config: RoleConfig, handed: handover.Handed | None) -> None:
        handed = handed or handover.Handed()
        self._run = Path(config.run)
        self._behaviour = config.options["behaviour"]
        self._sockets = handover.Sockets(handed.sockets)
        self._supervisor = Supervisor(adopted=handed.supervised)
        self._upgrader = handover.Upgrader(NAME, lambda: self._supervisor.settled, self._export)
        self._began_s = asyncio.get_running_loop().time()
        self.stopping = asyncio.Event()

    def _export(self) -> handover.Handed:
        return handover.Handed(sockets=self._sockets.export(), supervised=self._supervisor.export())

    async def run(self) -> None:
        """Until told to stop."""
        tcp = self._sockets.hold("http", lambda: listen_tcp("127.0.0.1", 0))
        if not (self._run / "port").exists():
            (self._run / "port").write_text(str(tcp.getsockname()[1]))
        role = Path(__file__).with_name("fake_role.py")
        self._supervisor.run(
            Launch(
                name="role",
                argv=(sys.executable, str(role), self._behaviour),
                log=self._run / "role.log",
                fds={"http": tcp.fileno()},
                grace_s=2.0,
                leave_s=30.0,
            )
        )
        asking = self._sockets.hold("supervisor", lambda: listen_unix(self._run / "supervisor.sock"))
        server = await frames.serve(asking, self._answer)
        await self._supervisor.dismiss()
        await self.stopping.wait()
        await self._supervisor.stop_all()
        server.close()

    async def _answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        match message:
            case GetProcesses():
                uptime_s = asyncio.get_running_loop().time() - self._began_s
                me = ProcessInfo(name="supervisor", pid=os.getpid(), state="ready", uptime_s=uptime_s)
                return Processes(processes=(me, *self._supervisor.infos()))
            case RestartRole():
                await self._supervisor.get(message.name).replace(message.grace_s)
                return Ok()
            case Upgrade():
                await self._upgrader.upgrade()
                return Ok()
            case _:
                return None


async def serve() -> None:
    """The fake."""
    config = msgspec.json.decode(os.environ[ROLE_VARIABLE], type=RoleConfig)
    fake = Fake(config, handover.take(os.environ))
    handover.heed_stops(fake.stopping.set)
    await fake.run()


if __name__ == "__main__":
    if (Path(msgspec.json.decode(os.environ[ROLE_VARIABLE])["run"]) / "broken").exists():
        raise SystemExit("this version is broken")
    if not handover.rehearses(os.environ):
        asyncio.run(serve())
