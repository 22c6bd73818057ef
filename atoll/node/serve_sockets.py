"""The sockets of `atoll serve`, a set for each worker: bound once, held until the end."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.node.listeners import bind_udp, listen_tcp, listen_unix, port_of, taken
from atoll.node.serve_plan import Listen, Plan, parse_listen

UNIX: Final = "unix:"
_OPTION: Final = "--listen"


class WorkerSockets:
    """`sets[i]` are worker i's, by the names a worker knows; with HTTP/3 the last set is its worker's.

    `listen` is where they are, with the ports that the kernel has chosen.
    """

    def __init__(self, plan: Plan) -> None:
        self._workers = plan.workers
        self._http3 = plan.http3
        self.sets: list[dict[str, socket.socket]] = [{} for _ in range(plan.workers + plan.http3)]
        try:
            self.listen = tuple([self._bind(each) for each in plan.listen])
        except BaseException:
            self.close()
            raise

    @property
    def https_port(self) -> int:
        """Of the first address that speaks TLS; 0 if none does."""
        return next((each.port for each in self.listen if each.scheme == "https"), 0)

    def close(self) -> None:
        """Let go of all of them."""
        for sockets in self.sets:
            for sock in sockets.values():
                sock.close()

    def _bind(self, wanted: Listen) -> Listen:
        """Bind for every worker; where that is.

        Raises:
            AtollError: an address cannot be had.
        """
        port = wanted.port
        bound: list[str] = []
        for address in wanted.addresses:
            try:
                # Not shared at first: a port of another server's is not ours to join.
                first = listen_tcp(address, port)
                port = port_of(first)
                self._hold(wanted.scheme, address, port, first)
            except OSError as error:
                if bound and wanted.optional and error.errno != errno.EADDRINUSE:
                    continue  # this machine has no such family
                raise taken(port, _OPTION, error) from error
            bound.append(address)
        return msgspec.structs.replace(wanted, port=port, addresses=tuple(bound))

    def _hold(self, scheme: str, address: str, port: int, first: socket.socket) -> None:
        if self._workers > 1:
            first.close()
        for sockets in self.sets[: self._workers]:
            sock = listen_tcp(address, port, shared=True) if self._workers > 1 else first
            sock.setblocking(False)
            sockets[_free(scheme, sockets)] = sock
        if scheme == "https" and self._http3:
            quic = self.sets[-1]
            quic[_free("quic", quic)] = bind_udp(address, port)


def listen_admin(text: str) -> socket.socket:
    """Where counters are told: `127.0.0.1:8001` or `unix:/path`.

    Raises:
        AtollError: it is not on this machine alone, or cannot be had.
    """
    if text.startswith(UNIX):
        try:
            sock = listen_unix(Path(text.removeprefix(UNIX)))
        except OSError as error:
            raise AtollError(f"{text} cannot be had: {error.strerror or error}", where="--admin") from error
    else:
        wanted = parse_listen(text, "http")
        if wanted.addresses[0] not in ("127.0.0.1", "::1"):
            hint = "--admin 127.0.0.1:8001 or --admin unix:/path/to/socket"
            raise AtollError("counters are told on this machine only", hint)
        try:
            sock = listen_tcp(wanted.addresses[0], wanted.port)
        except OSError as error:
            raise taken(wanted.port, "--admin", error) from error
    sock.setblocking(False)
    return sock


def _free(kind: str, sockets: dict[str, socket.socket]) -> str:
    """`https`, then `https.1`, `https.2`."""
    count = sum(name.partition(".")[0] == kind for name in sockets)
    return f"{kind}.{count}" if count else kind
