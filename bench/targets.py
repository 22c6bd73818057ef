"""What is measured, started the way it would be deployed on one core: Atoll's edge worker, nginx.

The other peers have modules of their own (`bench.peers` names all). They cache the same objects of the same
origin, write an access log as they do by default, keep connections open, and use the same certificate, TLS
versions, cipher order and session tickets.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Protocol

import msgspec

from atoll.config.spec import (
    FunctionRuntime,
    NetworkSpec,
    OriginSpec,
    PoolSpec,
    PopSpec,
    RouteSpec,
    SiteSpec,
    Snapshot,
)
from atoll.control.certificates import ensure_leaves
from atoll.errors import AtollError
from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from atoll.node.role import FDS_VARIABLE, READY_VARIABLE, ROLE_VARIABLE, RoleConfig
from bench import machine
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.objects import HOST

FUNCTION: Final = "ok"
POP: Final = "lhr"
CACHE_BYTES: Final = 1024 * 1024 * 1024  # more than the objects need: nobody evicts
_READY_S: Final = 15.0
_NGINX_OPEN_FILES: Final = 20_000
_NGINX_PROCESSES: Final = 2  # a worker, and who evicts
_LOOPBACK: Final = "127.0.0.1"

_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections 8192; multi_accept on; }}
http {{
  default_type text/plain;
  access_log {folder}/nginx-access.log combined buffer=64k flush=250ms;
  sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_timeout 75s; keepalive_requests 10000000;
  open_file_cache max={open_files} inactive=300s; open_file_cache_valid 300s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=objects:256m max_size={cache_bytes}
    min_free=0 manager_files=1000 manager_sleep=50ms inactive=1d use_temp_path=off;
  ssl_certificate {pem}; ssl_certificate_key {pem};
  ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
  ssl_session_cache shared:tls:10m; ssl_session_tickets on;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl http2 backlog=4096;
    listen 127.0.0.1:{h2c} http2 backlog=4096;
    server_name {host};
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_cache objects; proxy_cache_key $scheme$host$request_uri; proxy_cache_lock on;
      proxy_cache_use_stale error timeout updating; add_header X-Cache $upstream_cache_status always;
    }}
  }}
}}
"""


class Target(Protocol):
    """A running server. `lacks` says what it cannot do and why: `tls`, `h2`, `h2c`, `range`, `store`."""

    name: str
    http_port: int
    https_port: int
    h2c_port: int  # where clear HTTP/2 is spoken with prior knowledge
    lacks: Mapping[str, str]

    def pids(self) -> Sequence[int]:
        """The processes whose CPU time and memory count."""

    def stop(self) -> None:
        """End it."""


class Started:
    """A role or an origin on sockets of its own."""

    def __init__(
        self,
        core: int,
        module: str,
        log: Path,
        names: tuple[str, ...] = ("http",),
        env: Mapping[str, str] | None = None,
        also: Mapping[str, socket.socket] | None = None,
    ) -> None:
        tcp = {name: listen() for name in names}
        self.ports = {name: sock.getsockname()[1] for name, sock in tcp.items()}
        self._sockets = {**tcp, **(also or {})}
        ready, writing = os.pipe()
        fds = {name: sock.fileno() for name, sock in self._sockets.items()}
        told = {FDS_VARIABLE: json.dumps(fds), READY_VARIABLE: str(writing), **(env or {})}
        argv = [sys.executable, "-m", module]
        self.process = machine.start(core, argv, log, told, (*fds.values(), writing))
        os.close(writing)
        _await_ready(ready, module, log)

    def stop(self) -> None:
        """End it and free its ports."""
        machine.stop(self.process)
        for sock in self._sockets.values():
            sock.close()


def start_origin(folder: Path) -> Started:
    """The origin of `bench.origin`, beside the load generator."""
    return Started(LOAD_CORE, "bench.origin", folder / "origin.log")


class AtollEdge:
    """An edge worker with its full pipeline: snapshot from disk, logs and counters on."""

    name = "atoll"
    lacks: Mapping[str, str] = {}

    def __init__(
        self,
        folder: Path,
        origin_port: int,
        function_socket: str = "",
        bindings: Mapping[str, socket.socket] | None = None,
        cache_bytes: int = CACHE_BYTES,
        snapshot: Snapshot | None = None,
    ) -> None:
        snapshot = snapshot or edge_snapshot(origin_port, function_socket)
        home, run = folder / "home", folder / "run"
        data = home / "pops" / POP
        data.mkdir(parents=True)
        (run / POP).mkdir(parents=True, exist_ok=True)
        (data / "snapshot.msgpack").write_bytes(msgspec.msgpack.encode(snapshot))
        ensure_leaves(home / "ca", ["localhost", HOST], dt.datetime.now(dt.UTC))
        self.pem = home / "ca/leaf" / f"{HOST}.pem"
        config = RoleConfig(
            role="edge",
            home=str(home),
            run=str(run),
            token=str(home / "token"),
            pop=snapshot.pop,
            options={"cache_bytes": str(cache_bytes)},
        )
        env = {ROLE_VARIABLE: msgspec.json.encode(config).decode()}
        log = folder / "edge.log"
        self._started = Started(SERVER_CORE, "atoll.node.edge", log, ("http", "https"), env, bindings)
        self.http_port = self.h2c_port = self._started.ports["http"]
        self.https_port = self._started.ports["https"]

    def pids(self) -> list[int]:
        """See `Target.pids`."""
        pid = self._started.process.pid
        return [pid, *machine.children(pid, b"")]

    def stop(self) -> None:
        """See `Target.stop`."""
        self._started.stop()


def edge_snapshot(origin_port: int, function_socket: str = "") -> Snapshot:
    """One PoP, one site: its objects from a pool, or everything from a function."""
    pop = PopSpec(
        code=POP,
        index=0,
        asn=64_513,
        city="london",
        country="GB",
        continent="EU",
        lat=51.5,
        lon=-0.1,
        http_port=0,
        https_port=0,
    )
    route = RouteSpec(function=FUNCTION) if function_socket else RouteSpec(pool="origin")
    network = NetworkSpec(
        name="bench",
        prefixes=("192.0.2.0/24",),
        anycast4="192.0.2.1",
        anycast6="2001:db8:a70::1",
        pops=(pop,),
        eyeballs=(),
        origins=(OriginSpec(host="origin.example.com", url=f"http://127.0.0.1:{origin_port}"),),
        pools=(PoolSpec(name="origin", origins=("origin.example.com",)),),
        sites=(SiteSpec(name="bench", host=HOST, routes=(route,)),),
        default_site="bench",
    )
    runtime = FunctionRuntime(name=FUNCTION, version="0" * 16, socket=function_socket)
    return Snapshot(seq=1, pop=pop, network=network, functions=(runtime,) if function_socket else ())


class Nginx:
    """nginx with `proxy_cache`, one worker; its cache is on disk, which is memory here as long as it fits."""

    name = "nginx"
    lacks: Mapping[str, str] = {}

    def __init__(
        self, tool: Tool, folder: Path, origin_port: int, pem: Path, cache_bytes: int = CACHE_BYTES
    ) -> None:
        folder.mkdir()
        self.http_port, self.https_port, self.h2c_port = free_port(0), free_port(0), free_port(0)
        config = folder / "nginx.conf"
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        config.write_text(
            _NGINX.format(
                files=files,
                open_files=min(files // 2, _NGINX_OPEN_FILES),  # the rest is for connections
                folder=folder,
                pem=pem,
                origin=origin_port,
                http=self.http_port,
                https=self.https_port,
                h2c=self.h2c_port,
                cache_bytes=cache_bytes,
                host=HOST,
            )
        )
        argv = [str(tool.path), "-p", str(folder), "-e", str(folder / "nginx-start.log"), "-c", str(config)]
        if os.getuid() == 0:
            argv += ["-g", "user root;"]  # the certificate is its owner's alone
        log = folder / "nginx.log"
        self._process = machine.start(SERVER_CORE, argv, log, tool.env)
        wait_listening(self.http_port, "nginx", self._process, log)
        deadline_s = monotonic() + _READY_S
        while len(self.pids()) < _NGINX_PROCESSES and monotonic() < deadline_s:
            sleep(0.02)  # it listens before its processes are there

    def pids(self) -> list[int]:
        """See `Target.pids`: the worker and who evicts for it, not their master."""
        return [
            child
            for title in (b"nginx: worker", b"nginx: cache manager")
            for child in machine.children(self._process.pid, title)
        ]

    def stop(self) -> None:
        """See `Target.stop`."""
        machine.stop(self._process, signal.SIGTERM)


def listen() -> socket.socket:
    """A socket as a PoP's supervisor makes them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((_LOOPBACK, 0))
    sock.listen(4096)
    return sock


def _await_ready(pipe: int, what: str, log: Path) -> None:
    readable, _, _ = select.select([pipe], [], [], _READY_S)
    notified = os.read(pipe, 1) if readable else b""
    os.close(pipe)
    if not notified:
        raise AtollError(f"{what} did not start", hint=_tail(log))


def wait_listening(port: int, what: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when somebody listens on `port`.

    Raises:
        AtollError: nobody does, or the process has ended; the hint is the end of its log.
    """
    deadline_s = monotonic() + _READY_S
    while monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection((_LOOPBACK, port), timeout=1).close()
        except OSError:
            sleep(0.02)
        else:
            return
    raise AtollError(f"{what} did not start", hint=_tail(log))


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-400:]
