"""WebSockets through Atoll and its peers, judged by the Autobahn test suite.

    python -m bench.autobahn [--full] [--peers nginx,haproxy] [--json]

The suite's client speaks to an echo server: directly, and through each proxy, over HTTP/1.1 and, where the
proxy takes extended CONNECT (RFC 8441), over HTTP/2. What fails only behind a proxy is that proxy's doing.

Exit code 0 when Atoll passes all that the echo server passes by itself, else 1.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.spec import OriginSpec, RouteSpec, Snapshot
from atoll.control.certificates import ensure_leaves
from atoll.errors import AtollError
from atoll.lab import tools
from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from bench import machine, wstest
from bench.conforming import ConformingNginx
from bench.haproxy import HAProxy
from bench.machine import LOAD_CORE, Machine
from bench.targets import AtollEdge, edge_snapshot, wait_listening
from bench.wstest import Verdict

DIRECT: Final = "direct"
PEERS: Final = ("nginx", "haproxy")
_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $upgrade_or_not {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{http};
    location / {{
      proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade_or_not;
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. `direct` is the echo server without anything before it."""

    name: str = "autobahn"
    machine: Machine
    cases: tuple[str, ...]
    verdicts: dict[str, Verdict]
    left_out: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing fails through Atoll that does not fail without it."""
        alone = set(self.verdicts[DIRECT].failed)
        ours = [verdict for name, verdict in self.verdicts.items() if name.startswith("atoll")]
        return bool(ours) and all(set(verdict.failed) <= alone for verdict in ours)


class Nginx(ConformingNginx):
    """nginx as it is set up before WebSockets."""

    template = _NGINX


def snapshot(origin_port: int) -> Snapshot:
    """Atoll before an origin that speaks nothing but WebSocket; for every host."""
    whole = edge_snapshot(origin_port)
    network = whole.network
    origin = OriginSpec(host="origin.example.com", url=f"http://127.0.0.1:{origin_port}", health_path="")
    site = msgspec.structs.replace(network.sites[0], host="*", routes=(RouteSpec(pool="origin"),))
    network = msgspec.structs.replace(network, origins=(origin,), sites=(site,))
    return msgspec.structs.replace(whole, network=network)


def bridge(folder: Path, port: int, stack: ExitStack) -> int:
    """The port of a bridge to HTTP/2 on `port`."""
    listen, log = free_port(0), folder / f"bridge-{port}.log"
    argv = [sys.executable, "-m", "bench.websocket_bridge", str(port), str(listen)]
    process: subprocess.Popen[bytes] = machine.start(LOAD_CORE, argv, log)
    stack.callback(machine.stop, process)
    wait_listening(listen, "the bridge", process, log)
    return listen


def run(peers: Sequence[str], cases: Sequence[str], say: Callable[[str], None]) -> Report:
    """The suite, through everybody.

    Raises:
        AtollError: the suite is not to be had here, or Atoll does not start.
    """
    cache = tools.cache_folder(os.environ)
    suite = wstest.find(cache)
    left_out: dict[str, str] = {}
    with machine.scratch_folder() as folder, ExitStack() as stack:
        echo = wstest.EchoServer(folder)
        stack.callback(echo.stop)
        edge = AtollEdge(folder, echo.port, snapshot=snapshot(echo.port))
        stack.callback(edge.stop)
        ports = {DIRECT: echo.port, "atoll": edge.http_port, "atoll-h2": bridge(folder, edge.h2c_port, stack)}
        for name in peers:
            try:
                ports |= _peer(name, tools.find_tools((name,), cache, say)[name], folder, echo.port, stack)
            except AtollError as error:
                left_out[name] = error.message
        found: dict[str, Verdict] = {}
        for name, port in ports.items():
            say(f"{name} …")
            place = folder / f"suite-{name}"
            place.mkdir()
            found |= wstest.run(suite, place, {name: port}, cases)
    return Report(machine=machine.describe(), cases=tuple(cases), verdicts=found, left_out=left_out)


def _peer(name: str, tool: Tool, folder: Path, origin_port: int, stack: ExitStack) -> Mapping[str, int]:
    if name == "nginx":
        nginx = Nginx(tool, folder / name, origin_port)
        stack.callback(nginx.stop)
        return {name: nginx.http_port}  # it takes no extended CONNECT
    ensure_leaves(folder / "ca", ["localhost"], dt.datetime.now(dt.UTC))
    haproxy = HAProxy(tool, folder / name, origin_port, folder / "ca/leaf/localhost.pem")
    stack.callback(haproxy.stop)
    return {name: haproxy.http_port, f"{name}-h2": bridge(folder, haproxy.h2c_port, stack)}


def show(report: Report) -> None:
    """For people."""
    for name, each in report.verdicts.items():
        failed = f"   failed: {', '.join(each.failed[:12])}" if each.failed else ""
        print(f"{name:12} {each.passed:>4} / {each.total} passed, {each.strict} strictly{failed}")
    for name, why in report.left_out.items():
        print(f"{name:12} left out: {why}")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.autobahn", description="WebSockets, judged.")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also limits and compression: 517 cases, for a quarter of an hour each",
    )
    parser.add_argument("--cases", default="", help="only these, e.g. 1.*,6.2.3")
    parser.add_argument("--peers", default=",".join(PEERS), help="of nginx, haproxy; or `none`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    peers = [] if options.peers == "none" else [*filter(None, options.peers.split(","))]
    if not {*peers} <= {*PEERS}:
        parser.error(f"peers are {', '.join(PEERS)}")
    cases = ("*",) if options.full else wstest.QUICK
    if options.cases:
        cases = tuple(options.cases.split(","))
    try:
        report = run(peers, cases, lambda text: print(text, file=sys.stderr))
    except AtollError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        show(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
