"""A PoP's service in the lab with real routers: `python -m atoll.lab.udp_echo NAME ADDRESS PORT`.

It answers every datagram with its name, from the anycast address, and takes TCP connections, which is what
the PoP's health is judged by.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Echo(asyncio.DatagramProtocol):
    """`sequence` in, `sequence name` out."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It listens."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """A probe."""
        self._transport.sendto(data + b" " + self._name, addr)


async def main(name: str, address: str, port: int) -> None:
    """Answer for ever."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Echo(name.encode()), local_addr=(address, port))
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
