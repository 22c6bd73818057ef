"""Ways to hurt one process of a running network, each undone at the end of its block."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

from live_network import LiveNetwork

from atoll.wire import frames
from atoll.wire.messages import GetNetwork, NetworkStatus, Ok, ProcessSignal

POLL_S = 0.05


async def until(check: Callable[[], Awaitable[bool]], limit_s: float = 20.0) -> None:
    """Wait for what the network only tells when it is asked."""
    async with asyncio.timeout(limit_s):
        for _ in range(int(limit_s / POLL_S) + 1):
            if await check():
                return
            await asyncio.sleep(POLL_S)
    raise TimeoutError


async def whole(network: LiveNetwork) -> None:
    """Wait until nothing is wrong with the network."""

    async def is_whole() -> bool:
        return (await asyncio.to_thread(network.run, "status")).returncode == 0

    await until(is_whole, 30)


async def pids(network: LiveNetwork) -> dict[str, int]:
    """Process ids by name: `nats`, `lhr/agent`, `lhr/fn:default.greeter.1f...`."""
    status = await frames.ask(network.paths.network_socket, GetNetwork())
    assert isinstance(status, NetworkStatus)
    found = {process.name: process.pid for process in status.processes}
    for pop in status.pops:
        serving = [process for process in pop.processes if process.state != "leaving"]
        found |= {f"{pop.code}/{process.name}": process.pid for process in serving}
    return found


async def kill(network: LiveNetwork, name: str) -> None:
    """SIGKILL a process by name; it is started again."""
    assert isinstance(await frames.ask(network.paths.network_socket, ProcessSignal(name=name)), Ok)


@contextlib.contextmanager
def frozen(*processes: int) -> Iterator[None]:
    """Processes that hang: they hold their sockets, and nothing they are asked is answered."""
    try:
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
