"""The control API: `python -m atoll.node.api`, started by the network daemon, which owns its port.

It answers without NATS too (status, PoPs, drains); what needs the store says so with 503.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from atoll.control.api import PORT, create_app
from atoll.control.certificate_store import CertificateStore
from atoll.control.deployments import ControlPlane
from atoll.control.link import Link
from atoll.control.observe import Observer
from atoll.errors import AtollError
from atoll.node.agent_disk import load_network
from atoll.node.renewals import Renewals
from atoll.node.role import RoleConfig, inherited_sockets, notify_ready, read_role

_log = logging.getLogger("atoll.api")


def read_token(path: Path) -> str:
    """The API's token, made at first use; readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    return path.read_text().strip()


def _listener() -> socket.socket:
    inherited = inherited_sockets(os.environ).get("api")
    if inherited is not None:
        return inherited
    try:
        return socket.create_server(("127.0.0.1", PORT))
    except OSError as error:
        raise AtollError(f"port {PORT} is not free: {error.strerror}", "stop what listens there") from error


async def serve(config: RoleConfig, listener: socket.socket) -> None:
    """The role, until it is told to stop."""
    paths = config.paths
    network = load_network(paths.network_file)
    if network is None:
        raise AtollError("no network to control", "start one with `atoll up`", str(paths.network_file))
    link = Link(config.nats_url, "api")
    plane = ControlPlane(link, network, paths.ca)
    app = create_app(plane, Observer(paths, network, plane.presence), read_token(paths.token))
    renewing = asyncio.ensure_future(Renewals(CertificateStore(paths)).run())
    following = asyncio.ensure_future(link.run(plane.session, lambda why: _log.warning("no NATS: %s", why)))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
    )
    following.add_done_callback(lambda _task: setattr(server, "should_exit", True))
    notify_ready()
    try:
        await server.serve(sockets=[listener])
        if following.done():  # it never returns: an API that follows no store is started anew
            following.result()
    finally:
        following.cancel()
        renewing.cancel()


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        uvloop.run(serve(read_role(os.environ), _listener()))
    except AtollError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
