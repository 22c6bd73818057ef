"""Listening sockets: bound by a supervisor, inherited by whoever serves them, so no restart closes one.

A port that people know is either bound or refused with the name of what holds it; a port that only the
network itself knows may be moved.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from atoll.errors import AtollError

BACKLOG: Final = 4096
_TRIES: Final = 20  # of ports that may be taken, for TCP or for UDP
_REGISTERED: Final = range(20_000, 49_152)  # of the User Ports (RFC 6335 §6), those with few assignments
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_IP_PMTUDISC_PROBE: Final = 3  # linux/in.h: do not fragment, and leave the size to us
_PROBE_MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}


def listen_tcp(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A TCP socket that listens; `shared`: several may, and the kernel spreads connections over them.

    Raises:
        OSError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: Path) -> socket.socket:
    """A unix socket at `path` that only its owner may use; one left behind is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(BACKLOG)
    return sock


def bind_udp(address: str, port: int) -> socket.socket:
    """A UDP socket for QUIC: its datagrams are never cut on the way (RFC 9000 §14).

    Raises:
        OSError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with contextlib.suppress(OSError):  # Linux alone knows it by these numbers
            level, option = _PROBE_MTU[family]
            sock.setsockopt(level, option, _IP_PMTUDISC_PROBE)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def listen_public(port: int, option: str) -> dict[str, socket.socket]:
    """Port `port` of both loopback addresses (IPv6 where the machine has it), by address.

    Raises:
        AtollError: it is taken; names what holds it and the command-line option that chooses another.
    """
    try:
        sockets = {"127.0.0.1": listen_tcp("127.0.0.1", port)}
    except OSError as error:
        raise taken(port, option, error) from error
    chosen = port_of(sockets["127.0.0.1"])
    try:
        sockets["::1"] = listen_tcp("::1", chosen)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sockets["127.0.0.1"].close()
            raise taken(chosen, option, error) from error
    return sockets


def free_port(preferred: int, address: str = "127.0.0.1") -> int:
    """`preferred` if nobody listens there now, otherwise one that the kernel chooses."""
    return free_ports([(address, preferred)])[0]


def free_ports(preferred: Iterable[tuple[str, int]]) -> list[int]:
    """For each address and port, that port or one that the kernel chooses; no two the same.

    Raises:
        OSError: there is none.
    """
    with contextlib.ExitStack() as held:
        return [_listen_somewhere(address, port, held) for address, port in preferred]


def _listen_somewhere(address: str, port: int, held: contextlib.ExitStack) -> int:
    """A port that is free for TCP and for UDP: HTTPS has both (RFC 9114 §3.1).

    Those that the kernel gives to outgoing connections come last: whoever wants the port later, or again
    after a restart, might find it taken by one that lasts.
    """
    kept = ephemeral_ports()
    settled = [p for p in random.sample(_REGISTERED, _TRIES) if p not in kept]
    for candidate in (*((port,) if port else ()), *settled, *[0] * _TRIES):
        with contextlib.suppress(OSError):
            tcp = held.enter_context(listen_tcp(address, candidate))
            held.enter_context(bind_udp(address, port_of(tcp)))
            return port_of(tcp)
    raise OSError(errno.EADDRINUSE, f"no port of {address} is free")


def ephemeral_ports() -> range:
    """What the system takes for the near end of outgoing connections (RFC 6056 §2.1)."""
    with contextlib.suppress(OSError, ValueError):
        low, high = map(int, _EPHEMERAL.read_text().split())
        return range(low, high + 1)
    return range(49_152, 65_536)  # as IANA has it


def port_of(sock: socket.socket) -> int:
    """The port it listens on."""
    return int(sock.getsockname()[1])


def taken(port: int, option: str, error: OSError) -> AtollError:
    """Why `port` cannot be had; `option` of the command line would choose another."""
    if error.errno == errno.EACCES:
        return AtollError(
            f"port {port} needs more rights than this user has", f"choose another: {option} PORT"
        )
    if error.errno != errno.EADDRINUSE:
        return AtollError(f"port {port} cannot be used: {error.strerror}", f"choose another: {option} PORT")
    holder = _holder(port)
    by = f" by {holder}" if holder else ""
    return AtollError(f"port {port} is in use{by}", f"stop that, or choose another port: {option} PORT")


def _holder(port: int) -> str:
    """`nginx (pid 123)`, empty when the system does not say."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
