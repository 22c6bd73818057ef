"""ExaBGP as our child: started, kept running, spoken to.

Commands go one at a time, because its acknowledgements name none. When it dies it is started again after a
jittered pause. When we die, the relay between us ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Iterable
from pathlib import Path
from random import random
from typing import Final

import msgspec

from atoll.anycast import exabgp_relay, exabgp_text
from atoll.anycast.backoff import backoff_s
from atoll.anycast.exabgp_text import Acknowledged, Event
from atoll.errors import AtollError

ACKNOWLEDGE_S: Final = 5.0
STOP_S: Final = 5.0
STEADY_S: Final = 30.0  # who ran for so long did not die at the start

_MAX_LINE: Final = 1 << 20


class ExaBgpProcess:
    """One ExaBGP after the other. `on_event` gets what each says, `on_gone` the reason when one has ended."""

    def __init__(
        self,
        folder: Path,
        on_event: Callable[[Event], None],
        on_gone: Callable[[str], None],
        jitter: Callable[[], float] = random,
    ) -> None:
        self._folder = folder
        self._on_event = on_event
        self._on_gone = on_gone
        self._jitter = jitter
        self._server: asyncio.Server | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[bool] | None = None

    @property
    def pid(self) -> int | None:
        """The running process."""
        return self._process.pid if self._process is not None else None

    async def start(self, configuration: Callable[[tuple[str, ...]], str]) -> None:
        """Begin. `configuration` makes the text from the relay's command line.

        Raises:
            AtollError: no place for its files.
        """
        relay = (sys.executable, "-I", "-S", str(exabgp_relay.__file__), str(self._socket))
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
            self._socket.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._linked, self._socket, limit=_MAX_LINE)
            self._socket.chmod(stat.S_IRUSR | stat.S_IWUSR)
            self._farewell.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            self._config.unlink(missing_ok=True)
            with os.fdopen(os.open(self._config, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
                file.write(configuration(relay))
        except OSError as error:
            raise AtollError(f"no place for ExaBGP's files: {error}", where=str(self._folder)) from error
        self._keeping = asyncio.create_task(self._keep_running())

    def keep_farewell(self, commands: Iterable[str]) -> None:
        """What the relay says for us should we die."""
        fresh = self._farewell.with_suffix(".new")
        fresh.write_text("".join(commands))
        fresh.replace(self._farewell)

    async def say(self, command: str) -> bool:
        """Have one command done; False when there is nobody to do it, now or before it was acknowledged.

        Raises:
            AtollError: ExaBGP refuses it, or says nothing.
        """
        async with self._turn:
            if self._writer is None:
                return False
            self._answer = asyncio.get_running_loop().create_future()
            self._writer.write(command.encode() + b"\n")
            try:
                async with asyncio.timeout(ACKNOWLEDGE_S):
                    accepted = await self._answer
            except TimeoutError:
                raise AtollError(f"ExaBGP said nothing to {command!r}") from None
            except ConnectionError:
                return False
            finally:
                self._answer = None
            if not accepted:
                raise AtollError(f"ExaBGP refuses {command!r}")
            return True

    async def stop(self, number: signal.Signals) -> None:
        """End it for good: SIGTERM closes sessions with Cease, SIGKILL breaks them off."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(number)
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._server is not None:
            self._server.close()
        self._lost("closed")
        for path in (self._socket, self._config, self._farewell):
            path.unlink(missing_ok=True)

    async def _keep_running(self) -> None:
        loop, attempt = asyncio.get_running_loop(), 0
        while True:
            started_s = loop.time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "exabgp", "server", str(self._config),
                env={**os.environ, **exabgp_text.ENVIRONMENT}, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            code = await self._process.wait()
            self._lost(f"ExaBGP ended with {code}")
            attempt = 0 if loop.time() - started_s > STEADY_S else attempt + 1
            await asyncio.sleep(backoff_s(attempt, self._jitter()))

    async def _linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while line := await reader.readline():
                self._take(line.decode(errors="replace").strip())
        except (OSError, ValueError):
            pass  # a line too long, or the relay died: it is over in either case
        finally:
            writer.close()
            if self._writer is writer:
                self._lost("the relay to ExaBGP ended")

    def _take(self, line: str) -> None:
        try:
            event = exabgp_text.read_event(line)
        except msgspec.DecodeError:
            return  # of a kind that we do not ask for
        if isinstance(event, Acknowledged):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(event.accepted)
        elif event is not None:
            self._on_event(event)

    def _lost(self, reason: str) -> None:
        self._writer = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(reason))
        self._on_gone(reason)

    @property
    def _socket(self) -> Path:
        return self._folder / "exabgp.sock"

    @property
    def _farewell(self) -> Path:
        return self._folder / "exabgp.sock.farewell"

    @property
    def _config(self) -> Path:
        return self._folder / "exabgp.conf"
