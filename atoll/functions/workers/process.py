"""A running function host: started, watched, restarted, stopped.

The host's listening sockets are bound here and outlive the process: what connects while it is restarted waits
in their queues. A host that dies often is left dead for a while; its callers then get a 503 at once, from
here, instead of waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec
import psutil

from atoll.errors import AtollError
from atoll.functions.sandbox.start import Sandboxed, start
from atoll.functions.workers.bundle import load_manifest
from atoll.functions.workers.heartbeat import CpuClock, Pulse
from atoll.functions.workers.host import HostPlan, Loaded
from atoll.functions.workers.startup import startup_error
from atoll.functions.workers.watchdog import DEFAULT_RESTARTS, Action, Patience, Restarts, Watchdog
from atoll.wire.messages import SANDBOX_DETAIL, ProcessInfo

READY_TIMEOUT_S: Final = 10.0
BACKLOG: Final = 1024
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger("atoll.functions")


def load(bundle_dir: Path) -> Loaded:
    """An unpacked bundle, ready to be planned with.

    Raises:
        AtollError: it is none, or damaged.
    """
    manifest = load_manifest(bundle_dir)
    try:
        main = (bundle_dir / manifest.main).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AtollError(f"the main script cannot be read: {error}", where=manifest.main) from error
    return Loaded(manifest=manifest, directory=bundle_dir, main=main)


class HostProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A running host as who takes over finds it. Times are on the machine's monotonic clock."""

    pid: int  # 0: it is down, and started again when its turn comes
    fds: tuple[int, int]  # of the sockets that it answers on: requests, pings
    reduced: str = ""
    start_ms: float = 0.0
    started_s: float = 0.0
    deaths: tuple[float, ...] = ()


class FunctionHost:
    """One function version's process, kept alive from `start()` to `stop()`."""

    def __init__(
        self,
        plan: HostPlan,
        log: Path,
        open_log: Callable[[Path], int],
        *,
        patience: Patience = Patience(),  # noqa: B008
        restarts: Restarts = DEFAULT_RESTARTS,
        namespaces: bool = True,
        required: bool = False,
    ) -> None:
        self.plan = plan
        self.start_ms = 0.0  # the latest start: from launch until it answered
        self.ready = asyncio.Event()
        self._log_path = log
        self._open_log = open_log
        self._patience = patience
        self._restarts = restarts
        self._namespaces = namespaces
        self._required = required  # a reduced sandbox is refused
        self._listeners: tuple[socket.socket, socket.socket] | None = None
        self._process: Sandboxed | None = None
        self._started_s = 0.0
        self._deaths: list[float] = []
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._launching = False

    @property
    def settled(self) -> bool:
        """Whether it can be exported: it runs, or waits for its turn to be started again."""
        return self._keeper is not None and not (self._launching or self._stopping.is_set())

    def export(self) -> HostProcess:
        """What `adopt` needs."""
        assert self.settled
        assert self._listeners is not None
        requests, pings = self._listeners
        return HostProcess(
            pid=self.pid,
            fds=(requests.fileno(), pings.fileno()),
            reduced=self._process.reduced if self._process else "",
            start_ms=self.start_ms,
            started_s=self._started_s,
            deaths=tuple(self._deaths),
        )

    def adopt(self, state: HostProcess) -> None:
        """Look after a host that is there already, instead of `start()`."""
        requests, pings = (socket.socket(fileno=fd) for fd in state.fds)
        self._listeners = (requests, pings)
        self.start_ms, self._started_s, self._deaths = state.start_ms, state.started_s, list(state.deaths)
        pulse = None
        if state.pid:
            self._process = Sandboxed(state.pid, state.reduced)
            self.ready.set()
            pulse = Pulse(self.plan.ping_socket)
        self._keeper = asyncio.ensure_future(self._keep(pulse))

    @property
    def pid(self) -> int:
        """Of the present process; 0 when there is none."""
        return self._process.pid if self._process else 0

    @property
    def sandbox(self) -> str:
        """`full`, or `reduced` and why."""
        reduced = self._process.reduced if self._process else ""
        return f"reduced ({reduced})" if reduced else "full" if self._namespaces else "reduced (asked for)"

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            AtollError: it does not start; the message is workerd's own.
        """
        try:
            self._prepare()
            pulse = await self._launch()
        except OSError as error:
            self._clean_up()
            raise AtollError(f"the function's host cannot be set up: {error}") from error
        except AtollError:
            self._clean_up()
            raise
        self._keeper = asyncio.ensure_future(self._keep(pulse))

    async def stop(self, grace_s: float = 2.0) -> None:
        """Let it finish what it answers for `grace_s`, then end it and remove its sockets and files."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.send(signal.SIGTERM)
            await asyncio.wait({process.exited}, timeout=grace_s)
            process.send(signal.SIGKILL)
        if self._keeper is not None:
            await self._keeper
        self._clean_up()

    def kill(self) -> None:
        """SIGKILL it; it is restarted like after any other death."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)

    def info(self) -> ProcessInfo:
        """Its line in a status table."""
        owner = self.plan.id
        process = self._process
        state = "ready" if self.ready.is_set() else "starting" if process else "backoff"
        rss, cpu_s = _usage(process.pid) if process else (0, 0.0)
        return ProcessInfo(
            name=f"fn:{owner.tenant}.{owner.function}.{owner.version}",
            pid=self.pid,
            state="stopped" if self._stopping.is_set() or self._keeper is None else state,
            restarts=len(self._deaths),
            uptime_s=monotonic() - self._started_s if process else 0.0,
            rss=rss,
            cpu_s=cpu_s,
            detail=f"{SANDBOX_DETAIL}{self.sandbox}",
        )

    # --- files and sockets

    def _prepare(self) -> None:
        shutil.rmtree(self.plan.directory, ignore_errors=True)
        for folder in (self.plan.directory, *self.plan.folders):
            folder.mkdir(parents=True, mode=0o700)
        for path, content in self.plan.files.items():
            path.write_bytes(content)
        self._listeners = (_listen(self.plan.socket), _listen(self.plan.ping_socket))

    def _clean_up(self) -> None:
        for listener in self._listeners or ():
            listener.close()
        self._listeners = None
        for path in (self.plan.socket, self.plan.ping_socket):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.plan.directory, ignore_errors=True)

    # --- one life

    async def _launch(self) -> Pulse:
        """Start the process and wait until it answers its first ping."""
        self._launching = True
        try:
            return await self._launch_once()
        finally:
            self._launching = False

    async def _launch_once(self) -> Pulse:
        assert self._listeners is not None
        begun_s = monotonic()
        fds = tuple(listener.fileno() for listener in self._listeners)
        log_fd = self._open_log(self._log_path)
        try:
            offset = os.fstat(log_fd).st_size
            order = self.plan.sandbox(*fds, namespaces=self._namespaces)
            process = await start(order, log_fd, fds, required=self._required)
        finally:
            os.close(log_fd)
        if process.reduced:
            _log.warning("host of %s has a reduced sandbox: %s", self.plan.id.owner, process.reduced)
        self._process, self._started_s = process, begun_s
        if self._stopping.is_set():  # told to while there was nothing to signal
            process.send(signal.SIGKILL)
        pulse = Pulse(self.plan.ping_socket)
        try:
            await self._first_answer(process, pulse, offset)
        except AtollError:
            await self._end(process, pulse)
            raise
        self.start_ms = (monotonic() - begun_s) * 1000
        self.ready.set()
        return pulse

    async def _first_answer(self, process: Sandboxed, pulse: Pulse, log_offset: int) -> None:
        answered = asyncio.ensure_future(pulse.first_answer())
        try:
            await asyncio.wait(
                {answered, process.exited}, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if process.exited.done():
                raise startup_error(self.plan.id.function, self._logged_since(log_offset))
            if not answered.done():
                hint = "does it loop at its top level?"
                raise AtollError(f"the function did not start within {READY_TIMEOUT_S:g} s", hint=hint)
        finally:
            answered.cancel()
            await asyncio.gather(answered, return_exceptions=True)

    def _logged_since(self, offset: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(offset)
            return log.read(65_536).decode(errors="replace")

    async def _end(self, process: Sandboxed, pulse: Pulse) -> int:
        """Make sure it is gone: its exit code."""
        self.ready.clear()
        pulse.close()
        process.send(signal.SIGKILL)
        code = await process.exited
        self._process = None
        return code

    # --- many lives

    async def _keep(self, pulse: Pulse | None) -> None:
        while pulse is not None or not self._stopping.is_set():
            if pulse is not None:
                await self._live(pulse)
                pulse = None
                continue
            await self._wait_for_turn()
            if not self._stopping.is_set():
                pulse = await self._relaunch()

    async def _live(self, pulse: Pulse) -> None:
        assert self._process is not None
        process = self._process
        watching = asyncio.ensure_future(self._watch(process, pulse))
        await asyncio.wait({process.exited})
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        code = await self._end(process, pulse)
        if not self._stopping.is_set():
            self._deaths.append(monotonic())
            _log.warning("host of %s (pid %d) ended: %d", self.plan.id.owner, process.pid, code)

    async def _watch(self, process: Sandboxed, pulse: Pulse) -> None:
        """Look at it again and again; returns when it had to be killed."""
        with CpuClock(process.pid) as cpu:
            dog = Watchdog(monotonic(), cpu.seconds(), self._patience)
            pulse.on_answer = lambda: dog.answered(monotonic())
            while True:
                await asyncio.sleep(self._patience.interval_s)
                action = dog.look(monotonic(), cpu.seconds())
                if action is Action.PING:
                    await pulse.ask()
                elif action is Action.KILL:
                    _log.warning(
                        "host of %s (pid %d) does not answer: killed", self.plan.id.owner, process.pid
                    )
                    process.send(signal.SIGKILL)
                    return

    async def _relaunch(self) -> Pulse | None:
        try:
            return await self._launch()
        except (AtollError, OSError) as error:
            if not self._stopping.is_set():
                self._deaths.append(monotonic())
                _log.error("host of %s does not start again: %s", self.plan.id.owner, error)
            return None

    async def _wait_for_turn(self) -> None:
        now_s = monotonic()
        self._deaths = [death_s for death_s in self._deaths if now_s - death_s < 3600]
        delay_s = self._restarts.delay_s(self._deaths, now_s)
        if delay_s == 0 or self._listeners is None:
            return
        loop = asyncio.get_running_loop()
        main = self._listeners[0]
        loop.add_reader(main.fileno(), _turn_away, main)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)
        loop.remove_reader(main.fileno())


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _turn_away(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            connection.send(_BUSY)


def _usage(pid: int) -> tuple[int, float]:
    """Private bytes (all that are resident where the kernel keeps that to itself) and CPU seconds."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        try:
            memory = process.memory_full_info().uss
        except psutil.AccessDenied:
            memory = process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0, 0.0
    return memory, times.user + times.system
