"""A whole network and Pebble, the ACME server to test against: `python -m bench.acme`.

Orders a certificate for two names with the command as a person would, looks whether every PoP serves it,
and renews it. Pebble is built once from its Go module into the folder for tools; it finds all names on this
machine through a name server of ours and comes to the gateway, which sends it to some PoP. Prints what was
seen, as JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import msgspec

from atoll.control.certificates import ensure_authority, issue
from atoll.errors import AtollError
from atoll.lab.tools import cache_folder
from atoll.node.listeners import free_port

MODULE: Final = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"
NAMES: Final = ("www.example.com", "shop.example.com")
_BUILD_S: Final = 300.0
_START_S: Final = 20.0
_COMMAND_S: Final = 120.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the PoPs showed: serial numbers of the certificates, by PoP."""

    issued: dict[str, Any]
    served: dict[str, str]
    renewed: dict[str, Any]
    served_after: dict[str, str]


def go_tool() -> str:
    """The Go tool chain, "" where there is none."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin") or ""


def go_binary(folder: Path, title: str, module: str) -> Path:
    """The program of a Go module, built into `folder` unless it is there; `title` is what people call it.

    Raises:
        AtollError: there is no Go, or it cannot be built.
    """
    binary = folder / module.partition("@")[0].rpartition("/")[2]
    if binary.exists():
        return binary
    go = go_tool()
    if not go:
        raise AtollError(
            f"{title} is built with Go, and there is none", hint="install it: https://go.dev/dl/"
        )
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GOBIN": str(folder), "GOPATH": str(folder / "go"), "GOFLAGS": "-modcacherw"}
    done = subprocess.run(
        [go, "install", module], env=env, capture_output=True, text=True, timeout=_BUILD_S, check=False
    )
    if done.returncode:
        raise AtollError(f"{title} cannot be built: {done.stderr[-300:]}")
    return binary


def pebble_binary(folder: Path) -> Path:
    """Pebble; raises what `go_binary` raises."""
    return go_binary(folder, "Pebble", MODULE)


class Names(socketserver.ThreadingTCPServer):
    """A name server on which every name is this machine; over TCP, as Pebble asks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Question)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Question(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Questions of one connection, each behind its length (RFC 1035 §4.2.2)."""
        while size := int.from_bytes(self.rfile.read(2), "big"):
            answer = self._answer(self.rfile.read(size))
            self.wfile.write(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes) -> bytes:
        reply = dns.message.make_response(dns.message.from_wire(data), recursion_available=True)
        question = reply.question[0]
        if question.rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "127.0.0.1"))
        return reply.to_wire()


class Pebble:
    """A running Pebble whose challenges come to `http_port`."""

    def __init__(self, binary: Path, folder: Path, http_port: int) -> None:
        folder.mkdir(parents=True)
        now = dt.datetime.now(dt.UTC)
        authority = ensure_authority(folder / "own", now)
        key, _, certificate = issue(authority, "localhost", now).partition(b"-----BEGIN CERTIFICATE-----")
        (folder / "key.pem").write_bytes(key)
        (folder / "cert.pem").write_bytes(b"-----BEGIN CERTIFICATE-----" + certificate)
        self.ca = folder / "own/ca.pem"
        port, self._manage = free_port(0), free_port(0)
        self.directory = f"https://localhost:{port}/dir"
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{self._manage}",
            "certificate": str(folder / "cert.pem"),
            "privateKey": str(folder / "key.pem"),
            "httpPort": http_port,
            "tlsPort": free_port(0),
            "keyAlgorithm": "ecdsa",
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "the usual", "validityPeriod": 7_776_000}},
        }
        (folder / "config.json").write_text(json.dumps({"pebble": config}))
        argv = [str(binary), "-strict", "-config", str(folder / "config.json"), "-dnsserver", Names().address]
        env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"}
        with (folder / "pebble.log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd=folder)
        self._await(port)

    def _await(self, port: int) -> None:
        deadline_s = monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if monotonic() > deadline_s or self._process.poll() is not None:
                    raise AtollError("Pebble does not start") from None
                sleep(0.05)
            else:
                return

    def root(self) -> str:
        """The authority that it issues from, made anew at each start, PEM."""
        context = ssl.create_default_context(cafile=str(self.ca))
        where = f"https://localhost:{self._manage}/roots/0"
        with urllib.request.urlopen(where, context=context, timeout=10) as answer:
            found: bytes = answer.read()
        return found.decode()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


class Command:
    """`atoll` for one home."""

    def __init__(self, home: Path) -> None:
        self._env = {**os.environ, "ATOLL_HOME": str(home), "NO_PROXY": "localhost,127.0.0.1"}

    def ask(self, *arguments: str) -> Any:
        """What it prints with `--json`.

        Raises:
            AtollError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "atoll.cli.main", *arguments, "--json"],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        if done.returncode not in (0, 3):
            raise AtollError(f"atoll {' '.join(arguments)}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout)


@contextmanager
def network(home: Path) -> Iterator[tuple[Command, Mapping[str, Any]]]:
    """A network on ports of its own; the command, and what `up` has said."""
    command = Command(home)
    try:
        ports = ("--http-port", "0", "--https-port", "0", "--api-port", "0")
        yield command, command.ask("up", "--no-deploy", *ports)
    finally:
        command.ask("down")


def exercise(command: Command, directory: str, ca: str, root: str) -> Seen:
    """Order, look at every PoP, renew, look again.

    Raises:
        AtollError: the command failed, or a PoP serves another certificate.
    """
    more = ("--ca", ca) if ca else ()
    issued = command.ask("certs", "issue", *NAMES, "--directory", directory, "--agree-terms", *more)
    served = serials(command, root)
    (renewed,) = command.ask("certs", "renew", issued["id"])
    served_after = serials(command, root)
    for wanted, found in ((issued, served), (renewed, served_after)):
        if set(found.values()) != {wanted["serial"].lstrip("0")}:
            raise AtollError(f"issued {wanted['serial']}, served {found}")
    return Seen(issued=issued, served=served, renewed=renewed, served_after=served_after)


def serials(command: Command, root: str) -> dict[str, str]:
    """The certificate that each PoP shows for each name to a client that believes `root` alone."""
    found = {}
    for pop in command.ask("status")["pops"]:
        for name in NAMES:
            context = ssl.create_default_context(cadata=root)
            plain = socket.create_connection(("127.0.0.1", pop["https_port"]), 10)
            with context.wrap_socket(plain, server_hostname=name) as client:
                certificate = client.getpeercert() or {}
            found[f"{pop['code']} {name}"] = str(certificate["serialNumber"]).lower().lstrip("0")
    return found


def run() -> Seen:
    """All of it.

    Raises:
        AtollError: something did not go as it should.
    """
    binary = pebble_binary(cache_folder(os.environ) / "pebble")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-acme-")))
        command, report = stack.enter_context(network(folder / "home"))
        pebble = Pebble(binary, folder / "pebble", report["endpoints"]["http"])
        stack.callback(pebble.stop)
        return exercise(command, pebble.directory, str(pebble.ca), pebble.root())


def main() -> None:
    """Entry point."""
    try:
        print(msgspec.json.format(msgspec.json.encode(run())).decode())
    except AtollError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
