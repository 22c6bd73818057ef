"""The load generators, wrk for HTTP/1.1 and h2load for HTTP/2, and what they say about a run.

wrk runs for a time. h2load gets a number of requests per connection, below what servers allow before they
send GOAWAY (Atoll after 3,900: h2load counts what it could not send then as failed), again and again until
the time is over. A run in which a single answer was not 2xx or was lost is not a measurement: it raises.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab.histogram import Histogram
from atoll.lab.tools import Tool
from bench import machine, objects
from bench.machine import LOAD_CORE

H1_CONNECTIONS: Final = 64
H2_CONNECTIONS: Final = 32
H2_STREAMS: Final = 8
H2_REQUESTS: Final = 3_800  # on one connection
CIPHER: Final = "TLS_AES_256_GCM_SHA384"
"""The one that is offered, so that all servers choose the same."""

_OPENSSL_CONF: Final = f"""openssl_conf = settings
[settings]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Ciphersuites = {CIPHER}
"""
_TIMEOUT_S: Final = 180.0  # for h2load's number of requests at the slowest server
_UNIT_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_PATIENCE_S: Final = 10  # wrk's own 2 s are too few for a server that meets a slow disk once

# Requests are made ready once; asking is then one table look-up, so that the generator stays ahead.
_ORDER_LUA: Final = """
local requests, count, at = {}, 0, 0
function init(args)
  local made = {}
  for line in io.lines(args[1]) do
    if not made[line] then made[line] = wrk.format("GET", line) end
    count = count + 1
    requests[count] = made[line]
  end
  at = tonumber(args[2])
end
function request()
  at = at % count + 1
  return requests[at]
end
"""
_UNIQUE_LUA: Final = """
local before, after, number = "GET /o/", "", 0
function init(args)
  number = tonumber(args[1])
  after = wrk.format("GET", ""):gsub("^GET [^ ]*", "")
end
function request()
  number = number + 1
  return before .. number .. after
end
"""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk asks for: one path, the paths of a file from the `first`th on, or a new number each time."""

    path: str = objects.path(1)
    order: Path | None = None
    unique: bool = False
    first: int = 0
    headers: tuple[str, ...] = ()
    connections: int = H1_CONNECTIONS


class Load(msgspec.Struct, frozen=True):
    """What a generator counted. `p50_us` and `p99_us`: latencies of a closed loop, 0 where unknown."""

    requests: int
    duration_s: float
    cipher: str = ""
    p50_us: float = 0.0
    p99_us: float = 0.0
    read_bytes: int = 0

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.duration_s


class Sample(msgspec.Struct, frozen=True):
    """One round of one target. `cpu_us` is CPU time of the server per request, `parts` by process."""

    per_s: float
    cpu_us: float
    busy: float  # share of the core that the server used
    cipher: str = ""
    parts: tuple[float, ...] = ()
    p50_us: float = 0.0
    p99_us: float = 0.0
    request_bytes: float = 0.0  # of a response, on average, its head included
    memory_bytes: int = 0  # at the round's end
    hit_ratio: float | None = None


def _usual_size(_number: int) -> int:
    return objects.SIZE


class Meter:
    """CPU time of processes from here on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._before_s = {pid: machine.cpu_s(pid) for pid in pids}

    def sample(self, found: Load) -> Sample:
        """What they have used for a load that has just ended."""
        used_us = [(machine.cpu_s(pid) - before_s) * 1e6 for pid, before_s in self._before_s.items()]
        parts = tuple(used / found.requests for used in used_us)
        return Sample(
            found.per_s,
            sum(parts),
            sum(used_us) / 1e6 / found.duration_s,
            found.cipher,
            parts,
            p50_us=found.p50_us,
            p99_us=found.p99_us,
            request_bytes=found.read_bytes / found.requests,
            memory_bytes=machine.memory_bytes(self._before_s),
        )


def parse_wrk(text: str) -> Load:
    """wrk's summary.

    Raises:
        AtollError: not every answer was good.
    """
    counted = re.search(r"(\d+) requests in [\d.]+(?:m?s|m), ([\d.]+)([KMGT]?)B read", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    bad = re.search(r"(Socket errors:.*|Non-2xx or 3xx responses:.*)", text)
    if counted is None or rate is None or bad is not None:
        raise AtollError("wrk saw other answers than 200", hint=bad[1] if bad else text[-300:])
    requests = int(counted[1])
    if not requests:
        raise AtollError("wrk had no answer at all", hint=text[-300:])
    read = int(float(counted[2]) * 1024 ** " KMGT".index(counted[3] or " "))
    return Load(
        requests,
        requests / float(rate[1]),
        p50_us=_percentile_us(text, "50%"),
        p99_us=_percentile_us(text, "99%"),
        read_bytes=read,
    )


def _percentile_us(text: str, name: str) -> float:
    found = re.search(rf"^\s+{name}\s+([\d.]+)(us|ms|s|m)\b", text, re.MULTILINE)
    return float(found[1]) * _UNIT_S[found[2]] * 1e6 if found else 0.0


def parse_h2load(text: str) -> Load:
    """h2load's summary.

    Raises:
        AtollError: not every answer was good, or it was not HTTP/2.
    """
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", text)
    counted = re.search(r"requests: (\d+) total.* (\d+) succeeded", text)
    codes = re.search(r"status codes: (\d+) 2xx", text)
    if finished is None or counted is None or codes is None:
        raise AtollError("h2load did not finish", hint=text[-300:])
    if not counted[1] == counted[2] == codes[1] or "Application protocol: h2" not in text:
        raise AtollError("h2load saw other answers than 200", hint=text[text.find("finished") :][:300])
    cipher = re.search(r"Cipher: (\S+)", text)
    read = re.search(r"traffic: .*?\((\d+)\) total", text)
    return Load(
        int(counted[1]),
        float(finished[1]) * _UNIT_S[finished[2]],
        cipher[1] if cipher else "",
        read_bytes=int(read[1]) if read else 0,
    )


class Generators:
    """wrk and h2load, with the files they read in `folder`."""

    def __init__(self, wrk: Tool, h2load: Tool | None, folder: Path) -> None:
        self._wrk = wrk
        self._h2load = h2load
        self._folder = folder
        self._scripts = {"order": folder / "order.lua", "unique": folder / "unique.lua"}
        self._scripts["order"].write_text(_ORDER_LUA)
        self._scripts["unique"].write_text(_UNIQUE_LUA)
        self._openssl = folder / "openssl.cnf"
        self._openssl.write_text(_OPENSSL_CONF)

    def write_order(self, order: Sequence[int], name: str, size: Callable[[int], int] = _usual_size) -> Path:
        """A file of paths for wrk, one a line; `size` says how large each object is."""
        file = self._folder / f"{name}.paths"
        with file.open("w") as lines:
            lines.writelines(f"{objects.path(number, size(number))}\n" for number in order)
        return file

    def write_uris(self, order: Sequence[int], name: str, scheme: str = "https") -> Path:
        """A file of URIs for h2load; every connection walks through it from its beginning."""
        file = self._folder / f"{name}-{scheme}.uris"
        file.write_text("".join(f"{scheme}://{objects.HOST}{objects.path(number)}\n" for number in order))
        return file

    def h1(self, port: int, seconds: float, ask: Ask, tls: bool) -> Load:
        """wrk, with as many connections as `ask` says."""
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{ask.path}"
        options = [
            "-t1",
            f"-c{ask.connections}",
            f"-d{max(1, round(seconds))}s",
            f"--timeout={_PATIENCE_S}s",
            "--latency",
        ]
        options += [word for field in (f"Host: {objects.HOST}", *ask.headers) for word in ("-H", field)]
        if ask.order is not None:
            words = ["-s", str(self._scripts["order"]), url, "--", str(ask.order), str(ask.first)]
        elif ask.unique:
            words = ["-s", str(self._scripts["unique"]), url, "--", str(ask.first)]
        else:
            words = [url]
        return parse_wrk(self._run(self._wrk, [*options, *words]))

    def h2(self, port: int, seconds: float, orders: Sequence[Path]) -> Load:
        """h2load, with one file of URIs after the other, until `seconds` are over."""
        assert self._h2load is not None, "found when h2 was asked for"
        total, duration_s, read, cipher, runs = 0, 0.0, 0, "", 0
        took = Histogram()
        deadline_s = monotonic() + seconds
        while not runs or monotonic() < deadline_s:
            log = self._folder / "h2load.log"
            log.unlink(missing_ok=True)
            options = [*self._h2_options(port, orders[runs % len(orders)]), f"--log-file={log}"]
            found = parse_h2load(self._run(self._h2load, options))
            total, duration_s, cipher = total + found.requests, duration_s + found.duration_s, found.cipher
            read += found.read_bytes
            runs += 1
            for line in log.read_text().splitlines():
                took.record(int(line[line.rindex("\t") :]))
        return Load(total, duration_s, cipher, took.percentile(50), took.percentile(99), read)

    def _h2_options(self, port: int, uris: Path) -> list[str]:
        return [
            "-t1",
            f"-c{H2_CONNECTIONS}",
            f"-m{H2_STREAMS}",
            f"-n{H2_CONNECTIONS * H2_REQUESTS}",
            f"-i{uris}",
            f"--connect-to=127.0.0.1:{port}",
            f"--tls13-ciphers={CIPHER}",
        ]

    def _run(self, tool: Tool, arguments: Sequence[str]) -> str:
        log = self._folder / "load.txt"
        log.write_bytes(b"")
        env = {**tool.env, "OPENSSL_CONF": str(self._openssl)}
        process = machine.start(LOAD_CORE, [str(tool.path), *arguments], log, env)
        try:
            code = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            machine.stop(process)
            raise AtollError(f"{tool.path.name} did not end within {_TIMEOUT_S:g} s") from None
        text = log.read_text(errors="replace")
        if code:
            raise AtollError(f"{tool.path.name} failed", hint=text.strip()[-300:])
        return text
