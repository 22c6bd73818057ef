"""`python -m bench.websocket_echo PORT`: a WebSocket server that repeats everything (RFC 6455, RFC 7692)."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(connection: ServerConnection) -> None:
    """Until the client has had enough."""
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # it has broken the protocol, and been told so


async def main(port: int) -> None:
    """Listen."""
    async with serve(echo, "127.0.0.1", port, max_size=None, ping_interval=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
