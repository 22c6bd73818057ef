"""HTTP/2 of Atoll and its peers, judged by h2spec: `python -m bench.h2spec [--peers nginx,haproxy] [--json]`.

h2spec is built once from its Go module into the folder for tools. Every case is asked of the public port of a
proxy before an origin that answers everything: clear with prior knowledge, and over TLS; strict cases, too.

Exit code 0 when Atoll passes all of them but the one that a port which also speaks HTTP/1.1 cannot, else 1.
"""

from __future__ import annotations

import argparse
import http.server
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab import tools
from bench import machine, peers
from bench.acme import go_binary
from bench.autobahn import snapshot
from bench.machine import Machine
from bench.targets import AtollEdge, Target

MODULE: Final = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
PEERS: Final = ("nginx", "haproxy")
SHARED_PORT: Final = frozenset(("http2/3.5/2",))
"""An invalid preface. The clear port speaks HTTP/1.1 as well: whatever is no preface is answered in that."""

_RUN_S: Final = 600.0
_BODY: Final = b"h2spec\n" * 200


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What h2spec says of one server."""

    passed: int
    total: int
    failed: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints: verdicts by `<server>/h2c` and `<server>/h2-tls`."""

    name: str = "h2spec"
    machine: Machine
    verdicts: dict[str, Verdict]
    left_out: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether Atoll passes everything that it can."""
        ours = [verdict for name, verdict in self.verdicts.items() if name.startswith("atoll/")]
        return bool(ours) and all(set(verdict.failed) <= SHARED_PORT for verdict in ours)


def binary(folder: Path) -> Path:
    """h2spec; raises what `go_binary` raises."""
    return go_binary(folder, "h2spec", MODULE)


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The same to everything, once the body has been read."""
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(_BODY)

    do_POST = do_HEAD = do_PUT = do_OPTIONS = do_GET

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Origin(http.server.ThreadingHTTPServer):
    """Answers everything; HTTP/1.1, connections kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A proxy has closed its connection."""


def verdict(report: bytes) -> Verdict:
    """What a JUnit report of h2spec says."""
    failed, total = [], 0
    for suite in ET.fromstring(report).iter("testsuite"):
        for number, case in enumerate(suite.iter("testcase"), 1):
            total += 1
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(f"{case.get('package') or suite.get('package')}/{number}")
    return Verdict(passed=total - len(failed), total=total, failed=tuple(failed))


def ask(program: Path, folder: Path, port: int, tls: bool) -> Verdict:
    """Every case of h2spec against one port.

    Raises:
        AtollError: h2spec has not come to an end.
    """
    report = folder / f"h2spec-{port}-{'tls' if tls else 'clear'}.xml"
    argv = [str(program), "-p", str(port), "-S", "-o", "5", "-j", str(report), *(["-t", "-k"] if tls else [])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_RUN_S, check=False)
    if not report.exists():
        raise AtollError(f"h2spec has failed: {(done.stderr or done.stdout)[-300:]}")
    return verdict(report.read_bytes())


def run(names: Sequence[str], say: Callable[[str], None]) -> Report:
    """All cases, for Atoll and for every peer that can be had.

    Raises:
        AtollError: h2spec is not to be had, Atoll does not start, or a name is none of a peer.
    """
    cache = tools.cache_folder(os.environ)
    program = binary(cache / "h2spec")
    found = peers.find(names, cache, say)
    verdicts: dict[str, Verdict] = {}
    with machine.scratch_folder() as folder, ExitStack() as stack:
        origin = Origin()
        stack.callback(origin.shutdown)
        port = int(origin.server_address[1])
        edge = AtollEdge(folder, port, snapshot=snapshot(port))
        stack.callback(edge.stop)
        place = peers.Place(found.tools, folder, port, edge.pem)
        targets: list[Target] = [edge, *peers.start(names, found, place, say, stack)]
        for target in targets:
            say(f"{target.name} …")
            verdicts[f"{target.name}/h2c"] = ask(program, folder, target.h2c_port, tls=False)
            verdicts[f"{target.name}/h2-tls"] = ask(program, folder, target.https_port, tls=True)
    return Report(machine=machine.describe(), verdicts=verdicts, left_out=found.left_out)


def show(report: Report) -> None:
    """For people."""
    for name, each in report.verdicts.items():
        failed = f"   failed: {', '.join(each.failed[:10])}" if each.failed else ""
        print(f"{name:16} {each.passed:>4} / {each.total}{failed}")
    for name, why in report.left_out.items():
        print(f"{name:16} left out: {why}")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.h2spec", description="HTTP/2, judged by h2spec.")
    parser.add_argument("--peers", default=",".join(PEERS), help="of nginx, haproxy; or `none`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    names = [] if options.peers == "none" else [*filter(None, options.peers.split(","))]
    try:
        report = run(names, lambda text: print(text, file=sys.stderr))
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
