"""A role as small as can be: serves `http` with its pid, ends on SIGTERM, or misbehaves on request.

Told to leave, it answers who is connected and then ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from atoll.node.role import inherited_sockets, notify_ready


async def serve(behaviour: str) -> None:
    stop, open_connections = asyncio.Event(), set[asyncio.Task[None]]()
    loop = asyncio.get_running_loop()
    if behaviour != "stubborn":
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, stop.set)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)
        await reader.readline()
        writer.write(b"%d\n" % os.getpid())
        await writer.drain()
        writer.close()

    socks = inherited_sockets(os.environ).values()
    servers = [await asyncio.start_server(answer, sock=sock) for sock in socks]
    print("serving", flush=True)
    if behaviour == "slow":
        await asyncio.sleep(2.0)
    if behaviour != "silent":
        notify_ready()
    await stop.wait()
    for server in servers:
        server.close()
    print("accepts no more", flush=True)
    await asyncio.sleep(0)  # what has been accepted gets its handler
    await asyncio.gather(*open_connections)


if __name__ == "__main__":
    if sys.argv[1] == "broken":
        sys.exit(3)
    if sys.argv[1] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(serve(sys.argv[1]))
