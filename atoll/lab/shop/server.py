"""The shop's and the landing pages' origins: ordinary web applications under uvicorn, which know of no edge.

An origin's data is in `origins/<host>` of the network's home.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from time import time
from typing import Final

import uvicorn

from atoll.errors import AtollError
from atoll.lab.shop.database import Database
from atoll.lab.shop.landing import VERSIONS, Landing
from atoll.lab.shop.pages import Place
from atoll.lab.shop.shop import Shop
from atoll.lab.shop.web import WebApp
from atoll.node.role import RoleConfig, inherited_sockets, notify_ready

PLACES: Final = {
    place.host: place
    for place in (
        Place("us-origin.example.com", "NA", "Ashburn"),
        Place("eu-origin.example.com", "EU", "Frankfurt"),
        Place("asia-origin.example.com", "AS", "Tokyo"),
    )
}
KEEP_ALIVE_S: Final = 120  # longer than any edge keeps an idle connection
GRACE_S: Final = 3


def build_app(host: str, data: Path) -> WebApp:
    """The application that answers as `host`, its data in the folder `data`.

    Raises:
        AtollError: no origin has that name.
    """
    if host in PLACES:
        return Shop(PLACES[host], Database(data / "shop.sqlite"), time).app
    if host in VERSIONS:
        return Landing(host, time).app
    raise AtollError(f"no origin is named {host!r}", f"there are: {', '.join([*PLACES, *VERSIONS])}")


class _Server(uvicorn.Server):
    """Says when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify_ready()


def serve(config: RoleConfig) -> None:
    """The role, until it is told to stop.

    Raises:
        AtollError: the option `origin` or the socket is missing.
    """
    host = config.options.get("origin", "")
    sockets = inherited_sockets(os.environ)
    if "http" not in sockets:
        raise AtollError("an origin inherits its listening socket", where="ATOLL_FDS")
    settings = uvicorn.Config(
        build_app(host, config.paths.home / "origins" / host),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    _Server(settings).run([sockets["http"]])
