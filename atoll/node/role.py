"""How a supervisor tells a role who it is: one JSON value and the sockets it inherits.

The supervisor owns every listening socket; a role gets them as file descriptors, so a role that dies loses
no queued connection.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.paths import Paths
from atoll.config.spec import PopSpec
from atoll.errors import AtollError

ROLE_VARIABLE: Final = "ATOLL_ROLE"
FDS_VARIABLE: Final = "ATOLL_FDS"


class RoleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who a role process is. Paths are strings so that the value is JSON."""

    role: str  # edge | agent | anycast | supervisor | api | gateway | origin | network
    home: str
    run: str
    token: str
    pop: PopSpec | None = None
    index: int = 0  # which edge worker
    nats_url: str = ""  # with credentials
    options: dict[str, str] = {}  # what only one role knows: {"region": "EU"}, {"latency": "real"}

    @property
    def paths(self) -> Paths:
        """The network's paths."""
        return Paths(home=Path(self.home), run=Path(self.run), token=Path(self.token))


def read_role(env: Mapping[str, str]) -> RoleConfig:
    """The role this process was started as.

    Raises:
        AtollError: started by hand, without the supervisor's variables.
    """
    text = env.get(ROLE_VARIABLE)
    if text is None:
        raise AtollError("this is a role of a PoP, not a command", hint="start a network with `atoll up`")
    return msgspec.json.decode(text, type=RoleConfig)


def inherited_sockets(env: Mapping[str, str]) -> dict[str, socket.socket]:
    """The sockets the supervisor handed over, by name ("http", "https", "bindings", ...)."""
    fds = msgspec.json.decode(env.get(FDS_VARIABLE, "{}"), type=dict[str, int])
    sockets = {}
    for name, fd in fds.items():
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        sockets[name] = sock
    return sockets
